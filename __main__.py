"""`python -m facetrain fpenet ...` and `... facenet ...`, for torchrun's `-m facetrain facenet train ...`."""

import sys

from .cli import FACENET, FPENET, main

PROGRAMS = {"fpenet": FPENET, "facenet": FACENET}

if __name__ == "__main__":
    program = sys.argv[1] if sys.argv[1:] else ""
    if program not in PROGRAMS:
        print(f"usage: python -m facetrain {'|'.join(PROGRAMS)} <verb> ...", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(program, PROGRAMS[program], sys.argv[2:]))
