"""The user's spec files: YAML as people mean it, or what another program's file comes to."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError

Convert = Callable[[str, str, type, str, str], dict[str, Any] | None]  # text, file, schema, command, compat


def group_home(schema: type) -> Path:
    """The folder of a schema's YAML groups: that of the file which defines it."""
    return Path(inspect.getfile(schema)).parent


def read_spec_file(
    path: str | None, schema: type, compat: str, convert: Convert | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The content of a user's spec and the groups that it chooses."""
    if path is None:
        return {}, {}
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        if convert and (converted := convert(text, path, schema, group_home(schema).name, compat)) is not None:
            return converted, {}
        content = yaml.load(text, SpecLoader) or {}
    except OSError as error:
        raise ConfigError(f"cannot read the spec {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text; a spec is YAML") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a spec is a mapping of keys; `fpenet default-spec` prints one")
    defaults = content.pop("defaults", [])
    if not all(isinstance(item, dict) and len(item) == 1 for item in defaults):
        raise ConfigError(f"{path}: defaults is a list of `group: name`, such as `- data: pts_300w`")
    return content, {group: str(name) for item in defaults for group, name in item.items()}


class SpecLoader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as a word and `off` as false; people who write specs mean a number and a word."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the base class has it so)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


SpecLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?([eE][-+]?\d+)$|^[-+]?\.inf$|^\.nan$"),
    list("-+0123456789."),
)


SpecLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))
