"""DetectNet_v2's keys for TensorBoard, Weights & Biases and ClearML, and ours."""

from __future__ import annotations

from .rules import Rule, nothing, to, whole


def visualizer_rules(block: str) -> dict[str, Rule]:
    """The rules of a visualizer section."""
    often = nothing("train.log_every counts steps, for all that is logged", check=whole(0))
    clearml = nothing("ClearML is not offered; track.wandb and track.tensorboard are")
    return {
        f"{block}enabled": to("track.tensorboard"),
        f"{block}num_images": to("track.pictures", check=whole(0)),
        f"{block}scalar_logging_frequency": often,
        f"{block}infrequent_logging_frequency": often,
        f"{block}target_class_config[].coverage_threshold": nothing("pictures show boxes, by clustering's thresholds"),
        **wandb_rules(f"{block}wandb_config.", nothing("W&B's own settings do this, see its documentation")),
        **{f"{block}clearml_config{name}": clearml
           for name in ("", ".project", ".task", ".tags[]", ".reuse_last_task_id", ".continue_last_task",
                        ".deferred_init")},
    }  # fmt: skip


def wandb_rules(block: str, other: Rule, *, offered: bool = True) -> dict[str, Rule]:
    """The rules of a W&B section; `offered` where our verb has one."""
    keys = {"enabled": "wandb", "project": "project", "entity": "entity", "name": "run_name"}
    modes = {"ONLINE": "online", "OFFLINE": "offline"}
    known = {name: to(f"track.{ours}") for name, ours in keys.items()}
    known["mode"] = to("track.wandb_mode", make=modes.get, note="DISABLED is track.wandb=false")
    secret = nothing("W&B's key belongs into WANDB_API_KEY or `wandb login`, not into a file")
    return {
        block.removesuffix("."): other,
        **{f"{block}{name}": rule if offered else other for name, rule in known.items()},
        f"{block}key": secret,
        **{f"{block}{name}": other for name in ("reinit", "tags[]", "wandb_dir", "notes")},
    }
