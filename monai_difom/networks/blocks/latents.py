"""The two latents L1 and L2 of Polyp-DiFoM, beside or inside the student.

In the paper's figure they stand in series between encoder and decoder; in its notebook they are side heads
that nothing reads. Both are here, and `none` for what turned out to be enough: heads of the distiller on the
encoder.
"""

from __future__ import annotations

from typing import Literal

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from ..taps import Tap

LatentMode = Literal["none", "side", "inline"]


class SideLatents(nn.Module):
    """L1 = ReLU(conv1x1(bottleneck)), L2 = conv1x1(L1), as in the published notebook.

    The student's own path passes by them unchanged: they are read through taps with a source, and are dropped
    at export.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the bottleneck.
        channels: channels of both latents.
    """

    def __init__(self, spatial_dims: int, in_channels: int, channels: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.L1 = nn.Sequential(conv(in_channels, channels, 1), nn.ReLU())
        self.L2 = conv(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x``: side heads are not on the way from image to mask."""
        return x


class InlineLatents(nn.Module):
    """Encoder -> L1 -> L2 -> decoder: two residual 1x1 bottlenecks whose gates start at zero.

    At the start the student computes exactly what it computes without them; the gates open as far as training
    finds useful.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the bottleneck.
        channels: channels of both latents.
    """

    def __init__(self, spatial_dims: int, in_channels: int, channels: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.L1 = nn.Sequential(conv(in_channels, channels, 1), nn.ReLU())
        self.out1 = conv(channels, in_channels, 1)
        self.gate1 = nn.Parameter(torch.zeros(1))
        self.L2 = nn.Sequential(conv(in_channels, channels, 1), nn.ReLU())
        self.out2 = conv(channels, in_channels, 1)
        self.gate2 = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map of the same shape as ``x``."""
        x = x + self.gate1 * self.out1(self.L1(x))
        return x + self.gate2 * self.out2(self.L2(x))


def make_latents(mode: LatentMode, spatial_dims: int, in_channels: int, channels: int) -> nn.Module:
    """Return the latents for a mode; ``none`` is an identity.

    Args:
        mode: ``"none"``, ``"side"`` (`SideLatents`) or ``"inline"`` (`InlineLatents`).
        spatial_dims: 2 or 3.
        in_channels: channels of the bottleneck.
        channels: channels of both latents.

    Raises:
        ValueError: the mode is none of ``none``, ``side``, ``inline``.
    """
    if mode == "none":
        return nn.Identity()
    if mode == "side":
        return SideLatents(spatial_dims, in_channels, channels)
    if mode == "inline":
        return InlineLatents(spatial_dims, in_channels, channels)
    raise ValueError(f"latents are {mode!r}; allowed are 'none', 'side' and 'inline'.")


def latent_taps(mode: LatentMode, channels: int, stride: float) -> dict[str, Tap]:
    """Taps ``L1`` and ``L2`` of a student's latents, which sit at its bottleneck."""
    if mode == "side":
        return {
            "L1": Tap("latents.L1", channels, stride, source="bottleneck"),
            "L2": Tap("latents.L2", channels, stride, source="L1"),
        }
    if mode == "inline":
        return {"L1": Tap("latents.L1", channels, stride), "L2": Tap("latents.L2", channels, stride)}
    return {}
