"""The commands `fpenet` and `facenet`: verb, spec file, overrides, exit codes. Nothing heavy is imported up here."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from . import __version__
from .errors import ConfigError, FacetrainError

INTERRUPTED = 130


@dataclass(frozen=True)
class Verb:
    """One thing a command does.

    Attributes:
        help: one line.
        schema: name of the spec's dataclass in `configs.<program>.schema`.
        run: does it, given the spec.
    """

    help: str
    schema: str
    run: Callable[[Any], Any]


def _imported(package: str, verb: str) -> Callable[[Any], Any]:
    """The function `verb` in the package's module of that name, imported when it is called."""

    def run(spec: Any) -> Any:
        return getattr(import_module(f".{package}.{verb}", __package__), verb)(spec)

    return run


FPENET = {
    "train": Verb("train a keypoint network", "FpenetTrainSpec", _imported("fpenet_trainer", "train")),
    "prune": Verb("cut a model's weakest filters", "FpenetPruneSpec", _imported("fpenet_trainer", "prune")),
    "evaluate": Verb("measure a model on labelled faces", "FpenetEvaluateSpec",
                     _imported("fpenet_trainer", "evaluate")),
    "infer": Verb("find the points of faces in pictures and video", "FpenetInferSpec",
                  _imported("fpenet_trainer", "infer")),
    "export": Verb("make checked ONNX graphs and engines of a model", "FpenetExportSpec",
                   _imported("fpenet_trainer", "export")),
    "benchmark": Verb("time models, graphs and engines", "FpenetBenchmarkSpec",
                      _imported("fpenet_trainer", "benchmark")),
    "check": Verb("find what is wrong with a data set", "FpenetCheckSpec", _imported("fpenet_trainer", "check")),
    "convert": Verb("write a data set as a fast store, or in another format", "FpenetConvertSpec",
                    _imported("fpenet_trainer", "convert")),
    "import-spec": Verb("make a spec of one of TAO's", "FpenetImportSpec", _imported("tao", "import_spec")),
    "import-weights": Verb("make a model file of weights of TAO's", "FpenetImportWeightsSpec",
                           _imported("fpenet_trainer", "import_weights")),
}  # fmt: skip
FACENET = {
    "train": Verb("train a face detector", "FacenetTrainSpec", _imported("facenet_trainer", "train")),
    "prune": Verb("cut a model's weakest filters", "FacenetPruneSpec", _imported("facenet_trainer", "prune")),
    "evaluate": Verb("measure a model on labelled pictures", "FacenetEvaluateSpec",
                     _imported("facenet_trainer", "evaluate")),
    "infer": Verb("find the faces in pictures and video", "FacenetInferSpec", _imported("facenet_trainer", "infer")),
    "export": Verb("make checked ONNX graphs and engines of a model", "FacenetExportSpec",
                   _imported("facenet_trainer", "export")),
    "benchmark": Verb("time models, graphs and engines", "FacenetBenchmarkSpec",
                      _imported("facenet_trainer", "benchmark")),
    "check": Verb("find what is wrong with a data set", "FacenetCheckSpec", _imported("facenet_trainer", "check")),
    "convert": Verb("write a data set as a fast store, or in another format", "FacenetConvertSpec",
                    _imported("facenet_trainer", "convert")),
    "import-spec": Verb("make a spec of one of TAO's", "FacenetImportSpec", _imported("tao", "import_spec")),
    "import-weights": Verb("make a model file of weights of TAO's", "FacenetImportWeightsSpec",
                           _imported("facenet_trainer", "import_weights")),
}  # fmt: skip
ALIASES = {"inference": "infer", "dataset_convert": "convert"}  # TAO's names


def fpenet() -> None:
    """Entry point of the command `fpenet`."""
    sys.exit(main("fpenet", FPENET, sys.argv[1:]))


def facenet() -> None:
    """Entry point of the command `facenet`."""
    sys.exit(main("facenet", FACENET, sys.argv[1:]))


def main(program: str, verbs: dict[str, Verb], arguments: Sequence[str]) -> int:
    """Runs one command line. Returns 0 when done, 1 failed, 2 usage, spec or data error, 130 interrupted."""
    try:
        code = _dispatch(program, verbs, list(arguments))
        sys.stdout.flush()
        return code
    except FacetrainError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has read enough; the interpreter's own flush at exit must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(program: str, verbs: dict[str, Verb], arguments: list[str]) -> int:
    verb = arguments.pop(0) if arguments else "--help"
    verb = ALIASES.get(verb, verb)
    if verb in ("-h", "--help", "help"):
        print(_usage(program, verbs))
        return 0
    if verb == "--version":
        print(f"{program} (facetrain {__version__})")
        return 0
    if verb == "completion":
        print(_completion(program, verbs))
        return 0
    if verb == "doctor":
        return _doctor()
    if verb == "default-spec":
        return _default_spec(program, verbs, arguments)
    if verb not in verbs:
        raise ConfigError(f"there is no verb {verb!r}; accepted: {', '.join([*verbs, *OTHER_VERBS])}")
    if "-h" in arguments or "--help" in arguments:
        print(_verb_usage(program, verb, verbs[verb]))
        return 0
    return _run(program, verbs[verb], arguments)


