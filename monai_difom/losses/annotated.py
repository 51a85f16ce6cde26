"""Losses of many structures, of which an image may lack the annotation of some."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

#: value of all pixels of a mask channel that nobody annotated; a mask is 0 or 1
MISSING = 255


def annotated_channels(label: torch.Tensor) -> torch.Tensor:
    """Return which channels of masks ``(B, K, *spatial)`` are annotated: boolean ``(B, K)``."""
    return (label != MISSING).flatten(2).all(2)


def zero_of(values: torch.Tensor) -> torch.Tensor:
    """Return a zero whose gradient reaches ``values`` and is zero there, whatever the values are (0 times infinity is not)."""
    return values.flatten()[:0].sum()


def annotated_images(label: torch.Tensor) -> torch.Tensor:
    """Return the numbers of the images of ``(B, K, *spatial)`` that have a mask of any structure.

    Ask before the masks go to a device: the answer has a length, which the host would have to wait for.
    """
    return (label != MISSING).flatten(1).any(1).nonzero().flatten()


class AnnotatedLoss(nn.Module):
    """Applies a mask loss to every structure of every image on its own, and only where it was annotated.

    Each annotated channel is one binary problem ``(1, *spatial)``; their mean is returned. Where nothing is missing this
    is the loss itself, for every loss that treats channels alike and averages over them (StructureLoss, BCE,
    ``DiceLoss(sigmoid=True)``). ``DiceCELoss`` reads several channels as exclusive classes; in here its cross-entropy is
    the binary one, as overlapping structures need it.

    Args:
        loss: called as ``loss(logits, label)`` on ``(M, 1, *spatial)``; a mean over M.

    Example:
        >>> from monai.losses import DiceCELoss
        >>> loss = AnnotatedLoss(DiceCELoss(sigmoid=True))
        >>> label = torch.zeros(2, 12, 8, 8)
        >>> label[1, 3:] = MISSING
        >>> float(loss(torch.zeros(2, 12, 8, 8), label)) > 0
        True
    """

    def __init__(self, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits ``(B, K, *spatial)`` against masks of the same shape; `MISSING` marks channels.

        A batch without any annotation costs 0.

        Raises:
            ValueError: the shapes differ.
        """
        if logits.shape != label.shape:
            raise ValueError(
                f"logits {tuple(logits.shape)} and masks {tuple(label.shape)} differ in shape. The student needs one "
                "output channel per structure."
            )
        annotated = annotated_channels(label)
        if not annotated.any():
            return zero_of(logits)
        return self.loss(logits[annotated][:, None], label[annotated][:, None])
