"""The verb `import-spec`: one of TAO's specs as a commented YAML of ours."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from ..configs import compose
from ..configs.import_schema import ImportSpecConfig
from ..errors import ConfigError
from .account import Conversion
from .spec_file import convert_spec, read_text


def import_spec(spec: ImportSpecConfig) -> Conversion:
    """Writes, or prints, what the spec comes to; the YAML is one that its verb takes.

    Raises ConfigError with file, line and key for what TAO would not take either, and for what is not here.
    """
    if not spec.spec:
        raise ConfigError("spec is empty; give the file of a TAO spec: spec=experiment_spec.yaml")
    program = compose.group_home(type(spec)).name
    output = Path(spec.output)
    if spec.output and output.exists() and not spec.overwrite:
        raise ConfigError(f"output={spec.output} is there already: choose another name, or overwrite=true")
    conversion = convert_spec(read_text(spec.spec), spec.spec, program, spec.compat)
    _check(conversion)
    if not spec.output:
        print(conversion.yaml(), end="")
        return conversion
    from ..training.model_file import write_atomic

    write_atomic(output, conversion.yaml().encode())
    print("\n".join([*conversion.summary(), f"spec: {output}"]))
    return conversion


def spec_schema(program: str, verb: str) -> type[Any]:
    """The dataclass of a verb's spec."""
    module = import_module(f"...configs.{program}.schema", __name__)
    schema: type[Any] = getattr(module, f"{program.capitalize()}{verb.capitalize()}Spec")
    return schema


def _check(conversion: Conversion) -> None:
    """Has the values checked as the verb itself does."""
    schema = spec_schema(conversion.program, conversion.verb)
    try:
        compose.load_content(schema, conversion.nested())
    except ConfigError as error:
        raise ConfigError(f"{conversion.file}: {_origin(conversion, str(error))}{error}") from None


def _origin(conversion: Conversion, message: str) -> str:
    """TAO's key and line behind a message about one of our keys."""
    key = message.split("=")[0].split(":")[0].split("[")[0]
    for entry in conversion.entries:
        if entry.key == key and entry.given:
            return f"line {entry.given.line}, {entry.given.key}: "
    return ""
