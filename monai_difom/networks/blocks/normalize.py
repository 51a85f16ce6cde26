"""From the student's input normalisation to the one that its encoder was trained with."""

# no postponed annotations here: TorchScript evaluates those of the class
from collections.abc import Sequence

import torch
from torch import nn

from ...utils import IMAGENET_MEAN, IMAGENET_STD


class InputNormalization(nn.Module):
    """Take an image normalised with ImageNet's statistics, give it normalised with others.

    The factors are buffers: they travel with the weights, so that a checkpoint keeps the input it was trained with.

    Args:
        mean: mean per channel of the encoder's input, for an image in [0, 1].
        std: standard deviation per channel, in the same way.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        own_mean, own_std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        theirs_mean, theirs_std = torch.tensor(tuple(mean)), torch.tensor(tuple(std))
        if theirs_mean.shape != (3,) or theirs_std.shape != (3,) or float(theirs_std.min()) <= 0:
            raise ValueError(
                f"mean {tuple(mean)} and std {tuple(std)}: give three numbers each, std above 0."
            )
        self.register_buffer("scale", (own_std / theirs_std).view(1, 3, 1, 1))
        self.register_buffer("shift", ((own_mean - theirs_mean) / theirs_std).view(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(B, 3, H, W)``."""
        return x * self.scale + self.shift


def input_normalization(mean: Sequence[float], std: Sequence[float], in_channels: int) -> nn.Module:
    """Return the change of normalisation, or an identity where there is none to make.

    Args:
        mean: mean per channel of the encoder's input, for an image in [0, 1].
        std: standard deviation per channel.
        in_channels: an image that is not RGB has no ImageNet statistics and is left as it is.
    """
    same = tuple(mean) == IMAGENET_MEAN and tuple(std) == IMAGENET_STD
    return nn.Identity() if same or in_channels != 3 else InputNormalization(mean, std)
