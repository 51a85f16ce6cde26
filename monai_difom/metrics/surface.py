"""HD95 and normalised surface Dice of one binary prediction, in pixels or millimetres."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree

from .neighbours import bounding_box, first_hits, flat_shifts, lengths, places_around

QUANTILE = 0.95
# so many places around an edge pixel, from the nearest on, are looked at before a tree is asked: in portions up to these
# the last one in volumes only
PLACES = (9, 32, 96, 200)


def mask_edge(mask: np.ndarray, margin: Sequence[int] | None = None) -> np.ndarray:
    """Return the pixels of a boolean mask that have a neighbour outside it across a face.

    What lies beyond the image counts as outside, so that a mask cut by the border has an edge there. The result is
    MONAI's and scipy's ``binary_erosion(mask) ^ mask``.

    Args:
        mask: boolean array.
        margin: pixels without edge to add at both ends of each axis, at least 1; None adds none.
    """
    wide = [1] * mask.ndim if margin is None else list(margin)
    inside = tuple(slice(n, n + size) for n, size in zip(wide, mask.shape, strict=True))
    padded = np.zeros([size + 2 * n for n, size in zip(wide, mask.shape, strict=True)], bool)
    padded[inside] = mask
    # along one axis of memory: the margin keeps rows and planes apart
    flat = padded.ravel()
    inner = flat.copy()
    for axis in range(mask.ndim):
        step = math.prod(padded.shape[axis + 1 :])
        inner[step:] &= flat[:-step]
        inner[:-step] &= flat[step:]
    np.not_equal(flat, inner, out=flat)
    return padded[inside] if margin is None else padded


def _places_around(steps: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    return places_around(steps, PLACES[-1 if len(steps) > 2 else -2])


def _percentile(distances: np.ndarray) -> float:
    """The 95th percentile, between two ranks in proportion: ``np.quantile`` without its checks, which take longer."""
    rank = QUANTILE * (len(distances) - 1)
    ends = [math.floor(rank), math.ceil(rank)]
    low, high = np.partition(distances, ends)[ends]
    return float(low + (high - low) * (rank - ends[0]))


def _within(distances: np.ndarray, tolerance: float) -> np.ndarray:
    """Where distances are at most the tolerance, in single precision as in MONAI: 3 x 0.1 mm are within 0.3 mm."""
    return distances.astype(np.float32) <= np.float32(tolerance)


def _distances(
    places: np.ndarray, edge: np.ndarray, targets: np.ndarray, steps: tuple[float, ...], tolerance: float
) -> np.ndarray:
    """Distance of each place to the nearest pixel of an edge, with the right 95th percentile and share within the tolerance.

    Where neither depends on the distances of the farthest places, these get a lower bound that is beyond both.

    Args:
        places: flat indices into ``edge``.
        edge: boolean array with a margin as wide as the places around reach.
        targets: flat indices of its pixels.
        steps: size of a pixel along each axis.
        tolerance: distance of the surface Dice.
    """
    around, near = _places_around(steps)
    which = first_hits(places, edge, flat_shifts(around, edge.shape), PLACES)
    found, far = near[which], np.flatnonzero(which < 0)
    # far ones have the last length for now, which is a lower bound
    upper_rank = math.floor(QUANTILE * (len(places) - 1)) + 1
    decides = upper_rank >= len(places) - len(far) or _within(near[-1:], tolerance).any()
    if len(far) and decides:
        points, there = (np.array(np.unravel_index(at, edge.shape)) for at in (places[far], targets))
        scale = np.asarray(steps, dtype=np.float64)
        # a tree over the edge takes less than a distance transform of the image, in any unit
        tree = KDTree(there.T * scale, leafsize=32, balanced_tree=False)
        found[far] = lengths(points - there[:, tree.query(points.T * scale)[1]], steps)
    return found


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
        ValueError: the spacing has not one positive number per axis, or the tolerance is negative.
    """
    # NIfTI headers give arrays of float32
    steps = (1.0,) * mask.ndim if spacing is None else tuple(float(step) for step in spacing)
    if len(steps) != mask.ndim or not all(step > 0 and math.isfinite(step) for step in steps):
        raise ValueError(
            f"spacing is {list(steps)}; allowed is one positive number per axis, here {mask.ndim}."
        )
    if not tolerance >= 0:
        raise ValueError(f"tolerance is {tolerance}; allowed is a distance from 0.")
    empty = [not array.any() for array in (prediction, mask)]
    if all(empty):
        return {"hd95": 0.0, "nsd": 1.0, "undefined_hd95": 0.0}
    if any(empty):
        diagonal = math.sqrt(sum((n * step) ** 2 for n, step in zip(mask.shape, steps, strict=True)))
        return {"hd95": diagonal, "nsd": 0.0, "undefined_hd95": 1.0}
    # exact on the crop: outside the box there is no pixel of either, and beyond the crop counts as outside
    box = bounding_box(prediction | mask)
    reach = np.maximum(_places_around(steps)[0].max(1), 1).tolist()
    edges = [mask_edge(array[box], reach) for array in (prediction, mask)]
    found, true = (np.flatnonzero(edge) for edge in edges)
    there = _distances(found, edges[1], true, steps, tolerance)
    back = _distances(true, edges[0], found, steps, tolerance)
    close = sum(int(np.count_nonzero(_within(side, tolerance))) for side in (there, back))
    return {
        "hd95": max(_percentile(there), _percentile(back)),
        "nsd": close / (len(there) + len(back)),
        "undefined_hd95": 0.0,
    }