def _run(program: str, verb: Verb, arguments: list[str]) -> int:
    spec_file, multirun, overrides = _parse(program, arguments)
    from .configs import compose
    from .tao.spec_file import read_for_verb

    logging.basicConfig(level=logging.WARNING, format=f"{program}: %(message)s")
    kind = _spec_type(program, verb)
    if not multirun:
        verb.run(compose.load_spec(kind, overrides, spec_file, read_for_verb))
        return 0
    jobs = compose.grid(overrides)
    # A wrong one stops the grid before it begins.
    specs = [compose.load_spec(kind, job, spec_file, read_for_verb) for job in jobs]
    for i, (job, spec) in enumerate(zip(jobs, specs, strict=True)):
        spec.results_dir = str(Path(spec.results_dir) / str(i))
        print(f"{program}: run {i + 1} of {len(jobs)} in {spec.results_dir}: {' '.join(job)}", flush=True)
        verb.run(spec)
    return 0


def _spec_type(program: str, verb: Verb) -> type[Any]:
    return getattr(import_module(f".configs.{program}.schema", __package__), verb.schema)


def _parse(program: str, arguments: list[str]) -> tuple[str | None, bool, list[str]]:
    """Spec file, whether a grid is asked for, and overrides."""
    spec_file, multirun, overrides = None, False, []
    rest = iter(arguments)
    for argument in rest:
        if argument in ("-e", "--experiment_spec", "--experiment_spec_file"):
            spec_file = next(rest, None)
            if spec_file is None:
                raise ConfigError(f"{argument} needs a spec file; `{program} default-spec > spec.yaml` writes one")
        elif argument in ("-r", "--results_dir"):
            folder = next(rest, None)
            if folder is None:
                raise ConfigError(f"{argument} needs a folder")
            overrides.append("results_dir='{}'".format(folder.replace("'", "\\'")))
        elif argument in ("-k", "--key"):
            secret = next(rest, None)
            if secret is None:
                raise ConfigError(f"{argument} needs the key of an encrypted file")
            overrides.append("key='{}'".format(secret.replace("'", "\\'")))
        elif argument in ("-m", "--multirun"):
            multirun = True
        elif argument == "--fix":
            overrides.append("fix=true")
        elif argument.startswith("-"):
            raise ConfigError(
                f"there is no option {argument}; accepted: -e spec.yaml, -r folder, -m, -k key, --fix, --help, "
                "key=value"
            )
        else:
            overrides.append(argument)
    return spec_file, multirun, overrides


def _default_spec(program: str, verbs: dict[str, Verb], arguments: list[str]) -> int:
    name = ALIASES.get(arguments[0], arguments[0]) if arguments else "train"
    if name not in verbs:
        raise ConfigError(f"default-spec {name}: there is no such verb; accepted: {', '.join(verbs)}")
    from .configs import compose

    print(f"# {program} {name} -e this.yaml\n# Every key with its default. Keep the ones you change.")
    print("\n".join(compose.commented(_spec_type(program, verbs[name]))))
    return 0


def _doctor() -> int:
    from .training.doctor import doctor

    return doctor()


OTHER_VERBS = {
    "default-spec": "print a complete, commented spec of a verb: default-spec [verb], train's by default",
    "doctor": "versions, devices, what is missing and how to get it",
    "completion": 'print a completion script: eval "$(fpenet completion)"',
}


def _usage(program: str, verbs: dict[str, Verb]) -> str:
    lines = [f"usage: {program} <verb> [-e spec.yaml] [-r results_dir] [-m] [key=value ...]", "", "verbs:"]
    lines += [f"  {name:14} {verb.help}" for name, verb in verbs.items()]
    lines += [f"  {name:14} {text}" for name, text in OTHER_VERBS.items()]
    lines += [
        "",
        "options:",
        "  -e FILE       spec: a YAML of the keys that differ from the defaults",
        "  -r FOLDER     the same as results_dir=FOLDER",
        "  -k KEY        import-weights: the same as key=KEY, of an encrypted file",
        "  -m            a grid: key=a,b runs once for a and once for b, each in a folder of its own",
        "  --fix         check: also write cleaned label lists",
        "  --version, --help",
        "",
        f"`{program} <verb> --help` lists a verb's keys.",
        "Exit codes: 0 done, 1 failed, 2 usage, spec or data error, 130 interrupted.",
    ]
    return "\n".join(lines)


def _verb_usage(program: str, name: str, verb: Verb) -> str:
    from .configs import compose

    kind = _spec_type(program, verb)
    lines = [f"{program} {name}: {verb.help}", ""]
    if groups := compose.offered_groups(kind):
        lines += ["groups:", *[f"  {group}=" + "|".join(names) for group, names in groups.items()], ""]
    return "\n".join([*lines, "keys:", *compose.commented(kind, "  ")])


def _completion(program: str, verbs: dict[str, Verb]) -> str:
    """A script for bash and zsh that completes verbs, keys and groups."""
    from .configs import compose

    words = " ".join([*verbs, *OTHER_VERBS, "--help", "--version"])
    cases = [f'    {name}) words="{" ".join(compose.words(_spec_type(program, v)))} -e -r -m" ;;'
             for name, v in verbs.items()]  # fmt: skip
    cases.append(f'    default-spec) words="{" ".join(verbs)}" ;;')
    return "\n".join(
        [
            '[ -n "$ZSH_VERSION" ] && autoload -U +X bashcompinit && bashcompinit',
            f"_{program}() {{",
            '  local current="${COMP_WORDS[COMP_CWORD]}" words=""',
            '  case "$COMP_CWORD:${COMP_WORDS[1]}" in',
            f'    1:*) words="{words}" ;;',
            *[case.replace("    ", "    *:", 1) for case in cases],
            "  esac",
            '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
            '  [[ "${COMPREPLY[0]}" == *= ]] && compopt -o nospace 2>/dev/null',
            "}",
            f"COMP_WORDBREAKS=${{COMP_WORDBREAKS//=/}}; complete -o default -F _{program} {program}",
        ]
    )
