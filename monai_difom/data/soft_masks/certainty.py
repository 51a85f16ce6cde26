"""How sure a soft mask is of itself, and how far the masks of several teachers are apart."""

from __future__ import annotations

import torch

_EMPTY = 1e-3  # share of an image below which a mask is as good as empty: without it noise would decide


def certainty(probability: torch.Tensor) -> float:
    """Return the Dice that the mask at .5 is expected to have, if the probabilities are right.

    With ``m = p > .5`` it is ``2 sum(p m) / (sum(p) + sum(m))``: 1 where every pixel is 0 or 1. Where no pixel is above
    .5 the mask is empty, and it is the probability that this is right at the least certain pixel, ``1 - max(p)``.

    Args:
        probability: ``(K, H, W)`` in [0, 1], one channel per structure; the mean over structures is returned.
    """
    p = probability.detach().float().flatten(1)
    mask = p > 0.5
    expected = 2 * (p * mask).sum(1) / (p.sum(1) + mask.sum(1)).clamp(min=1e-6)
    return float(torch.where(mask.any(1), expected, 1 - p.amax(1)).mean())


def disagreement(members: torch.Tensor) -> float:
    """Return one less the mean Dice of all pairs of masks, from 0 (all equal) to 1 (nothing in common).

    The Dice of two soft masks is that of Wang et al. (MICCAI 2023), which is 1 only where they are equal:
    ``1 - sum|p - q| / (sum(p) + sum(q))``. Masks that together cover less than .1 % of the image each count as empty.

    Args:
        members: ``(M, K, H, W)`` in [0, 1]: what each of M teachers says; the mean over structures is returned.
    """
    p = members.detach().float().flatten(2)
    count = p.shape[0]
    if count < 2:
        return 0.0
    area = p.sum(2)
    floor = 2 * _EMPTY * p.shape[2]
    apart = [
        (p[i] - p[j]).abs().sum(1) / (area[i] + area[j]).clamp(min=floor)
        for i in range(count)
        for j in range(i + 1, count)
    ]
    return float(torch.stack(apart).mean())
