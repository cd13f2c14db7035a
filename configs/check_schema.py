"""The keys of `check` that both networks have."""

from __future__ import annotations

from dataclasses import dataclass

from .schema import key


@dataclass
class CheckConfig:
    """From where on something is suspicious."""

    alike: float = key(0.95, "pictures or faces that correlate by more are one photograph", low=0.8, high=1.0)
    pictures: int = key(24, "pictures of each kind of finding in the report, the worst first", low=0, high=256)
    workers: int = key(0, "processes that open pictures; 0: one a core", low=0, high=256)


@dataclass
class FaceCheckConfig(CheckConfig):
    """From where on something is suspicious."""

    label_noise: float = key(10.0, "two labels of one photograph that differ by more, percent of the inter-ocular "
                                   "distance", low=0.0, high=1000.0)  # fmt: skip
    out_of_place: float = key(0.14, "a point this far from where the other points and faces let expect it, share of "
                                    "the face's size", low=0.02, high=10.0)  # fmt: skip


@dataclass
class BoxCheckConfig(CheckConfig):
    """From where on something is suspicious."""

    label_noise: float = key(0.6, "two labels of one picture whose boxes overlap by less, mean IoU, or that have "
                                  "other numbers of boxes", low=0.0, high=1.0)  # fmt: skip
    max_aspect: float = key(3.0, "a box one side of which is more times the other", low=1.0, high=1000.0)
