"""Specs: schema, then YAML groups, then the user's file, then `key=value`. Imports Hydra, never torch."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from ..errors import ConfigError
from .compat import tao_defaults
from .spec_yaml import Convert, group_home, read_spec_file

Spec = TypeVar("Spec")
Section = TypeVar("Section")


def load_spec(
    schema: type[Spec], overrides: Sequence[str], spec_file: str | None = None, convert: Convert | None = None
) -> Spec:
    """The spec that a command line describes, checked against `schema`.

    Args:
        schema: dataclass of the verb.
        overrides: Hydra's `key=value` and `group=name`, such as `data=pts_300w train.epochs=60`.
        spec_file: a YAML file merged over the defaults and under the overrides. Its `defaults` list, if it has one,
            chooses groups: `defaults: [{data: pts_300w}]`.
        convert: makes a spec's content of a file that is another program's.

    `compat=tao`, there or here, changes the defaults under all of these.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a wrong type, or a value out of its range.
    """
    parsed = parse_overrides(overrides)
    compat = next((str(o.value()) for o in reversed(parsed) if o.key_or_group == "compat"), "")
    from_file, file_groups = read_spec_file(spec_file, schema, compat, convert)
    for override in parsed:
        if override.is_sweep_override():
            raise ConfigError(f"{override.input_line!r} lists several values: -m runs each, quotes make them one")
    home = group_home(schema)
    groups = {**file_groups, **{o.key_or_group: str(o.value()) for o in parsed if _is_group(home, o.key_or_group)}}
    config = _compose(schema, groups, compat or str(from_file.get("compat", "")))
    _forget_mappings(config, from_file, schema())
    _merge(config, from_file, schema, f"{spec_file}: ")
    for override in parsed:
        if not _is_group(home, override.key_or_group):
            if isinstance(override.value(), dict):
                _forget_mappings(config, _nested(override.key_or_group, override.value()), schema())
            _merge(config, _nested(override.key_or_group, override.value()), schema, "")
    return _checked(config, schema)


def load_content(schema: type[Spec], content: dict[str, Any]) -> Spec:
    """The spec that nested keys and values describe, as the content of a spec file would; see `load_spec`."""
    config = _compose(schema, {}, str(content.get("compat", "")))
    _forget_mappings(config, content, schema())
    _merge(config, content, schema, "")
    return _checked(config, schema)


def _checked(config: Any, schema: type[Spec]) -> Spec:
    try:
        spec = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise ConfigError(_first_line(error)) from None
    assert isinstance(spec, schema)
    _check_ranges(spec, "")
    return spec


def changed(section: Section, changes: dict[str, Any], name: str) -> Section:
    """A copy of a spec's section with some keys changed, checked as `load_spec` does.

    Args:
        changes: new values by key.
        name: of the section, for messages.
    """
    config = OmegaConf.structured(section)
    _merge(config, changes, type(section), f"{name}: ")
    try:
        result = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{name}: {_first_line(error)}") from None
    assert isinstance(result, type(section))
    _check_ranges(result, f"{name}.")
    return result


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Hydra's overrides, parsed. Raises ConfigError on one that is none."""
    parsed = []
    for text in overrides:
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException as error:
            reason = _first_line(error.__cause__ or error)
            raise ConfigError(
                f"{text!r} is not key=value ({reason}); quote values that hold spaces or commas"
            ) from None
        if override.is_delete() or override.is_add():
            raise ConfigError(f"{text!r}: write key=value; keys are neither added nor removed")
        parsed.append(override)
    return parsed


def grid(overrides: Sequence[str]) -> list[list[str]]:
    """Every combination of the overrides' sweeps (`lr=1e-3,3e-3`, `range(1,4)`), one list of overrides each."""
    combinations: list[list[str]] = [[]]
    for override in parse_overrides(overrides):
        key = override.get_key_element()
        choices = list(override.sweep_string_iterator()) if override.is_sweep_override() else [None]
        texts = [override.input_line if choice is None else f"{key}={choice}" for choice in choices]
        combinations = [[*done, str(text)] for done in combinations for text in texts]
    return combinations


def commented(schema: type, indent: str = "") -> Iterator[str]:
    """A complete spec in YAML: every key with its default, meaning and accepted values."""
    hints = get_type_hints(schema)
    shown: set[Any] = set()
    for item in fields(schema):
        kind = hints[item.name]
        if is_dataclass(kind) and isinstance(kind, type):
            yield f"{indent}{item.name}:  # {(kind.__doc__ or '').splitlines()[0]}"
            yield from commented(kind, indent + "  ")
            continue
        default = item.default_factory() if callable(item.default_factory) else item.default
        value = yaml.safe_dump(default, default_flow_style=True, width=1000).removesuffix("...\n").strip()
        yield f"{indent}{item.name}: {value}  # {item.metadata['help']}{_accepted(item.metadata)}"
        if get_args(kind) and is_dataclass(get_args(kind)[-1]) and kind not in shown:
            shown.add(kind)
            yield f"{indent}  # each one:"
            yield from (f"{indent}  # {line}" for line in commented(get_args(kind)[-1]))


def offered_groups(schema: type) -> dict[str, list[str]]:
    """The YAML groups that fit a verb, and the names in each: those of its own sections, and of training all."""
    hints = get_type_hints(schema)
    names: dict[str, list[str]] = {}
    for path in sorted(group_home(schema).glob("*/*.yaml")):
        if path.parent.name in hints or "train" in hints:
            names.setdefault(path.parent.name, []).append(path.stem)
    return names


