"""How much of a target the student explains, and how much there is to explain."""

from __future__ import annotations

import math

import torch

from ..targets.standardize import StreamingCovariance


def figures(target: StreamingCovariance, error: float) -> dict[str, float]:
    """Return a term's ``r2, target_variance, effective_rank``.

    Args:
        target: statistics of the target.
        error: squared error of the student, summed over positions and channels.
    """
    eigenvalues = torch.linalg.eigvalsh(target.scatter / target.count).clamp_min(0)
    total = float(eigenvalues.sum())
    shares = eigenvalues / max(total, 1e-30)
    entropy = float(-(shares * shares.clamp_min(1e-30).log()).sum())
    alive = total > 1e-12
    return {
        "r2": 1 - error / (total * target.count) if alive else 0.0,
        "target_variance": total / len(eigenvalues),
        "effective_rank": math.exp(entropy) if alive else 0.0,
    }
