"""PraNet's structure loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.utils import LossReduction
from torch.nn.modules.loss import _Loss


def _window_mean(mask: torch.Tensor, kernel_size: int) -> torch.Tensor:
    """Mean over the square or cube around a position; padded zeros are part of it, as in the paper's code."""
    half = kernel_size // 2
    if mask.ndim == 4:
        return F.avg_pool2d(mask, kernel_size, stride=1, padding=half)
    # axis by axis: a cube of side 31 holds 29791 voxels. Padded by hand: avg_pool3d refuses volumes that are
    # thinner than its window even where the padding makes up for it
    for axis in range(3):
        window, padding = [1, 1, 1], [0] * 6
        window[axis] = kernel_size
        padding[4 - 2 * axis] = padding[5 - 2 * axis] = half
        mask = F.avg_pool3d(F.pad(mask, padding), window, stride=1)
    return mask


class StructureLoss(_Loss):
    r"""Edge-weighted BCE plus edge-weighted IoU (PraNet, Fan et al., MICCAI 2020, section 2.4).

    .. math::
        w = 1 + \lambda \lvert \mathrm{avgpool}_{31}(g) - g \rvert, \quad
        L = \frac{\sum w\, \mathrm{bce}}{\sum w} + 1 - \frac{\sum w\, p g + 1}{\sum w\,(p + g - p g) + 1}

    per image and channel, with :math:`g` the mask, :math:`p` the sigmoid of the logits and
    :math:`\lambda = 5`.

    Args:
        pixel_weighted_bce: True is what the paper describes. False is what its code computes: there
            ``reduce='none'`` reads as "reduce", so the BCE is one mean over the batch and the weights
            cancel out.
        kernel_size: side of the averaging window in pixels, odd.
        edge_weight: :math:`\lambda`.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` (one value per image and channel).

    Raises:
        ValueError: a window that is even or below 3.
    """

    def __init__(
        self,
        pixel_weighted_bce: bool = True,
        kernel_size: int = 31,
        edge_weight: float = 5.0,
        reduction: LossReduction | str = LossReduction.MEAN,
    ) -> None:
        super().__init__(reduction=LossReduction(reduction).value)
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {kernel_size}; it must be odd and at least 3.")
        self.pixel_weighted_bce = pixel_weighted_bce
        self.kernel_size = kernel_size
        self.edge_weight = edge_weight

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:  # noqa: A002
        """Return the loss of logits ``(B, C, *spatial)`` against masks of the same shape in [0, 1].

        Raises:
            ValueError: the shapes differ, or the maps are neither 2D nor 3D.
        """
        if input.shape != target.shape:
            raise ValueError(f"logits {tuple(input.shape)} and mask {tuple(target.shape)} differ in shape.")
        if input.ndim not in (4, 5):
            raise ValueError(
                f"StructureLoss takes (B, C, H, W) or (B, C, D, H, W); got {tuple(input.shape)}."
            )
        logits, mask = input.float(), target.float()
        weight = 1 + self.edge_weight * (_window_mean(mask, self.kernel_size) - mask).abs()
        axes = tuple(range(2, input.ndim))

        per_pixel = "none" if self.pixel_weighted_bce else "mean"
        bce = F.binary_cross_entropy_with_logits(logits, mask, reduction=per_pixel)
        weighted_bce = (weight * bce).sum(axes) / weight.sum(axes)
        probability = torch.sigmoid(logits)
        intersection = (probability * mask * weight).sum(axes)
        union = ((probability + mask) * weight).sum(axes)
        weighted_iou = 1 - (intersection + 1) / (union - intersection + 1)

        value = weighted_bce + weighted_iou
        if self.reduction == LossReduction.MEAN.value:
            return value.mean()
        return value.sum() if self.reduction == LossReduction.SUM.value else value
