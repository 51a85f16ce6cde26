"""Blocks of PraNet (Fan et al., MICCAI 2020): receptive fields, partial decoder, reverse attention."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn


class ConvNorm(nn.Sequential):
    """2D convolution without bias that keeps the size of the map, then batch norm; no activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd side, or ``(height, width)``.
        dilation: spacing of the kernel's taps.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int] = 1, dilation: int = 1
    ) -> None:
        sides = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        padding = (dilation * (sides[0] // 2), dilation * (sides[1] // 2))
        conv = nn.Conv2d(in_channels, out_channels, sides, padding=padding, dilation=dilation, bias=False)
        super().__init__(OrderedDict(conv=conv, norm=nn.BatchNorm2d(out_channels)))


class ReceptiveField(nn.Module):
    """Four branches whose reach grows from 1 to 7 pixels by dilation, merged, plus a linear shortcut.

    Args:
        in_channels: channels of the encoder's map.
        channels: channels of every branch and of the output.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([nn.Sequential(ConvNorm(in_channels, channels))])
        for reach in (3, 5, 7):
            self.branches.append(
                nn.Sequential(
                    ConvNorm(in_channels, channels),
                    ConvNorm(channels, channels, (1, reach)),
                    ConvNorm(channels, channels, (reach, 1)),
                    ConvNorm(channels, channels, 3, dilation=reach),
                )
            )
        self.merge = ConvNorm(4 * channels, channels, 3)
        self.shortcut = ConvNorm(in_channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(B, channels, H, W)``."""
        found = [branch(x) for branch in self.branches]
        return F.relu(self.merge(torch.cat(found, 1)) + self.shortcut(x))


def _double(x: torch.Tensor) -> torch.Tensor:
    """Twice the size, corners aligned; two calls are not one call by four."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


class PartialDecoder(nn.Module):
    """Three maps, each half the size of the next, multiplied and stacked into the first guess of the mask.

    Args:
        channels: channels of each of the three maps.
        out_channels: channels of the logits.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        # deep = stride 32, middle = stride 16, fine = stride 8
        self.deep_to_middle = ConvNorm(channels, channels, 3)
        self.deep_to_fine = ConvNorm(channels, channels, 3)
        self.middle_to_fine = ConvNorm(channels, channels, 3)
        self.carry_deep = ConvNorm(channels, channels, 3)
        self.carry_middle = ConvNorm(2 * channels, 2 * channels, 3)
        self.merge_middle = ConvNorm(2 * channels, 2 * channels, 3)
        self.merge_fine = ConvNorm(3 * channels, 3 * channels, 3)
        self.refine = ConvNorm(3 * channels, 3 * channels, 3)
        self.head = nn.Conv2d(3 * channels, out_channels, 1)

    def forward(self, deep: torch.Tensor, middle: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        """Return logits ``(B, out_channels, *grid of fine)``."""
        deep_up = _double(deep)
        at_middle = self.deep_to_middle(deep_up) * middle
        at_fine = self.deep_to_fine(_double(deep_up)) * self.middle_to_fine(_double(middle)) * fine
        merged = self.merge_middle(torch.cat([at_middle, self.carry_deep(deep_up)], 1))
        merged = self.merge_fine(torch.cat([at_fine, self.carry_middle(_double(merged))], 1))
        return self.head(self.refine(merged))


class ReverseAttention(nn.Module):
    """Looks where the coarser guess found nothing yet, and adds what it finds there to that guess.

    With several channels, a place counts as found as soon as one channel claims it; with one channel this is
    the published block.

    Args:
        in_channels: channels of the encoder's map.
        width: channels inside.
        out_channels: channels of the logits.
        depth: number of inner convolutions.
        kernel_size: side of their kernels.
        head_kernel_size: side of the last kernel.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        depth: int = 2,
        kernel_size: int = 3,
        head_kernel_size: int = 3,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [ConvNorm(in_channels, width)]
        for _ in range(depth):
            layers += [ConvNorm(width, width, kernel_size), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = ConvNorm(width, out_channels, head_kernel_size)

    def forward(self, x: torch.Tensor, guess: torch.Tensor) -> torch.Tensor:
        """Return better logits of the shape of ``guess``, which lies on the grid of ``x``."""
        not_found = 1 - torch.sigmoid(guess).amax(1, keepdim=True)
        return self.head(self.features(not_found * x)) + guess
