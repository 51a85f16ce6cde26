"""What lies around the pixels of a mask, nearest first: looked up instead of computed where it is near."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

# pixels that are looked at together, which bounds the memory
TOGETHER = 1 << 15


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...]:
    """Return the slices of the smallest box around the pixels of a boolean array; empty slices where there are none.

    Args:
        mask: boolean array.
        margin: pixels to add at each side, as far as the array goes.
    """
    box, rest = [], mask
    for axis, size in enumerate(mask.shape):
        others = tuple(i for i in range(mask.ndim) if i != axis)
        places = np.flatnonzero(rest.any(axis=others))
        if not len(places):
            return (slice(0, 0),) * mask.ndim
        first, last = int(places[0]), int(places[-1]) + 1
        box.append(slice(max(first - margin, 0), min(last + margin, size)))
        rest = rest[(slice(None),) * axis + (slice(first, last),)]
    return tuple(box)


@lru_cache(maxsize=32)
def places_around(steps: tuple[float, ...], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the places nearest to a pixel, itself first, and how far they are.

    No other place is nearer than the last one. Of equally near ones the first has the smallest offset along the last axis,
    then along the one before: the order in which scipy's ``distance_transform_edt`` chooses.

    Args:
        steps: size of a pixel along each axis.
        count: at most so many.

    Returns:
        Offsets ``(axes, N)`` in pixels and their lengths ``(N,)`` in the unit of the steps.
    """
    axes = len(steps)
    ball = math.pi ** (axes / 2) / math.gamma(axes / 2 + 1)
    radius = max((count * math.prod(steps) / ball) ** (1 / axes), min(steps)) * (1 + 1e-9)
    # along one axis alone half of them lie on each side
    reach = [min(int(radius // step), count // 2) for step in steps]
    grid = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij")).reshape(axes, -1)
    distances = lengths(grid, steps)
    order = np.lexsort((*grid, distances))
    order = order[distances[order] <= radius][:count]
    return grid[:, order], distances[order]


def lengths(offsets: np.ndarray, steps: Sequence[float]) -> np.ndarray:
    """Return the Euclidean lengths ``(N,)`` of offsets ``(axes, N)`` in pixels, by the operations of scipy's transform."""
    scaled = offsets * np.asarray(steps, dtype=np.float64)[:, None]
    return np.sqrt((scaled * scaled).sum(0))


def flat_shifts(offsets: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return how far offsets ``(axes, N)`` lead in the memory of an array of this shape: ``(N,)``."""
    return np.array([math.prod(shape[axis + 1 :]) for axis in range(len(shape))]) @ offsets


def first_hits(
    places: np.ndarray, mask: np.ndarray, shifts: np.ndarray, portions: Sequence[int]
) -> np.ndarray:
    """Return for each place the number of the first shift that leads into a mask, -1 where none does.

    Args:
        places: flat indices ``(N,)``; with any shift they stay in the array.
        mask: boolean array.
        shifts: of `flat_shifts`.
        portions: the shifts are tried in portions that end at these numbers; what is found early is not looked at again.
    """
    flat, found = mask.ravel(), np.full(len(places), -1)
    for start in range(0, len(places), TOGETHER):
        waiting, begin = np.arange(start, min(start + TOGETHER, len(places))), 0
        for end in (end for end in portions if begin < len(shifts)):
            hits = flat[places[waiting][:, None] + shifts[begin:end]]
            first = hits.argmax(1)
            hit = hits[np.arange(len(waiting)), first]
            found[waiting[hit]] = begin + first[hit]
            waiting, begin = waiting[~hit], end
    return found
