"""A vision transformer with a light upsampling decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from monai.networks.nets import ViT
from torch import nn

from ..blocks import make_latents
from ..blocks.latents import LatentMode, latent_taps
from ..blocks.normalize import input_normalization
from ..blocks.pyramid import Lateral, SeparableConv
from ..blocks.tokens import MonaiTokens, TimmTokens, fit_to_patch
from ..encoders import Pretrained
from ..taps import Tap

FUSED = 4  # hidden states that the decoder reads, evenly spaced, the last one among them


class ViTSegmenter(nn.Module):
    """A vision transformer (Dosovitskiy et al., ICLR 2021), its hidden states as taps, and an upsampling decoder.

    The decoder adds four hidden states and doubles the grid until a map pixel covers four image pixels or less. Takes
    any image size: the position embedding is resampled to its grid, and an image whose sides are no multiples of the
    patch is first resampled to the nearest that are, so that tokens cover the whole field of view.

    Args:
        spatial_dims: 2, or 3 with a MONAI `ViT`.
        in_channels: channels of the image.
        out_channels: channels of the logits.
        encoder: timm model (``vit_tiny_patch16_224``, ``vit_small_patch16_224``, ``vit_small_patch14_dinov2``, ...), or a
            MONAI `ViT` with ``proj_type="conv"``.
        pretrained: false, a hub name or a local file, for a timm model; see `load_encoder`.
        image_size: side, or one per axis, for which the position embedding is stored: that of training.
        decoder_channels: width of the decoder.
        mean: mean that the encoder was trained with, for an image in [0, 1]; None takes that of timm's configuration.
            The student's own input is normalised with ImageNet's statistics.
        std: standard deviation, in the same way.
        latents: ``"none"``, ``"side"`` (dropped at export) or ``"inline"``; see `DifomUNet`.
        latent_channels: channels of L1 and L2.

    Attributes:
        taps: hidden states ``layer1``, ``layer2``, ..., the last one also as ``bottleneck``; the decoder's maps by their
            stride, ``stride8`` and ``stride4`` for a patch of 16; and ``L1``, ``L2`` where there are latents.
        divisor: 1, any image size works.
        training_only: name prefixes of parameters that the exported network does not have.

    Raises:
        ValueError: the encoder is no plain vision transformer, or does not fit the other arguments.

    Example:
        >>> net = ViTSegmenter(2, 3, 1, encoder="vit_tiny_patch16_224", image_size=64)
        >>> net(torch.rand(1, 3, 96, 64)).shape
        torch.Size([1, 1, 96, 64])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 1,
        encoder: str | ViT = "vit_tiny_patch16_224",
        pretrained: Pretrained = False,
        image_size: int | Sequence[int] = 352,
        decoder_channels: int = 64,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        latents: LatentMode = "none",
        latent_channels: int = 256,
    ) -> None:
        super().__init__()
        if spatial_dims not in ((2,) if isinstance(encoder, str) else (2, 3)):
            raise ValueError(
                f"spatial_dims is {spatial_dims}; allowed are 2, and 3 with a MONAI ViT as encoder."
            )
        self.normalize: nn.Module = nn.Identity()
        if isinstance(encoder, str):
            sides = (image_size,) * 2 if isinstance(image_size, int) else tuple(image_size)
            self.encoder: TimmTokens | MonaiTokens = TimmTokens(encoder, pretrained, in_channels, sides)
            config = self.encoder.model.pretrained_cfg
            self.normalize = input_normalization(mean or config["mean"], std or config["std"], in_channels)
        elif pretrained:
            raise ValueError(
                "pretrained is for timm's models: load the weights of a MONAI ViT into it yourself."
            )
        else:
            self.encoder = MonaiTokens(encoder, image_size)
        if len(self.encoder.patch) != spatial_dims:
            raise ValueError(f"spatial_dims is {spatial_dims}; the encoder's patch is {self.encoder.patch}.")

        depth, width = self.encoder.depth, self.encoder.width
        # where the maps pass by, so that every one can be tapped
        self.layers = nn.ModuleList(nn.Identity() for _ in range(depth))
        self.latents = make_latents(latents, spatial_dims, width, latent_channels)
        self.read = sorted({round(depth * (i + 1) / FUSED) - 1 for i in range(FUSED)} - {-1})
        self.laterals = nn.ModuleList(Lateral(spatial_dims, width, decoder_channels) for _ in self.read)
        strides, stride = [], float(self.encoder.patch[-1])
        while stride > 4:
            stride /= 2
            strides.append(stride)
        self.steps = nn.ModuleList(
            SeparableConv(spatial_dims, decoder_channels, decoder_channels) for _ in strides
        )
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear" if spatial_dims == 2 else "trilinear")
        self.head = Conv[Conv.CONV, spatial_dims](decoder_channels, out_channels, 1)

        self.divisor = 1
        self.training_only = ("latents.",) if latents == "side" else ()
        patch = self.encoder.patch[-1]
        self.taps = {f"layer{i + 1}": Tap(f"layers.{i}", width, patch) for i in range(depth)}
        self.taps["bottleneck"] = self.taps[f"layer{depth}"]
        for i, stride in enumerate(strides):
            self.taps[f"stride{stride:g}"] = Tap(f"steps.{i}", decoder_channels, stride)
        self.taps.update(latent_taps(latents, latent_channels, patch))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``(B, out_channels, *spatial)`` of an image ``(B, in_channels, *spatial)``."""
        size = list(x.shape[2:])
        mode = "bilinear" if x.ndim == 4 else "trilinear"
        x = self.normalize(x)
        fitted = fit_to_patch(size, self.encoder.patch)
        if fitted != size:
            x = F.interpolate(x, size=fitted, mode=mode, align_corners=False)
        maps = self.encoder(x)
        for i, layer in enumerate(self.layers):
            maps[i] = layer(maps[i])
        maps[-1] = self.latents(maps[-1])
        x = self.laterals[0](maps[self.read[0]])
        for i, lateral in enumerate(self.laterals):
            if i > 0:
                x = x + lateral(maps[self.read[i]])
        x = torch.relu(x)
        for step in self.steps:
            x = step(self.upsample(x))
        return F.interpolate(self.head(x), size=size, mode=mode, align_corners=False)
