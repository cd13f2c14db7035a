"""FPENet's specs, in YAML: every value with the line that it stands on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from ..errors import ConfigError
from .values import Given

MOST_VALUES = 10000  # aliases of aliases would make billions of few lines
CLASS_NAME = "__class_name__"


def looks_like_tao_yaml(text: str) -> bool:
    """Whether a file is one of FPENet's: its sections name their classes, or it lists the sets of a conversion."""
    return bool(
        re.search(rf"^\s*{CLASS_NAME}\s*:", text, re.MULTILINE)
        or (re.search(r"^sets\s*:", text, re.MULTILINE) and re.search(r"^gt_(root_)?path\s*:", text, re.MULTILINE))
    )


def read_yaml_spec(text: str, file: str) -> list[Given]:
    """The values of the file in their order; a path joins the keys with dots. A list is one value.

    Raises ConfigError with file and line where it is no mapping, or has one key twice.
    """
    try:
        root = yaml.compose(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else file
        raise ConfigError(f"{where}: this is not YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{file}: a spec is a mapping of keys")
    found: list[Given] = []
    for given in _values(root, "", file, 0):
        found.append(given)
        if len(found) > MOST_VALUES:
            raise ConfigError(f"{file}:{given.line}: more than {MOST_VALUES} values; this is no spec of TAO's")
    return found


class _Loader(yaml.SafeLoader):
    """1e-3 is a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _values(node: yaml.MappingNode, prefix: str, file: str, depth: int) -> Iterator[Given]:
    seen: set[str] = set()
    for name_node, value_node in node.value:
        line = name_node.start_mark.line + 1
        name = str(name_node.value)
        if name in seen:
            raise ConfigError(f"{file}:{line}: {prefix}{name} is there twice; keep one")
        seen.add(name)
        if depth > 20:
            raise ConfigError(f"{file}:{line}: {prefix}{name} is nested too deeply for a spec")
        if isinstance(value_node, yaml.MappingNode) and value_node.value:
            yield from _values(value_node, f"{prefix}{name}.", file, depth + 1)
        else:
            yield Given(prefix + name, _constructed(value_node, file, line), line)


def _constructed(node: yaml.Node, file: str, line: int) -> Any:
    if isinstance(node, yaml.SequenceNode) and any(not isinstance(item, yaml.ScalarNode) for item in node.value):
        raise ConfigError(f"{file}:{line}: a list of lists or sections is no value of TAO's specs")
    loader = _Loader("")
    try:
        return loader.construct_object(node, deep=True)
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}:{line}: {getattr(error, 'problem', error)}") from None
    finally:
        loader.dispose()
