"""Distillation judged by spatial-frequency bands."""

from __future__ import annotations

import torch
from monai.utils import LossReduction
from torch.nn.modules.loss import _Loss

from ..utils import check_bands, split_bands
from ..utils.bands import Shape
from .feature import FeatureDistillationLoss


class FrequencyDistillationLoss(_Loss):
    r"""Weighted distance of the low and of the high band of two maps (Polyp-DiFoM, arXiv 2512.09307).

    .. math::
        L = w_{low}\, d(F^{-1}[M\, F s],\ F^{-1}[M\, F t])
          + w_{high}\, d(F^{-1}[(1-M) F s],\ F^{-1}[(1-M) F t])

    with :math:`M` a radial low-pass mask on the student's grid, real transforms, and :math:`d` a
    `FeatureDistillationLoss` distance. The paper writes the band loss as :math:`\lVert L_1 - F^{-1}_{LFC}
    \rVert_2^2` with one latent per band; that is this loss with one weight at zero, applied to that latent.

    By Parseval's theorem, ``mse`` with an ideal mask and equal weights *is* the spatial MSE: a frequency loss
    says something of its own only where its two weights differ, or where the two bands are read at
    different taps.

    Args:
        cutoff: border between the bands, cycles per pixel of the map, in (0, 0.5].
        low_weight: weight of the low band, >= 0.
        high_weight: weight of the high band, >= 0.
        transition: width of the smooth border, cycles per pixel.
        shape: ``"smooth"`` or ``"ideal"`` mask.
        distance: distance within a band; see `FeatureDistillationLoss`.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` (one value per position).
        detach_target: stop gradients at the target.

    Raises:
        ValueError: a weight below 0, both 0, or no such distance.

    Example:
        >>> loss = FrequencyDistillationLoss(cutoff=0.2, low_weight=1.0, high_weight=0.0)
        >>> x = torch.rand(2, 8, 16, 16)
        >>> float(loss(x, x))
        0.0
    """

    def __init__(
        self,
        cutoff: float = 0.2,
        low_weight: float = 1.0,
        high_weight: float = 1.0,
        transition: float = 0.1,
        shape: Shape = "smooth",
        distance: str = "mse",
        reduction: LossReduction | str = LossReduction.MEAN,
        detach_target: bool = True,
    ) -> None:
        super().__init__(reduction=LossReduction(reduction).value)
        if low_weight < 0 or high_weight < 0 or low_weight + high_weight == 0:
            raise ValueError(
                f"band weights are {low_weight} and {high_weight}; they must be >= 0 and not both 0."
            )
        self.cutoff, self.transition, self.shape = cutoff, transition, shape
        self.weights = (float(low_weight), float(high_weight))
        self.distance = FeatureDistillationLoss(distance, reduction, detach_target)

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:  # noqa: A002
        """Return the weighted band distance of ``(B, C, *spatial)`` maps of the same shape.

        Raises:
            ValueError: the shapes differ, or a band is empty on this grid.
        """
        check_bands(input.shape[2:], self.cutoff, self.transition, self.shape)
        student = split_bands(input.float(), self.cutoff, self.transition, self.shape)
        teacher = split_bands(target.float(), self.cutoff, self.transition, self.shape)
        bands = zip(self.weights, student, teacher, strict=True)
        values = [weight * self.distance(s, t) for weight, s, t in bands if weight]
        return torch.stack(values).sum(0)