def words(schema: type) -> list[str]:
    """What shells complete: `group=name` for every group that fits, and `key=` for every key that holds a value."""
    groups = [f"{group}={name}" for group, names in offered_groups(schema).items() for name in names]
    keys = list(_all_keys(schema))
    return groups + [f"{key}=" for key in keys if not any(other.startswith(key + ".") for other in keys)]


def to_plain(spec: Any) -> dict[str, Any]:
    """The spec as plain dicts, lists and values, as files keep it."""
    plain = OmegaConf.to_container(OmegaConf.structured(spec))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _compose(schema: type, groups: dict[str, str], compat: str) -> Any:
    """The schema's defaults, with TAO's where `compat` asks for them, and the chosen YAML groups."""
    home = group_home(schema)
    for group, name in groups.items():
        choices = sorted(p.stem for p in (home / group).glob("*.yaml"))
        if name not in choices:
            raise ConfigError(f"{group}={name}: there is no such {group}{_nearest(name, choices)}")
    config = OmegaConf.structured(schema)
    for key, value in (tao_defaults(schema) if compat == "tao" else {}).items():
        _merge(config, _nested(key, value), schema, "compat=tao: ")
    if not groups:
        return config
    # An experiment is a recipe: what is chosen beside it goes over it, in whatever order it was typed.
    names = sorted(groups, key=lambda group: group != "experiment")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(home), version_base="1.3"):
        try:
            content = OmegaConf.to_container(compose(None, [f"+{group}={groups[group]}" for group in names]))
        except HydraException as error:
            raise ConfigError(_explain(error.__cause__ or error, schema, "")) from None
    assert isinstance(content, dict)
    hints = get_type_hints(schema)
    # Data groups also say how many points to train. A verb whose `model` is a file takes only the data from them.
    fitting = {
        str(key): value
        for key, value in content.items()
        if not isinstance(value, dict) or key not in hints or is_dataclass(hints[key])
    }
    _merge(config, fitting, schema, " ".join(f"{group}={name}" for group, name in groups.items()) + ": ")
    return config


def _is_group(home: Path, name: str) -> bool:
    return "." not in name and (home / name).is_dir() and not name.startswith("_")


def _nested(dotted: str, value: Any) -> dict[str, Any]:
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value


def _merge(config: Any, content: dict[str, Any], schema: type, where: str) -> None:
    if unset := OmegaConf.missing_keys(OmegaConf.create(content)):  # merging would pass over them
        raise ConfigError(f"{where}{min(unset)} is ???, which stands for a value that is yet to be given")
    try:
        config.merge_with(content)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise ConfigError(where + _explain(error, schema, next(iter(content), ""))) from None


def _forget_mappings(config: Any, content: dict[str, Any], defaults: Any) -> None:
    """Empties mappings that still are as the schema has them where the content gives one: merging would add to them,
    and a target class that nobody asked for would stay."""
    for item in fields(defaults):
        given, default = content.get(item.name), getattr(defaults, item.name)
        if not isinstance(given, dict):
            continue
        if is_dataclass(default):
            _forget_mappings(config[item.name], given, default)
        elif isinstance(default, dict) and default and config[item.name] == default:
            config[item.name] = {}


def _explain(error: BaseException, schema: type, top: str) -> str:
    """One line: the key and the nearest known one, or what its value must be."""
    key = getattr(error, "full_key", None) or top
    owner, name = getattr(error, "object_type", None), str(getattr(error, "key", ""))
    if isinstance(error, (ConfigKeyError, ConfigAttributeError)) and is_dataclass(owner):
        elsewhere = [path for path in _all_keys(schema) if path.rsplit(".", 1)[-1] == name]
        siblings = list(get_type_hints(owner))
        return f"unknown key {key!r}" + (f"; did you mean {elsewhere[0]}?" if elsewhere else _nearest(name, siblings))
    return f"{key}: {_first_line(error)}"


def _all_keys(schema: Any, prefix: str = "") -> Iterator[str]:
    for name, kind in get_type_hints(schema).items():
        yield prefix + name
        if is_dataclass(kind):
            yield from _all_keys(kind, f"{prefix}{name}.")


def _nearest(name: str, choices: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return (
        f"; did you mean {close[0]}? Accepted: {', '.join(choices)}" if close else f"; accepted: {', '.join(choices)}"
    )


def _check_ranges(spec: Any, prefix: str) -> None:
    for item in fields(spec):
        value, name = getattr(spec, item.name), prefix + item.name
        if is_dataclass(value):
            _check_ranges(value, name + ".")
            continue
        for i, element in enumerate(value if isinstance(value, list) else []):
            if is_dataclass(element):
                _check_ranges(element, f"{name}[{i}].")
        low, high, choices = (item.metadata.get(limit) for limit in ("low", "high", "choices"))
        wrong = choices is not None and value not in choices
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            wrong |= (
                not math.isfinite(value) or (low is not None and value < low) or (high is not None and value > high)
            )
        if wrong:
            raise ConfigError(f"{name}={value} is not accepted{_accepted(item.metadata)}")


def _accepted(metadata: Any) -> str:
    """The accepted values in words, for messages and comments."""
    low, high, choices = metadata["low"], metadata["high"], metadata["choices"]
    if choices:
        return f" [{' | '.join(choices)}]"
    if low is not None and high is not None:
        return f" [{low:g} to {high:g}]"
    if low is not None:
        return f" [at least {low:g}]"
    return ""


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
