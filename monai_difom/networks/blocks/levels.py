"""What U-Net-like students share: encoder levels that halve the grid, latents at the deepest, and their taps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Pool
from torch import nn

from ..taps import Tap
from .backbone import load_backbone
from .conv import DoubleConv, check_input_size
from .latents import LatentMode, latent_taps, make_latents


class EncoderLevels(nn.Module):
    """Encoder and latents of a U-Net-like student, whose subclass adds ``decoder`` and ``head``.

    Args:
        widths: width of every level, from full resolution down.
        block: ``act, norm, bias, dropout`` of every `DoubleConv`.
        decoder: module path of the last decoder map of each level but the deepest, from full resolution down.

    The other arguments are those of `DifomUNet`.

    Raises:
        ValueError: another number of dimensions, or fewer than two levels.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        widths: Sequence[int],
        block: tuple[Any, ...],
        latents: LatentMode,
        latent_channels: int,
        pretrained: str | os.PathLike | None,
        decoder: Sequence[str],
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims is {spatial_dims}; allowed are 2 and 3.")
        if len(widths) < 2:
            raise ValueError(f"features is {tuple(widths)}; {type(self).__name__} needs at least two levels.")
        self.divisor = 2 ** (len(widths) - 1)
        self.encoder = nn.ModuleList(
            DoubleConv(spatial_dims, before, width, *block)
            for before, width in zip((in_channels, *widths[:-1]), widths, strict=True)
        )
        self.pool = Pool[Pool.MAX, spatial_dims](2)
        if pretrained:
            load_backbone(self.encoder, pretrained)
        self.latents = make_latents(latents, spatial_dims, widths[-1], latent_channels)
        self.training_only = ("latents.",) if latents == "side" else ()
        names = [*(f"stride{2**i}" for i in range(len(widths) - 1)), "bottleneck"]
        self.taps = {name: Tap(f"encoder.{i}", widths[i], 2**i) for i, name in enumerate(names)}
        for i, path in enumerate(decoder):
            self.taps[f"decoder_stride{2**i}"] = Tap(path, widths[i], 2**i)
        self.taps.update(latent_taps(latents, latent_channels, self.divisor))

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the map of every level, from full resolution down; the deepest has passed the latents."""
        if not torch.jit.is_scripting():
            check_input_size(x.shape[2:], self.divisor, type(self).__name__)
        maps: list[torch.Tensor] = []
        for i, block in enumerate(self.encoder):
            if i > 0:
                x = self.pool(x)
            x = block(x)
            maps.append(x)
        maps[-1] = self.latents(maps[-1])
        return maps
