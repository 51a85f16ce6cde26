"""Are a volume and its mask in the same place? All files before training, and each pair while it is loaded."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..transforms.volume_file import open_volume, read_volume_labels, volume_values

_NEAR = 1e-2  # millimetres by which the corners of two grids may differ: headers hold float32


def grid_distance(first: Any, second: Any, shape: Sequence[int]) -> float:
    """Return how far apart (millimetres) two affines put a corner of an array, at most.

    Args:
        first: ``(4, 4)``, voxel to world.
        second: another.
        shape: three sides of the array.
    """
    corners = np.array(
        [[x, y, z, 1] for x in (0, shape[0]) for y in (0, shape[1]) for z in (0, shape[2])], float
    )
    apart = corners @ (np.asarray(first, float) - np.asarray(second, float)).T
    return float(np.linalg.norm(apart[:, :3], axis=1).max())


class CheckVolumesd(MapTransform):
    """Refuse an image and a mask of different size or place while they are loaded, before anything moves them.

    Args:
        image_key: key of the image, ``(C, X, Y, Z)`` with its affine.
        label_key: key of the mask; passed over where absent.

    Raises:
        ValueError: no volume, other sizes, grids whose corners lie apart, or labels that are no whole numbers; names the files.
    """

    def __init__(self, image_key: str = "image", label_key: str = "label") -> None:
        super().__init__([image_key, label_key], allow_missing_keys=True)
        self.image_key, self.label_key = image_key, label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the item, unchanged; see the class for what is refused."""
        image, label = data[self.image_key], data.get(self.label_key)
        if image.ndim != 4:
            raise ValueError(
                f"{_name(image)} is {tuple(image.shape)} with its channels first; a volume has three axes behind them. "
                "Split a series of volumes into one file each."
            )
        if label is not None:
            problem = _apart(image.shape[1:], label.shape[1:], image.affine, label.affine)
            if problem:
                raise ValueError(f"{_name(label)} does not belong to {_name(image)}: {problem}")
            values = np.asarray(label)
            if values.min() < 0 or np.abs(values - np.round(values)).max() > 1e-3:
                raise ValueError(
                    f"{_name(label)} holds values below 0 or between whole numbers; a label holds whole numbers from 0. Resample "
                    "masks with the nearest neighbour, and put a threshold on probabilities before."
                )
        return dict(data)


def _apart(size: Sequence[int], other: Sequence[int], affine: Any, second: Any) -> str | None:
    """What is wrong with a mask's grid, in words."""
    if tuple(size) != tuple(other):
        sizes = ("x".join(str(int(n)) for n in each) for each in (other, size))
        return "the mask is {} and its image {} voxels. Export the mask on the grid of its image.".format(
            *sizes
        )
    distance = grid_distance(affine, second, size)
    if distance > _NEAR:
        return (
            f"their grids lie up to {distance:.2f} mm apart, so that equal indices are other places in the body. Resample the "
            "mask onto its image, or correct the header (sform, qform) of one."
        )
    return None


def _name(x: Any) -> str:
    return str(x.meta.get("filename_or_obj", "the volume")) if isinstance(x, MetaTensor) else "the volume"


def volume_problems(item: Mapping[str, Any]) -> list[str]:
    """Read a NIfTI image and its mask completely, and return what is wrong with them."""
    problems, found = [], []
    try:
        found.append(open_volume(item["image"]))
        volume_values(found[0], item["image"])
    except ValueError as error:
        problems.append(str(error))
    if item.get("label") is not None:
        try:
            found.append(open_volume(item["label"]))
            read_volume_labels(item["label"])
        except ValueError as error:
            problems.append(str(error))
    if len(found) == 2 and not problems:
        problem = _apart(found[0].shape, found[1].shape, found[0].affine, found[1].affine)
        if problem:
            problems.append(f"{item['label']} and {item['image']}: {problem}")
    return problems
