"""HD95 and normalised surface Dice of one binary prediction, in pixels or millimetres."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree


def mask_edge(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a boolean mask that have a neighbour outside it across a face.

    What lies beyond the image counts as outside, so that a mask cut by the border has an edge there. The result is
    MONAI's and scipy's ``binary_erosion(mask) ^ mask``.
    """
    inner = mask.copy()
    for axis in range(mask.ndim):
        ahead, behind = [slice(None)] * mask.ndim, [slice(None)] * mask.ndim
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        inner[tuple(behind)] &= mask[tuple(ahead)]
        inner[tuple(ahead)] &= mask[tuple(behind)]
        for end in (0, -1):
            border = [slice(None)] * mask.ndim
            border[axis] = end  # type: ignore[call-overload]
            inner[tuple(border)] = False
    return mask & ~inner


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...]:
    """Return the slices of the smallest box around the pixels of a boolean array; empty slices where there are none.

    Args:
        mask: boolean array.
        margin: pixels to add at each side, as far as the array goes.
    """
    box = []
    for axis, size in enumerate(mask.shape):
        others = tuple(i for i in range(mask.ndim) if i != axis)
        places = np.flatnonzero(mask.any(axis=others))
        if not len(places):
            return (slice(0, 0),) * mask.ndim
        box.append(slice(max(int(places[0]) - margin, 0), min(int(places[-1]) + 1 + margin, size)))
    return tuple(box)


def _edge_points(mask: np.ndarray, steps: Sequence[float]) -> np.ndarray:
    """Coordinates ``(N, axes)`` of the edge in units of the spacing.

    Exact on the crop: outside the bounding box there is no pixel of the mask, and beyond the crop counts as outside.
    """
    box = bounding_box(mask)
    points = np.stack(np.nonzero(mask_edge(mask[box])), 1) + [side.start for side in box]
    return points * np.asarray(steps, dtype=np.float64)


def surface_scores(
    prediction: np.ndarray, mask: np.ndarray, spacing: Sequence[float] | None = None, tolerance: float = 2.0
) -> dict[str, float]:
    """Return the distances between the edges of a binary prediction and of its mask.

    Distances are Euclidean, from the centre of each edge pixel to the nearest centre of the other edge, as in MONAI's
    ``compute_hausdorff_distance`` and ``compute_surface_dice`` (without subvoxels). Conventions: two empty masks
    agree (HD95 0, NSD 1); where only one is empty, NSD is 0 and HD95, which is not defined, is the diagonal of the
    image, and ``undefined_hd95`` is 1.

    Args:
        prediction: boolean array, ``(H, W)`` or ``(D, H, W)``.
        mask: boolean array of the same shape.
        spacing: size of a pixel along each axis (millimetres); None measures in pixels.
        tolerance: distance up to which an edge pixel counts as found by ``nsd``, in the unit of the spacing.

    Returns:
        ``hd95`` (95th percentile of the distances, the larger of the two directions), ``nsd`` in [0, 1] and
        ``undefined_hd95`` (0 or 1).

    Raises:
        ValueError: the spacing has not one positive number an axis, or the tolerance is negative.
    """
    # NIfTI headers give arrays of float32
    steps = [1.0] * mask.ndim if spacing is None else [float(step) for step in spacing]
    if len(steps) != mask.ndim or not all(step > 0 and math.isfinite(step) for step in steps):
        raise ValueError(f"spacing is {steps}; allowed is one positive number an axis, here {mask.ndim}.")
    if not tolerance >= 0:
        raise ValueError(f"tolerance is {tolerance}; allowed is a distance from 0.")
    empty = [not array.any() for array in (prediction, mask)]
    if all(empty):
        return {"hd95": 0.0, "nsd": 1.0, "undefined_hd95": 0.0}
    if any(empty):
        diagonal = math.sqrt(sum((n * step) ** 2 for n, step in zip(mask.shape, steps, strict=True)))
        return {"hd95": diagonal, "nsd": 0.0, "undefined_hd95": 1.0}
    found, true = (_edge_points(array, steps) for array in (prediction, mask))
    # a tree over the few edge pixels takes less than a distance transform of the image, in any unit
    there = KDTree(true, leafsize=32).query(found)[0]
    back = KDTree(found, leafsize=32).query(true)[0]
    close = np.count_nonzero(there <= tolerance) + np.count_nonzero(back <= tolerance)
    return {
        "hd95": float(max(np.quantile(there, 0.95), np.quantile(back, 0.95))),
        "nsd": close / (len(there) + len(back)),
        "undefined_hd95": 0.0,
    }
