"""`python -m facetrain fpenet ...`, for torchrun's `-m facetrain fpenet train ...`."""

import sys

from .cli import FPENET, main

if __name__ == "__main__":
    if sys.argv[1:2] != ["fpenet"]:
        print("usage: python -m facetrain fpenet <verb> ...", file=sys.stderr)
        sys.exit(2)
    sys.exit(main("fpenet", FPENET, sys.argv[2:]))
