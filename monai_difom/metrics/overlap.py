"""Dice, IoU and HD95 of one binary prediction."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance


def image_scores(
    prediction: np.ndarray, mask: np.ndarray, spacing: Sequence[float] | None = None
) -> dict[str, float]:
    """Score one binary prediction against its mask.

    Conventions: an empty prediction of an empty mask is right (Dice and IoU 1, HD95 0). Where only one of the
    two is empty, Dice and IoU are 0 and HD95, which is not defined, is the diagonal of the image.

    Args:
        prediction: boolean array, ``(H, W)`` or ``(D, H, W)``.
        mask: boolean array of the same shape.
        spacing: size of a pixel along each axis (millimetres); HD95 is in pixels without it.

    Returns:
        ``dice`` and ``iou`` in [0, 1], ``hd95`` (95th percentile of the surface distances, the larger of the
        two directions), ``empty_mask`` and ``undefined_hd95`` (0 or 1).

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != mask.shape:
        raise ValueError(f"prediction {prediction.shape} and mask {mask.shape} differ in size.")
    p, m = prediction.astype(bool), mask.astype(bool)
    # an array has no truth value, and NIfTI headers give float32
    steps = None if spacing is None else [float(step) for step in spacing]
    sizes, both = int(p.sum()) + int(m.sum()), int((p & m).sum())
    scores = {
        "dice": 2 * both / sizes if sizes else 1.0,
        "iou": both / (sizes - both) if sizes else 1.0,
        "empty_mask": float(not m.any()),
        "undefined_hd95": 0.0,
    }
    if p.any() and m.any():
        pair = [torch.from_numpy(array)[None, None] for array in (p, m)]
        with warnings.catch_warnings():
            # MONAI warns of a change of its own inner defaults at every call
            warnings.simplefilter("ignore", FutureWarning)
            distance = compute_hausdorff_distance(
                *pair, include_background=True, percentile=95, spacing=steps
            )
        scores["hd95"] = float(distance)
    elif not sizes:
        scores["hd95"] = 0.0
    else:
        sides = zip(m.shape, steps or [1.0] * m.ndim, strict=True)
        scores["hd95"] = math.sqrt(sum((n * step) ** 2 for n, step in sides))
        scores["undefined_hd95"] = 1.0
    return scores


def mean_scores(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the means over images with their number ``n``; the two counts are summed, not averaged."""
    rows = list(rows)
    if not rows:
        raise ValueError("no images to average: the test set is empty.")
    means: dict[str, float] = {"n": len(rows)}
    for key in ("dice", "iou", "hd95"):
        means[key] = float(np.mean([row[key] for row in rows]))
    means["empty_masks"] = int(sum(row["empty_mask"] for row in rows))
    means["undefined_hd95"] = int(sum(row["undefined_hd95"] for row in rows))
    return means
