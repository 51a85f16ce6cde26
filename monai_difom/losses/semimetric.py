"""A mask loss for soft masks: smallest where the prediction equals the target, whatever the target."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.utils import LossReduction
from torch.nn.modules.loss import _Loss


class SemimetricDiceCELoss(_Loss):
    r"""Dice as a semimetric (Wang et al., MICCAI 2023, arXiv 2303.16296) and binary cross entropy, from logits.

    .. math:: L = \lambda_D \Bigl(1 - \frac{|p| + |t| - |p - t|}{|p| + |t|}\Bigr) + \lambda_C\,\overline{\mathrm{KL}(t \| p)},
        \qquad p = \sigma(x)

    with :math:`|\cdot|` the sum over the pixels of one channel of one image. The usual soft Dice of a target of .3 is smallest
    at a prediction of 1; this one is smallest, and 0, at .3. The divergence is the binary cross entropy less the target's own
    entropy: the same gradient, and 0 where the two agree. On masks of 0 and 1 both parts are those of MONAI's
    ``DiceCELoss(sigmoid=True)`` of one channel; several channels are judged one by one, as structures that may overlap.

    With ``min_confidence`` a pixel counts only where :math:`\max(t, 1 - t)` reaches it: drawn masks always do, and of a soft
    mask what the teacher is sure of. Cross entropy stays the mean over all pixels: an image of whose pixels few count teaches
    little.

    Args:
        lambda_dice: weight of the Dice part.
        lambda_ce: weight of the cross entropy.
        min_confidence: gate, from 0 (and up to .5: every pixel counts) to 1.
        smooth: added to both sides of the fraction, as MONAI does.
        reduction: ``"mean"`` over images and channels, ``"sum"``, or ``"none"``: ``(B, C)``.

    Raises:
        ValueError: a negative weight, or a gate outside [0, 1].

    Example:
        >>> loss = SemimetricDiceCELoss()
        >>> target = torch.full((1, 1, 8, 8), 0.3)
        >>> bool(loss(torch.logit(target), target) < loss(torch.full((1, 1, 8, 8), 4.0), target))
        True
    """

    def __init__(
        self,
        lambda_dice: float = 1.0,
        lambda_ce: float = 1.0,
        min_confidence: float = 0.0,
        smooth: float = 1e-5,
        reduction: LossReduction | str = LossReduction.MEAN,
    ) -> None:
        super().__init__(reduction=LossReduction(reduction).value)
        if lambda_dice < 0 or lambda_ce < 0:
            raise ValueError(
                f"lambda_dice is {lambda_dice}, lambda_ce {lambda_ce}; allowed are numbers from 0."
            )
        if not 0 <= min_confidence <= 1:
            raise ValueError(
                f"min_confidence is {min_confidence}; allowed is 0 (every pixel counts) to 1 (sure ones only)."
            )
        self.lambda_dice, self.lambda_ce = float(lambda_dice), float(lambda_ce)
        self.min_confidence, self.smooth = float(min_confidence), float(smooth)

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:  # noqa: A002
        """Return the loss of logits ``(B, C, *spatial)`` against masks of the same shape in [0, 1].

        Raises:
            ValueError: the shapes differ.
        """
        if input.shape != target.shape:
            raise ValueError(f"logits {tuple(input.shape)} and mask {tuple(target.shape)} differ in shape.")
        logits, mask = input.float().flatten(2), target.float().flatten(2)
        probability = torch.sigmoid(logits)
        apart = (probability - mask).abs()
        divergence = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
        if self.min_confidence > 0.5:
            sure = (mask - 0.5).abs() >= self.min_confidence - 0.5
            probability, mask, apart, divergence = (x * sure for x in (probability, mask, apart, divergence))
        both = probability.sum(2) + mask.sum(2)
        dice = 1 - (both - apart.sum(2) + self.smooth) / (both + self.smooth)
        # of the target alone, and 0 of a pixel that is 0 or 1 (or shut out)
        entropy = torch.special.entr(mask) + torch.special.entr(1 - mask)
        value = self.lambda_dice * dice + self.lambda_ce * (divergence - entropy).mean(2)
        if self.reduction == LossReduction.MEAN.value:
            return value.mean()
        return value.sum() if self.reduction == LossReduction.SUM.value else value
