"""Distil vision foundation models into light segmentation networks, as MONAI Bundles.

The package root imports nothing heavy: its rooms (`monai_difom.losses`, `.networks`, `.targets`, `.data`, `.engines`,
...) are imported when they are first named.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

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


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}. It holds: {', '.join(_ROOMS)}.")


def __dir__() -> list[str]:
    return [*globals(), *_ROOMS]
