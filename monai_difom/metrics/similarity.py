"""How alike two sets of features are, whatever their axes and scales."""

from __future__ import annotations

import torch


def linear_cka(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the linear centred kernel alignment of two feature sets, without bias.

    1 for features that are equal up to rotation and one scale, about 0 for unrelated ones, for any number of examples: the
    plain estimator (Kornblith et al., ICML 2019) grows with the number of channels per example. HSIC is replaced by its
    U-statistic (Song et al., JMLR 2012, equation 5), computed from ``(C, C)`` products instead of ``(N, N)`` kernels.
    Slightly negative values are noise around 0.

    Args:
        first: ``(N, C)``, one row an example (an image position), N from 4.
        second: ``(N, D)``, the same examples.

    Returns:
        Similarity up to 1; 0 when a set is constant.

    Raises:
        ValueError: the numbers of examples differ, or there are fewer than 4.
    """
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second) or len(first) < 4:
        raise ValueError(
            f"features {tuple(first.shape)} and {tuple(second.shape)}; both must be (examples, channels) with the same "
            "examples, at least 4."
        )
    # the U-statistic does not know the mean; without it the sums lose no digits
    x, y = (features.double() - features.double().mean(0) for features in (first, second))
    own = _hsic(x, x) * _hsic(y, y)
    return float(_hsic(x, y) / own.sqrt()) if own > 1e-24 else 0.0


def _hsic(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Unbiased HSIC of the linear kernels K = x x' and L = y y', whose diagonals do not count."""
    n = len(x)
    k, m = x.pow(2).sum(1), y.pow(2).sum(1)
    sum_x, sum_y = x.sum(0), y.sum(0)
    products = (x.T @ y).pow(2).sum() - (k * m).sum()
    all_k, all_m = sum_x.pow(2).sum() - k.sum(), sum_y.pow(2).sum() - m.sum()
    rows = ((x @ sum_x - k) * (y @ sum_y - m)).sum()
    return (products + all_k * all_m / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)) / (n * (n - 3))
