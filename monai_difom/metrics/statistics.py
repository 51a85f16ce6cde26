"""How sure a mean over images is, and whether one set of runs beats another on the same images.

Intervals are percentile intervals of a bootstrap. Images are drawn with replacement; frames of one video sequence resemble
each other, so whole sequences are drawn where they are known (cluster bootstrap). Several runs (seeds) are drawn as well,
independently of the images (Owen, "The pigeonhole bootstrap", 2007, which errs to the wide side).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import bdtr

LEVEL, DRAWS = 0.95, 4000


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Args:
        mean: mean over images and runs.
        low: lower end of the interval; NaN where there are fewer than two independent units.
        high: upper end.
        images: images that counted.
        units: independent units that were drawn: sequences, or images.
        runs: runs that were averaged.
    """

    mean: float
    low: float
    high: float
    images: int
    units: int
    runs: int


@dataclass(frozen=True)
class Comparison:
    """What changes from runs A to runs B on the same images.

    Args:
        a: mean of A.
        b: mean of B.
        difference: B - A.
        better: images on which B is better than A, each averaged over its side's runs.
        worse: images on which it is worse.
        same: images without a difference.
        p_value: two-sided sign test over independent units, ties left out; 1 when nothing differs.
        order: indices of the images from the largest loss to the largest gain.
    """

    a: Estimate
    b: Estimate
    difference: Estimate
    better: int
    worse: int
    same: int
    p_value: float
    order: tuple[int, ...]

    def verdict(self, higher_is_better: bool = True) -> str:
        """Return "better", "worse" or "neither surely better nor worse", by the interval of the difference."""
        sign = 1 if higher_is_better else -1
        ends = sorted((sign * self.difference.low, sign * self.difference.high))
        return "better" if ends[0] > 0 else "worse" if ends[1] < 0 else "neither surely better nor worse"


def bootstrap_mean(
    values: np.ndarray | Sequence,
    groups: Sequence[str] | None = None,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """Return the mean of scores with its interval.

    Args:
        values: scores ``(images,)``, or ``(runs, images)``; an image with a NaN is left out of all runs.
        groups: one name per image; images of one name are drawn together. None: every image is its own unit.
        level: coverage of the interval, in (0, 1).
        draws: number of bootstrap samples.
        seed: seed of the draws.

    Raises:
        ValueError: no finite score, or groups of another length.
    """
    scores = np.atleast_2d(np.asarray(values, dtype=float))
    kept = np.isfinite(scores).all(0)
    codes = _codes(groups, kept)
    return _estimate(
        scores[:, kept].mean(), _drawn(scores[:, kept], codes, draws, seed, 1), scores, codes, level
    )


def compare_paired(
    a: np.ndarray | Sequence,
    b: np.ndarray | Sequence,
    groups: Sequence[str] | None = None,
    higher_is_better: bool = True,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compare two runs, or two groups of runs, on the same images.

    Args:
        a: scores of the runs to compare with, ``(images,)`` or ``(runs, images)``.
        b: scores of the other runs, same images in the same order; their number of runs may differ.
        groups: see `bootstrap_mean`.
        higher_is_better: False for errors and distances.
        level: see `bootstrap_mean`.
        draws: see `bootstrap_mean`.
        seed: see `bootstrap_mean`.

    Raises:
        ValueError: the numbers of images differ, or no image has a finite score in all runs.
    """
    first, second = (np.atleast_2d(np.asarray(side, dtype=float)) for side in (a, b))
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{first.shape[1]} and {second.shape[1]} images: a paired comparison needs the same ones."
        )
    kept = np.isfinite(first).all(0) & np.isfinite(second).all(0)
    codes = _codes(groups, kept)
    first, second = first[:, kept], second[:, kept]
    # both sides see the same images in every draw, and their own runs
    samples = [_drawn(side, codes, draws, seed, 1 + i) for i, side in enumerate((first, second))]
    change = second.mean(0) - first.mean(0)
    gain = change if higher_is_better else -change
    sizes = np.bincount(codes)
    by_unit = np.bincount(codes, gain) / sizes
    up, down = int((by_unit > 0).sum()), int((by_unit < 0).sum())
    both = np.concatenate([first, second])
    return Comparison(
        a=_estimate(first.mean(), samples[0], first, codes, level),
        b=_estimate(second.mean(), samples[1], second, codes, level),
        difference=_estimate(change.mean(), samples[1] - samples[0], both, codes, level),
        better=int((gain > 0).sum()),
        worse=int((gain < 0).sum()),
        same=int((gain == 0).sum()),
        p_value=_sign_test(up, down),
        order=tuple(int(i) for i in np.flatnonzero(kept)[np.argsort(gain, kind="stable")]),
    )


def _sign_test(up: int, down: int) -> float:
    """Two-sided p-value of so many units up and down where both are as likely; 1 without any."""
    return min(1.0, 2 * float(bdtr(min(up, down), up + down, 0.5))) if up + down else 1.0


def _codes(groups: Sequence[str] | None, kept: np.ndarray) -> np.ndarray:
    """Number of the unit of every kept image."""
    if not kept.any():
        raise ValueError("no image has a finite score in every run: there is nothing to average.")
    if groups is None:
        return np.arange(kept.sum())
    if len(groups) != len(kept):
        raise ValueError(f"{len(groups)} group names for {len(kept)} images; one name per image is needed.")
    return np.unique(np.asarray(groups, dtype=str)[kept], return_inverse=True)[1].ravel()


@lru_cache(maxsize=32)
def _weights(units: int, draws: int, seed: int) -> np.ndarray:
    """How often each unit is in each draw, ``(draws, units)``."""
    counts = np.random.default_rng(seed).multinomial(units, [1 / units] * units, size=draws)
    return counts.astype(np.float32)


def _drawn(scores: np.ndarray, codes: np.ndarray, draws: int, seed: int, side: int) -> np.ndarray:
    """Means of the bootstrap samples, ``(draws,)``."""
    weights = _weights(int(codes.max()) + 1, draws, seed)
    sums = np.stack([np.bincount(codes, run) for run in scores])
    means = (weights @ sums.T) / (weights @ np.bincount(codes))[:, None]
    runs = len(scores)
    if runs == 1:
        return means[:, 0]
    return (means * _weights(runs, draws, seed + side)).sum(1) / runs


def _estimate(
    mean: float, sample: np.ndarray, scores: np.ndarray, codes: np.ndarray, level: float
) -> Estimate:
    units = int(codes.max()) + 1
    low, high = np.quantile(sample, [(1 - level) / 2, (1 + level) / 2]) if units > 1 else (np.nan, np.nan)
    return Estimate(float(mean), float(low), float(high), len(codes), units, len(scores))
