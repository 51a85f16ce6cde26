"""An item of a data set: a dict that says where its image and its mask are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Item = dict[str, Any]
NIFTI_SUFFIXES = (".nii", ".nii.gz")


def name_of(file: Path) -> str:
    """Return a file's name without its extension; NIfTI has one or two."""
    name = file.name
    return name[: -len(".nii.gz")] if name.lower().endswith(".nii.gz") else file.stem


def by_image(items: Sequence[Item]) -> list[Item]:
    """Return items sorted by the path of their image."""
    return sorted(items, key=lambda item: item["image"])


def is_volume(path: str | Path) -> bool:
    """Return whether a file is NIfTI, by its name."""
    return str(path).lower().endswith(NIFTI_SUFFIXES)
