"""U-Net student."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from ..blocks import DoubleConv, upsample_like
from ..blocks.latents import LatentMode
from ..blocks.levels import EncoderLevels


class DifomUNet(EncoderLevels):
    """U-Net (Ronneberger et al., MICCAI 2015) with named taps and optional latents.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: channels of the logits.
        features: width of every level, from full resolution down; its length sets the depth.
        act: MONAI activation.
        norm: MONAI norm.
        bias: bias of the convolutions.
        dropout: channel dropout in every block.
        latents: ``"none"``; ``"side"``, heads L1 and L2 that are dropped at export; or ``"inline"``,
            encoder -> L1 -> L2 -> decoder, residual, with gates that start at zero.
        latent_channels: channels of L1 and L2.
        pretrained: file of ``export --encoder-only`` of a student with the same encoder; None for random weights.

    Attributes:
        taps: tap name -> `Tap`. Encoder levels are ``stride1``, ``stride2``, ... with the deepest named
            ``bottleneck``; decoder levels are ``decoder_stride1``, ...; then ``L1`` and ``L2`` where there
            are latents.
        training_only: name prefixes of parameters that the exported network does not have.

    Raises:
        ValueError: in ``forward``, when a side of the image is no multiple of the deepest stride.

    Example:
        >>> net = DifomUNet(2, 3, 1, features=(8, 16, 32))
        >>> net(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 1, 64, 64])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 1,
        features: Sequence[int] = (16, 32, 64, 128, 192),
        act: str | tuple = ("relu", {"inplace": True}),
        norm: str | tuple = "batch",
        bias: bool = False,
        dropout: float = 0.0,
        latents: LatentMode = "none",
        latent_channels: int = 256,
        pretrained: str | os.PathLike | None = None,
    ) -> None:
        widths = tuple(int(width) for width in features)
        depth = len(widths)
        block = (act, norm, bias, dropout)
        last = [f"decoder.{depth - 2 - i}" for i in range(depth - 1)]
        super().__init__(spatial_dims, in_channels, widths, block, latents, latent_channels, pretrained, last)
        # deepest level first, as it runs
        self.decoder = nn.ModuleList(
            DoubleConv(spatial_dims, widths[i] + widths[i + 1], widths[i], *block)
            for i in reversed(range(depth - 1))
        )
        self.head = Conv[Conv.CONV, spatial_dims](widths[0], out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``(B, out_channels, *spatial)`` of an image ``(B, in_channels, *spatial)``."""
        skips = self.encode(x)
        x = skips[-1]
        for i, block in enumerate(self.decoder):
            skip = skips[len(skips) - 2 - i]
            x = block(torch.cat([skip, upsample_like(x, skip, False)], 1))
        return self.head(x)
