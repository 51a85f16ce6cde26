"""The scores that salient object detection and polyp papers give to grey-level maps.

A map of 8 bits has 256 levels. All scores here but the weighted F-measure depend on it only through how many pixels of
each level lie in the mask and outside it, so one count of them per quadrant of the image replaces passes over the
pixels. They equal PySODMetrics (https://github.com/lartpang/PySODMetrics), which the tests compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from .neighbours import bounding_box, first_hits, flat_shifts, places_around

EPS = np.spacing(1)
# OpenCV's histograms are in single precision, whose whole numbers end here
MOST = 1 << 24
LEVELS = np.arange(256) / 255
# the 7 x 7 Gaussian of the weighted F-measure, sigma 5, is the product of two of these
KERNEL = np.exp(-(np.arange(-3, 4) ** 2) / 50)
KERNEL /= KERNEL.sum()
# the corners of that window are 3 * sqrt(2) away: a pixel of the mask as near lies at one of 61 places, up to four along an axis
CORNER, REACH, PLACES = 4.25, 4, (9, 25, 61)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep OpenCV to the thread that calls it, where several score images at once: its own would take their cores."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def to_levels(prediction: np.ndarray) -> np.ndarray:
    """Return a map as 8-bit levels.

    Args:
        prediction: boolean; uint8; uint16, scaled by 255/65535; or floats in [0, 1], scaled by 255. The last two are
            rounded to the nearest level.

    Raises:
        ValueError: other types; floats outside [0, 1] or not finite.
    """
    if prediction.dtype == np.uint8:
        return prediction
    if prediction.dtype == bool:
        return prediction.astype(np.uint8) * np.uint8(255)
    if prediction.dtype == np.uint16:
        return ((prediction.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if not np.issubdtype(prediction.dtype, np.floating):
        raise ValueError(
            f"the map holds {prediction.dtype}; allowed are bool, uint8, uint16 and floats in [0, 1]."
        )
    if prediction.size and not (prediction.min() >= 0 and prediction.max() <= 1):
        raise ValueError(
            f"the map holds floats from {prediction.min():g} to {prediction.max():g}; allowed is [0, 1]. "
            "Apply a sigmoid to logits, divide grey levels by their maximum."
        )
    return np.rint(prediction * 255).astype(np.uint8)


class GreyMap:
    """One map beside its mask, counted once, with the scores that follow from the counts.

    The map is min-max normalised first, as PraNet's evaluation and PySODMetrics do; a constant map, which has no
    range, keeps its levels. Only the mean absolute error is taken of the map as it is.

    Args:
        levels: 8-bit map ``(H, W)``, see `to_levels`.
        mask: boolean array of the same shape.
    """

    def __init__(self, levels: np.ndarray, mask: np.ndarray) -> None:
        self.levels, self.mask = (np.ascontiguousarray(array) for array in (levels, mask))
        self.counts = self._count()
        self.outside, self.inside = self.counts.sum(0)
        used = np.flatnonzero(self.inside + self.outside)
        low, high = LEVELS[used[0]], LEVELS[used[-1]]
        # the same operations in the same order as PySODMetrics, so that no level rounds another way
        values = (LEVELS - low) / (high - low) if high > low else LEVELS
        self.values = np.clip(values, 0, 1)
        self.foreground, self.size = int(self.inside.sum()), levels.size

    def _count(self) -> np.ndarray:
        """Pixels by quadrant, mask and level ``(4, 2, 256)``; the quadrants meet at the centre of the mask."""
        whole = self.mask.view(np.uint8)
        rows, columns = (cv2.reduce(whole, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() for axis in (1, 0))
        total, (height, width) = int(rows.sum()), self.mask.shape
        # one pixel further: the centre belongs to the upper left quadrant, as in the first implementation (MATLAB)
        if total:
            y, x = (int(np.round(np.arange(len(n)) @ n / total)) + 1 for n in (rows, columns))
        else:
            y, x = int(np.round(height / 2)) + 1, int(np.round(width / 2)) + 1
        self.quadrants = tuple(
            (v, h) for v in (slice(0, y), slice(y, None)) for h in (slice(0, x), slice(x, None))
        )
        return np.stack([_counted(self.levels[place], whole[place]) for place in self.quadrants])

    def _above(self, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of the mask, and outside it, from each threshold 255, 254, ..., 0 upwards."""
        inside, outside = (np.bincount(levels, weights=n, minlength=256) for n in (self.inside, self.outside))
        return np.cumsum(inside[::-1]), np.cumsum(outside[::-1])

    def mean_absolute_error(self) -> float:
        """Return the mean of ``|map - mask|``, the map in [0, 1] and not normalised."""
        return float((self.outside @ LEVELS + self.inside @ (1 - LEVELS)) / self.size)

    def threshold_means(self) -> tuple[float, float]:
        """Return Dice and IoU averaged over the thresholds 0 to 255, PraNet's ``meanDic`` and ``meanIoU``.

        At a threshold t the prediction is where the normalised level, rounded, is t or more. An empty prediction of an
        empty mask counts 1.
        """
        both, wrong = self._above(np.rint(self.values * 255).astype(np.int64))
        sizes, union = both + wrong + self.foreground, wrong + self.foreground
        dice = np.divide(2 * both, sizes, out=np.ones(256), where=sizes > 0)
        iou = np.divide(both, union, out=np.ones(256), where=union > 0)
        return float(dice.mean()), float(iou.mean())

    def alignment_curve(self) -> np.ndarray:
        """Return the E-measure (Fan et al., IJCAI 2018) at the thresholds 255, 254, ..., 0: ``(256,)``."""
        # truncated, not rounded, as PySODMetrics does
        both, wrong = self._above((self.values * 255).astype(np.uint8).astype(np.int64))
        found = both + wrong
        if self.foreground in (0, self.size):
            return (found if self.foreground else self.size - found) / (self.size - 1 + EPS)
        p, m = found / self.size, self.foreground / self.size
        missed = self.foreground - both
        parts = (
            (both, 1 - p, 1 - m),
            (wrong, 1 - p, -m),
            (missed, -p, 1 - m),
            (self.size - found - missed, -p, -m),
        )
        total = np.zeros(256)
        for pixels, a, b in parts:
            total += pixels * (2 * a * b / (a**2 + b**2 + EPS) + 1) ** 2 / 4
        return total / (self.size - 1 + EPS)

    def structure_measure(self) -> float:
        """Return the S-measure (Fan et al., ICCV 2017) with equal weights of objects and regions."""
        if self.foreground in (0, self.size):
            mean = (self.inside + self.outside) @ self.values / self.size
            return float(mean if self.foreground else 1 - mean)
        share = self.foreground / self.size
        objects = share * _object(self.inside, self.values)
        objects += (1 - share) * _object(self.outside, 1 - self.values)
        regions = sum(self._region(i) * self.counts[i].sum() / self.size for i in range(4))
        return float(max(0.0, 0.5 * objects + 0.5 * regions))

    def _region(self, number: int) -> float:
        """Structural similarity of map and mask in one quadrant."""
        outside, inside = self.counts[number]
        pixels, true = inside + outside, int(inside.sum())
        n = int(pixels.sum())
        if not n:
            return 0.0
        used = np.flatnonzero(pixels)
        if len(used) == 1 and 0 < self.values[used[0]] < 1:
            # of a constant the variance is 0 but for rounding, on which the outcome hangs: let the reference decide
            from py_sod_metrics import Smeasure

            quadrant = self.quadrants[number]
            return float(Smeasure().ssim(self.values[self.levels][quadrant], self.mask[quadrant]))
        x, y = pixels @ self.values / n, true / n
        d = self.values - x
        spread = (pixels @ d**2 + true * (1 - y) ** 2 + (n - true) * y**2) / (n - 1 + EPS)
        joint = (inside @ d * (1 - y) - outside @ d * y) / (n - 1 + EPS)
        above, below = 4 * x * y * joint, (x**2 + y**2) * spread
        return float(above / (below + EPS)) if above else float(below == 0)

    def weighted_f(self) -> float:
        """Return the weighted F-measure (Margolin et al., CVPR 2014), beta 1.

        Of an empty mask it is not defined: NaN here, 0 in PySODMetrics; `map_scores` has a convention for it.

        The distance transform runs on a crop, which changes nothing: outside the mask an error counts with the
        distance of its pixel, and where the map is 0 the error is 0; within the mask errors are smoothed by a window
        of 7 x 7, which reaches three pixels out of it, where the error is that of the nearest pixel of the mask.
        """
        if not self.foreground:
            return float("nan")
        wrong = (self.levels > int(np.flatnonzero(self.values == 0)[-1])) & ~self.mask
        near, box = bounding_box(self.mask, margin=3), bounding_box(self.mask | wrong)
        box = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(box, near, strict=True))
        distance = cv2.distanceTransform((~self.mask[box]).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        within = self.mask[near]
        errors = cv2.LUT(self.levels[near], 1 - self.values) * within
        place = tuple(slice(n.start - b.start, n.stop - b.start) for n, b in zip(near, box, strict=True))
        smooth = _continued(errors, within, distance[place])
        smooth = cv2.sepFilter2D(smooth, -1, KERNEL, KERNEL, borderType=cv2.BORDER_CONSTANT)
        lost = float(np.minimum(errors, smooth).sum())
        recall = 1 - lost / self.foreground
        right = self.foreground - lost
        places = np.flatnonzero(wrong[box])
        added = _added(self.values[self.levels[box].ravel()[places]], distance.ravel()[places])
        precision = right / (right + added + EPS)
        return float(2 * recall * precision / (recall + precision + EPS))


def _counted(levels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Pixels of each level outside the mask and inside ``(2, 256)``."""
    counts, rows = np.zeros((256, 2), np.int64), MOST // max(1, levels.shape[1])
    for start in range(0, len(levels) if levels.size else 0, rows):
        part = slice(start, start + rows)
        counts += cv2.calcHist([levels[part], mask[part]], [0, 1], None, [256, 2], [0, 256, 0, 2]).astype(
            np.int64
        )
    return counts.T


def _continued(errors: np.ndarray, mask: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Errors within a mask, and around it those of the nearest pixel of the mask: the one that scipy's transform chooses."""
    out, width = errors.copy(), mask.shape[1]
    ring = np.flatnonzero((distance > 0) & (distance < CORNER))
    padded = np.pad(mask, REACH)
    around, _ = places_around((1.0, 1.0), PLACES[-1])
    rows, columns = np.divmod(ring, width)
    places = (rows + REACH) * padded.shape[1] + columns + REACH
    nearest = first_hits(places, padded, flat_shifts(around, padded.shape), PLACES)
    out.ravel()[ring] = errors.ravel()[ring + flat_shifts(around, mask.shape)[nearest]]
    return out


def _added(errors: np.ndarray, distance: np.ndarray) -> float:
    """Sum of errors outside the mask, each weighted from 1 at its edge to 2 far away."""
    # squares of distances are whole numbers, which undoes the rounding of single precision
    far = np.sqrt(np.rint(np.square(distance, dtype=np.float64)))
    return float(errors @ (2 - np.exp(np.log(0.5) / 5 * far)))


def _object(pixels: np.ndarray, values: np.ndarray) -> float:
    """Likeness of the levels of an object to 1; sample deviation, 0 of a single pixel."""
    n = int(pixels.sum())
    mean = pixels @ values / n
    deviation = np.sqrt(pixels @ (values - mean) ** 2 / (n - 1)) if n > 1 else 0.0
    return float(2 * mean / (mean**2 + 1 + deviation + EPS))
