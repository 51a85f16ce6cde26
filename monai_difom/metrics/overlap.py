"""Dice, IoU, precision and recall of one binary prediction."""

from __future__ import annotations

import numpy as np


def overlap_scores(prediction: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Return how far a binary prediction and its mask cover the same pixels.

    Convention for what would be 0 / 0: an empty prediction of an empty mask is right (all four are 1); where only
    one of the two is empty, all four are 0.

    Args:
        prediction: boolean array of any shape.
        mask: boolean array of the same shape.

    Returns:
        ``dice``, ``iou``, ``precision`` and ``recall`` in [0, 1].
    """
    found, true = int(np.count_nonzero(prediction)), int(np.count_nonzero(mask))
    both = int(np.count_nonzero(prediction & mask))
    if not found and not true:
        return {"dice": 1.0, "iou": 1.0, "precision": 1.0, "recall": 1.0}
    return {
        "dice": 2 * both / (found + true),
        "iou": both / (found + true - both),
        "precision": both / found if found else 0.0,
        "recall": both / true if true else 0.0,
    }
