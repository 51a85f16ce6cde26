"""NIfTI volumes: how they become slices and sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from PIL import Image

from ..transforms.volume_file import (
    grey_levels,
    hanging_of,
    open_volume,
    read_volume_labels,
    volume_values,
    window_of,
)
from ..utils import atomic_path
from .datalists import split_validation, test_sets, train_validation, training_pairs, validation_pairs
from .items import Item, is_volume, name_of
from .volume_grids import volume_problems


def volume_slices(image: str | Path, plane: str = "axial") -> tuple[np.ndarray, tuple[float, float]]:
    """Return the slices of a NIfTI volume as a radiologist hangs them, and the size of their pixels.

    See `monai_difom.transforms.volume_file`: the orientation of the file does not matter.

    Args:
        image: NIfTI file of three axes.
        plane: ``"axial"``, ``"coronal"`` or ``"sagittal"``.

    Returns:
        ``(slices, rows, columns)``, from inferior to superior (posterior to anterior, left to right), and the height and width of
        a pixel in millimetres.

    Raises:
        ValueError: no such plane, or what `open_volume` refuses.
    """
    volume = open_volume(image)
    hanging = hanging_of(volume, plane)
    return hanging.slices(volume_values(volume, image)), hanging.pixel(volume.header.get_zooms())


def nifti_slices(
    root: Path,
    target: Path,
    plane: str = "axial",
    window: Sequence[float] | None = None,
    foreground: Sequence[int] | None = None,
    test_fraction: float = 0.2,
) -> Mapping[str, Any]:
    """Write the slices of NIfTI volumes as grey PNG with their masks.

    Of training (and validation) volumes the slices that show the structure, of test volumes all. Each item has the size of its
    pixels, so that distances are scored in millimetres, and its volume's group.

    Args:
        root: folder of volumes and masks, as in `training_pairs`.
        target: folder of the slices.
        plane: see `volume_slices`.
        window: values shown as black and white (Hounsfield units of CT); None takes quantiles of each volume
            (0.5 % and 99.5 %).
        foreground: values of the mask that are the structure; None takes all but 0.
        test_fraction: share of the volumes that make the test set where the data set has none of its own.

    Returns:
        The training and test lists, and the validation list where the data set has one.

    Raises:
        ValueError: image and mask are not of one grid, or no slice shows the structure.
    """
    volumes: dict[str, list[Item]] = {"training": training_pairs(root), "validation": validation_pairs(root)}
    tests = test_sets(root)
    if not tests:  # before slices are left out: a test volume keeps its empty ones
        volumes["training"], tests["test"] = split_validation(volumes["training"], test_fraction, seed=0)
    names = _different_names([item for items in (*volumes.values(), *tests.values()) for item in items])

    def pieces(items: Sequence[Item], part: str, every: bool) -> list[Item]:
        return [
            piece
            for item in items
            for piece in _pieces(item, target / part, names[item["image"]], plane, window, foreground, every)
        ]

    found: dict[str, Any] = {part: pieces(items, part, False) for part, items in volumes.items() if items}
    if not found["training"]:
        raise ValueError(f"{root}: no slice shows the values {foreground or 'above 0'} of the masks.")
    sets = {
        name: pieces(items, f"test/{name}" if len(tests) > 1 else "test", True)
        for name, items in tests.items()
    }
    return {**found, "test": sets["test"] if list(sets) == ["test"] else sets}


def _different_names(items: Sequence[Item]) -> dict[str, str]:
    """Image -> a name for its slices, no two alike: volumes of one patient share a group, and ``a/b`` could become ``a_b``."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for image in dict.fromkeys(str(item["image"]) for item in items):
        stem = name = name_of(Path(image))
        number = 2
        while name.lower() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.lower())
        names[image] = name
    return names


def _pieces(
    item: Item,
    target: Path,
    name: str,
    plane: str,
    window: Sequence[float] | None,
    foreground: Sequence[int] | None,
    every: bool,
) -> Iterable[Item]:
    if not (is_volume(item["image"]) and is_volume(item["label"])):
        raise ValueError(f"{item['image']} and {item['label']} must both be NIfTI (.nii, .nii.gz).")
    problems = volume_problems(item)
    if problems:
        raise ValueError(problems[0])
    values, spacing = volume_slices(item["image"], plane)
    labels = hanging_of(open_volume(item["label"]), plane).slices(
        read_volume_labels(item["label"]).reshape((*open_volume(item["label"]).shape, 1)[:3])
    )
    levels = window_of(values, window)
    shown = np.isin(labels, list(foreground)) if foreground is not None else labels > 0
    for number in range(len(values)):
        if every or shown[number].any():
            arrays = {
                "image": grey_levels(values[number], levels),
                "label": shown[number].astype(np.uint8) * np.uint8(255),
            }
            paths = {key: target / key / f"{name}_{number:03d}.png" for key in arrays}
            for key, path in paths.items():
                with atomic_path(path) as temporary:
                    Image.fromarray(arrays[key]).save(temporary, format="PNG", compress_level=1)
            yield {
                **{key: str(path) for key, path in paths.items()},
                "group": str(item["group"]),
                "spacing": list(spacing),
            }


def voxel_size(volume: torch.Tensor) -> tuple[float, ...]:
    """Return the size (millimetres) of a voxel along each axis of the array of a loaded volume, whatever its orientation.

    Args:
        volume: ``(C, X, Y, Z)`` with an affine.
    """
    affine = np.asarray(volume.affine, float) if isinstance(volume, MetaTensor) else np.eye(4)
    return tuple(float(np.linalg.norm(affine[:3, axis])) for axis in range(3))


def volume_sets(
    dataset_dir: str | Path,
    test_fraction: float = 0.2,
    val_fraction: float = 0.1,
    seed: int = 0,
    limit: int | None = None,
) -> tuple[list[Item], list[Item], dict[str, list[Item]]]:
    """Return training, validation and test volumes of a data set, no group in two of them.

    Args:
        dataset_dir: as in `training_pairs`.
        test_fraction: share of the volumes for the test set where the data set has none of its own, the same whatever the seed.
        val_fraction: share of the rest for validation; unused where a datalist names the list.
        seed: seed of the validation split.
        limit: use only the first training and validation volumes.

    Returns:
        ``(train, validation, {"test": items})``.

    Raises:
        ValueError: files that are no NIfTI; see `split_validation` and `train_validation`.
    """
    tests = test_sets(dataset_dir)
    train, validation = train_validation(dataset_dir, val_fraction, seed)
    if not tests:
        known = training_pairs(dataset_dir)
        named = not {item["image"] for item in validation} <= {item["image"] for item in known}
        rest, held_out = split_validation(known, test_fraction, seed=0)
        tests = {"test": held_out}
        train, validation = (rest, validation) if named else split_validation(rest, val_fraction, seed)
    strange = [item["image"] for item in [*train, *validation] if not is_volume(item["image"])]
    if strange:
        raise ValueError(
            f"{dataset_dir}: {len(strange)} image(s) are no NIfTI ({strange[0]}). Allowed are .nii and .nii.gz; pictures need no "
            "configs/data/nifti_volumes.yaml."
        )
    return train[:limit], validation[:limit], tests
