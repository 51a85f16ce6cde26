"""Distil vision foundation models into light segmentation networks, as MONAI Bundles.

The package root imports nothing heavy: its rooms (`monai_difom.losses`, `.networks`, `.targets`, `.data`, `.engines`,
...) are imported when they are first named.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # true for type checkers: the module typing takes as long as all of the rest here
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

_ROOMS = (
    "apps",
    "data",
    "engines",
    "handlers",
    "losses",
    "metrics",
    "networks",
    "targets",
    "transforms",
    "utils",
)


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name == "train":
        return import_module(f"{__name__}.apps.train").train
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}. It holds: {', '.join((*_ROOMS, 'train'))}."
    )


def __dir__() -> list[str]:
    return [*globals(), *_ROOMS, "train"]
