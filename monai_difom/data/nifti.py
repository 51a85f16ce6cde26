"""NIfTI volumes: how they become slices and sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from PIL import Image

from ..utils import atomic_path, look_up
from .datalists import split_validation, test_sets, train_validation, training_pairs
from .items import Item, is_volume
from .volume_grids import load_volume, volume_problems

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}


def volume_slices(image: str | Path, plane: str = "axial") -> tuple[np.ndarray, tuple[float, float]]:
    """Return the slices of a NIfTI volume as a radiologist hangs them, and the size of their pixels.

    The volume is first turned to the nearest anatomical axes, whatever its orientation. Axial and coronal slices have the
    patient's right on the left; anterior, or superior, is up.

    Args:
        image: NIfTI file of three axes.
        plane: ``"axial"``, ``"coronal"`` or ``"sagittal"``.

    Returns:
        ``(slices, rows, columns)``, from inferior to superior (posterior to anterior, left to right), and the height and width of
        a pixel in millimetres.

    Raises:
        ValueError: no such plane, or not three axes.
    """
    import nibabel

    axis = look_up("plane", plane, PLANES)
    volume = load_volume(image)
    if len(volume.shape) != 3:
        raise ValueError(f"{image} has {len(volume.shape)} axes; a volume has three.")
    volume = nibabel.as_closest_canonical(volume)  # type: ignore[attr-defined]
    values = np.moveaxis(np.asarray(volume.dataobj), axis, 0)
    across, down = (float(step) for i, step in enumerate(volume.header.get_zooms()[:3]) if i != axis)
    return values[:, ::-1, ::-1].transpose(0, 2, 1), (down, across)


def nifti_slices(
    root: Path,
    target: Path,
    plane: str = "axial",
    window: Sequence[float] | None = None,
    foreground: Sequence[int] | None = None,
) -> Mapping[str, Any]:
    """Write the slices of NIfTI volumes as grey PNG with their masks.

    Of training volumes the slices that show the structure, of test volumes all. Each item has the size of its pixels, so that
    distances are scored in millimetres, and its volume as group.

    Args:
        root: folder of volumes and masks, as in `training_pairs`.
        target: folder of the slices.
        plane: see `volume_slices`.
        window: values shown as black and white (Hounsfield units of CT); None takes quantiles of each volume
            (0.5 % and 99.5 %).
        foreground: values of the mask that are the structure; None takes all but 0.

    Returns:
        The training list, and the test list where the data set has one.

    Raises:
        ValueError: image and mask are not of one grid, or no slice shows the structure.
    """
    lists: dict[str, list[Item]] = {"training": training_pairs(root)}
    tests = [item for items in test_sets(root).values() for item in items]
    if tests:
        lists["test"] = tests
    found = {
        key: [
            piece
            for item in items
            for piece in _pieces(item, target / key, plane, window, foreground, every=key == "test")
        ]
        for key, items in lists.items()
    }
    if not found["training"]:
        raise ValueError(f"{root}: no slice shows the values {foreground or 'above 0'} of the masks.")
    return found


def _pieces(
    item: Item,
    target: Path,
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
    (values, spacing), (labels, _) = (volume_slices(item[key], plane) for key in ("image", "label"))
    low, high = window if window is not None else np.quantile(values, (0.005, 0.995))
    shown = np.isin(labels, list(foreground)) if foreground is not None else labels > 0
    group = str(item["group"])
    name = group.replace("/", "_")
    for number in range(len(values)):
        if every or shown[number].any():
            grey = np.clip((values[number] - float(low)) / max(float(high) - float(low), 1e-6), 0, 1)
            arrays = {"image": grey * 255, "label": shown[number] * 255}
            paths = {key: target / key / f"{name}_{number:03d}.png" for key in arrays}
            for key, path in paths.items():
                pixels = Image.fromarray(np.asarray(arrays[key]).round().astype(np.uint8))
                with atomic_path(path) as temporary:
                    pixels.save(temporary, format="PNG", compress_level=1)
            yield {
                **{key: str(path) for key, path in paths.items()},
                "group": group,
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
