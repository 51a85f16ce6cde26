"""How a folder of images is read: as the bundles know it, or as pairs from which a test set is split off."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...data.datalists import TRAIN_FOLDERS, pair_folders, test_sets, training_pairs
from ...data.folder_files import IMAGE_FOLDERS, MASK_FOLDERS
from .request import Request


@dataclass(frozen=True)
class Layout:
    """What of a data set goes into the configuration.

    Args:
        overlays: names of overlays.
        options: id -> value.
        note: one sentence on what was found.
    """

    overlays: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    note: str = ""


def find_layout(request: Request) -> Layout:
    """Find out how the images of a request are laid out.

    A data set that has test sets keeps them. From any other one 20 % of the images are split off as a test set, whole groups at a
    time and always the same.

    Raises:
        FileNotFoundError, ValueError: no images are found, or images and masks do not pair up; see `training_pairs`.
    """
    root = request.data.expanduser().resolve()
    named = (request.images, request.masks, request.suffix or None, request.group)
    if any(named):
        return _pairs(root, request.images, request.masks, request)
    found = training_pairs(root)
    tests = test_sets(root)
    if tests:
        counts = ", ".join(f"{name} {len(items)}" for name, items in tests.items())
        note = f"{_number(len(found), request)} to train on; test sets: {counts}."
        return Layout((), {"dataset_dir": str(root)}, note)
    inner = next((root / name for name in TRAIN_FOLDERS if (root / name).is_dir()), root)
    folders = pair_folders(inner) if inner.is_dir() else None
    if folders is None or any(str(item["image"]).lower().endswith((".nii", ".nii.gz")) for item in found):
        note = f"{_number(len(found), request)} to train on, and NO TEST SET: nothing will be scored."
        return Layout((), {"dataset_dir": str(root)}, note)
    return _pairs(inner, folders[0].name, folders[1].name, request)


def _number(found: int, request: Request) -> str:
    """Say how many images there are, and how many of them the training takes."""
    limit = request.limit
    if isinstance(limit, int) and 0 < limit < found:
        return f"{limit} of {found} images with their masks"
    return f"{found} images"


def _pairs(root: Path, images: str | None, masks: str | None, request: Request) -> Layout:
    names = (images or _first(root, IMAGE_FOLDERS), masks or _first(root, MASK_FOLDERS))
    options = {
        "dataset_dir": str(root),
        "images_dir": names[0],
        "masks_dir": names[1],
        "mask_suffix": request.suffix,
        "group": request.group,
    }
    note = "20 % of the images are split off as test set, always the same"
    note += ", groups kept together." if request.group else "."
    return Layout(("data/pairs",), options, note)


def _first(root: Path, names: tuple[str, ...]) -> str:
    """The folder of images or masks where only the other one was named."""
    known = {entry.name.lower(): entry.name for entry in root.iterdir() if entry.is_dir()}
    found = next((known[name] for name in names if name in known), None)
    if found is None:
        raise ValueError(
            f"{root} has no folder named {', '.join(names)}. Found: {', '.join(sorted(known.values())) or 'no folders'}. "
            "Name both: --images photos --masks annotations."
        )
    return found
