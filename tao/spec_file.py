"""Spec files that may be TAO's: which they are, and what they come to for a verb of ours."""

from __future__ import annotations

import os
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from ..errors import ConfigError
from .account import WEIGHTS_NOTE, Conversion, nested


def recognise(text: str) -> str:
    """Whose spec of TAO's a text is: "fpenet", "facenet", or neither: ""."""
    from .yaml_format import looks_like_tao_yaml

    if looks_like_tao_yaml(text):
        return "fpenet"
    if not re.search(r"^\s*\w+\s*:?\s*[{<]", text, re.MULTILINE):
        return ""
    from .text_format import looks_like_text_format  # protobuf takes a moment

    return "facenet" if looks_like_text_format(text) else ""


def convert_spec(text: str, file: str, program: str, compat: str) -> Conversion:
    """One of TAO's specs for our command `program`.

    Raises ConfigError: it is the other network's, or something in it is wrong, with file and line.
    """
    found = recognise(text)
    if not found:
        raise ConfigError(
            f"{file} is no spec of TAO's: FPENet's are YAML with __class_name__ keys (or sets, for dataset_convert), "
            "DetectNet_v2's are protobuf's text, such as model_config { num_layers: 18 }"
        )
    if found != program:
        raise ConfigError(f"{file} is a spec of {found}'s network: use `{found}` in the place of `{program}`")
    if found == "fpenet":
        from .fpenet_spec import convert_fpenet

        return convert_fpenet(text, file, compat)
    from .detectnet_spec import convert_detectnet

    return convert_detectnet(text, file, compat)


def read_for_verb(text: str, file: str, schema: type, program: str, compat: str) -> dict[str, Any] | None:
    """The content of a spec file for a verb where the file is TAO's, else None. Says what it read.

    TAO's verbs share specs, so `schema` takes what it has keys for. `train` also learns where it came from, and verbs
    that measure take the validation part, as TAO's `evaluate` does.
    """
    if not recognise(text):
        return None
    names = {item.name for item in fields(schema)}
    if "spec" in names:  # import-spec itself
        return {"spec": file}
    conversion = convert_spec(text, file, program, compat)
    if "imported_from" in names and conversion.verb != "train":
        raise ConfigError(f"{file} is a spec of TAO's inference: `{program} {conversion.verb} -e {file}` takes it")
    taken, left_out = for_schema(conversion.values, schema)
    if os.environ.get("RANK", "0") == "0":
        unused = [f"  not for this verb: {', '.join(left_out)}"] if left_out else []
        print("\n".join([*conversion.summary(), *unused, *_first(conversion)]), flush=True)
    if "imported_from" in names:
        taken["imported_from"] = str(Path(file).absolute())
    if "split" in names and "data.val" in conversion.values and "data.test" not in conversion.values:
        taken["split"] = "val"
    return taken


def _first(conversion: Conversion) -> list[str]:
    """How to make the model file that a spec goes on from, where it is not there yet."""
    verb = f"{conversion.program} import-weights"
    return [
        f"  first: {verb} weights={entry.given.value} results_dir={Path(entry.value).parent}"
        for entry in conversion.entries
        if entry.note == WEIGHTS_NOTE and entry.given and entry.value != entry.given.value
        if not Path(entry.value).exists()
    ]


def import_files(file: str, program: str, compat: str) -> dict[str, bytes]:
    """What a run keeps of the spec that it was made from, by name: TAO's file, ours with the account, and the account.

    Nothing where the spec is gone: a run may be repeated from its config.yaml, which names it.
    """
    if not Path(file).exists():
        return {}
    text = read_text(file)
    conversion = convert_spec(text, file, program, compat)
    for entry in conversion.entries:
        if entry.given and entry.given.key.endswith("wandb_config.key") and entry.given.value:
            # One that is put together of several strings is not found as it is: then nothing of the file is kept.
            text = text.replace(entry.given.value, "(not shown)") if entry.given.value in text else ""
    kept = {f"tao_spec{Path(file).suffix}": text, "imported_spec.yaml": conversion.yaml()}
    return {name: content.encode() for name, content in (kept | {"imported_spec.json": conversion.table()}).items()}


def read_text(file: str) -> str:
    """The text of a spec file. Raises ConfigError where it cannot be read."""
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"cannot read the spec {file}: {reason}") from None


def for_schema(values: dict[str, Any], schema: type) -> tuple[dict[str, Any], list[str]]:
    """The values that a verb has keys for, nested, and the keys that it lacks.

    Verbs that take a model know its input as `input_size`, and change its clustering key by key.
    """
    taken: dict[str, Any] = {}
    left_out = []
    for key, value in values.items():
        for name in (key, key.replace("input.", "input_size.", 1) if key.startswith("input.") else key):
            if _has(schema, name):
                taken[name] = value
                break
        else:
            left_out.append(key)
    return nested(taken), left_out


def _has(schema: Any, key: str) -> bool:
    """Whether a dotted key is one of the schema's values, or lies inside a mapping of it."""
    name, _, rest = key.partition(".")
    kind = get_type_hints(schema).get(name)
    if is_dataclass(kind):
        return bool(rest) and _has(kind, rest)
    return kind is not None and (not rest or get_origin(kind) is dict)
