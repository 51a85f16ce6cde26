"""Light decoders over a pyramid of encoder maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import nn

from .conv import DoubleConv, upsample_like

RELU = ("relu", {"inplace": True})


class SeparableConv(nn.Sequential):
    """Depthwise 3x3 convolution, pointwise convolution, batch norm, ReLU: a tenth of the cost of a full 3x3.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
        super().__init__(
            conv(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
            conv(in_channels, out_channels, 1, bias=False),
            norm(out_channels),
            nn.ReLU(inplace=True),
        )


class Lateral(nn.Sequential):
    """1x1 convolution and batch norm: brings a map to the decoder's width and scale."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__(
            Conv[Conv.CONV, spatial_dims](in_channels, out_channels, 1, bias=False),
            Norm[Norm.BATCH, spatial_dims](out_channels),
        )


class FPNDecoder(nn.Module):
    """Top-down path of a feature pyramid network (Lin et al., CVPR 2017) with separable convolutions.

    Args:
        channels: channels of the maps, finest first.
        width: channels of every step.

    Attributes:
        steps: one module per map, deepest first; each gives the decoder's map at that map's size.
        widths: channels of the steps, deepest first.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.widths = [width] * len(channels)
        self.laterals = nn.ModuleList(Lateral(2, before, width) for before in reversed(channels))
        self.steps = nn.ModuleList(SeparableConv(2, width, width) for _ in channels)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Return the finest step's map, of maps given finest first."""
        x = maps[-1]
        # TorchScript knows neither a module by a running number nor a strict zip
        for depth, (lateral, step) in enumerate(zip(self.laterals, self.steps)):  # noqa: B905
            skip = lateral(maps[-1 - depth])
            x = step(skip if depth == 0 else skip + upsample_like(x, skip, False))
        return x


class UNetDecoder(nn.Module):
    """Decoder of a U-Net (Ronneberger et al., MICCAI 2015): concatenation and two full convolutions per step.

    Args:
        channels: channels of the maps, finest first.
        widths: channels of the steps, deepest first; one less than there are maps.

    Attributes:
        steps: one module per step, deepest first.
        widths: as given.
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        if len(widths) != len(channels) - 1:
            raise ValueError(
                f"decoder_channels is {list(widths)}; this encoder gives {len(channels)} maps, so a U-Net decoder "
                f"needs {len(channels) - 1} numbers, deepest first."
            )
        self.widths = [int(width) for width in widths]
        deep = [channels[-1], *self.widths[:-1]]
        skips = list(reversed(channels))[1:]
        self.steps = nn.ModuleList(
            DoubleConv(2, below + skip, width, RELU, "batch", bias=False)
            for below, skip, width in zip(deep, skips, self.widths, strict=True)
        )

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Return the finest step's map, of maps given finest first."""
        x = maps[-1]
        for depth, step in enumerate(self.steps):
            skip = maps[-2 - depth]
            x = step(torch.cat([skip, upsample_like(x, skip, False)], 1))
        return x
