"""Any timm encoder with a light decoder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...utils import unknown_name
from ...zoo.known_weights import known_contract
from ..blocks import make_latents
from ..blocks.latents import LatentMode, latent_taps
from ..blocks.normalize import input_normalization
from ..blocks.pyramid import FPNDecoder, UNetDecoder
from ..encoders import Pretrained, load_encoder
from ..taps import Tap

UNET_WIDTHS = (96, 64, 32, 16)


class LightSegmenter(nn.Module):
    """A timm encoder (RepViT, TinyViT, EfficientViT, MobileNetV3 and V4, ...) with a decoder that costs little.

    Takes any image size: maps are brought to the size of the finer one, logits to that of the image.

    Args:
        spatial_dims: 2.
        in_channels: channels of the image.
        out_channels: channels of the logits: one per class or per structure.
        encoder: timm model that gives a feature pyramid.
        pretrained: false, a hub name or a local file; see `load_encoder`. A file that is known by its content is refused with
            another mean, std or padding than it was trained with.
        decoder: ``"fpn"``, separable convolutions on the maps from stride 4 on; or ``"unet"``, concatenation and full
            convolutions on all maps.
        decoder_channels: width of the FPN, 64 when None; or the widths of the U-Net's steps, deepest first.
        mean: mean that the encoder was trained with, for an image in [0, 1]; None takes that of timm's configuration.
            The student's own input is normalised with ImageNet's statistics.
        std: standard deviation, in the same way.
        latents: ``"none"``, ``"side"`` (dropped at export) or ``"inline"``; see `DifomUNet`.
        latent_channels: channels of L1 and L2.
        encoder_arguments: further arguments of ``timm.create_model``, such as ``{"pad_type": "same"}``.
        select: ``"uniform"`` or ``"first"``: `pretrained` is the file of a bigger encoder of the same family, of whose weights
            a part is taken; see `monai_difom.networks.inherit.select_weights`.

    Attributes:
        taps: encoder ``stride4``, ``stride8``, ... with the deepest named ``bottleneck``; decoder
            ``decoder_stride4``, ...; and ``L1``, ``L2`` where there are latents.
        divisor: 1, any image size works.
        training_only: name prefixes of parameters that the exported network does not have.

    Raises:
        ValueError: no such encoder or decoder, or widths that do not fit.

    Example:
        >>> net = LightSegmenter(2, 3, 12, encoder="mobilenetv4_conv_small")
        >>> net(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 12, 64, 64])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 1,
        encoder: str = "repvit_m0_9",
        pretrained: Pretrained = False,
        decoder: str = "fpn",
        decoder_channels: int | Sequence[int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        latents: LatentMode = "none",
        latent_channels: int = 256,
        encoder_arguments: Mapping[str, Any] | None = None,
        select: str | None = None,
    ) -> None:
        super().__init__()
        if spatial_dims != 2:
            raise ValueError(f"spatial_dims is {spatial_dims}; allowed is 2: timm's encoders are for images.")
        if decoder not in ("fpn", "unet"):
            raise ValueError(unknown_name("decoder", decoder, ("fpn", "unet")))
        self.encoder = load_encoder(
            encoder, pretrained, in_channels, select=select, **dict(encoder_arguments or {})
        )
        config = getattr(self.encoder, "pretrained_cfg", {})
        mean, std = mean or config["mean"], std or config["std"]
        if isinstance(pretrained, str | os.PathLike):
            # not filled in: the definition stays with the trained network, the file does not
            known_contract(pretrained, encoder, mean, std, (encoder_arguments or {}).get("pad_type", ""))
        self.normalize = input_normalization(mean, std, in_channels)
        info: Any = self.encoder.feature_info
        strides, channels = list(info.reduction()), list(info.channels())
        self.first = next((i for i, s in enumerate(strides) if s >= 4), 0) if decoder == "fpn" else 0
        strides, channels = strides[self.first :], channels[self.first :]
        # where the maps pass by, so that every one can be tapped whatever the encoder looks like inside
        self.levels = nn.ModuleList(nn.Identity() for _ in channels)
        self.latents = make_latents(latents, 2, channels[-1], latent_channels)
        self.decoder: FPNDecoder | UNetDecoder
        if decoder == "fpn":
            if isinstance(decoder_channels, Sequence):
                raise ValueError(f"decoder_channels is {decoder_channels}; the FPN takes one number.")
            self.decoder = FPNDecoder(channels, decoder_channels or 64)
        else:
            widths = UNET_WIDTHS[: len(channels) - 1] if decoder_channels is None else decoder_channels
            self.decoder = UNetDecoder(channels, widths)  # type: ignore[arg-type]
        self.head = nn.Conv2d(self.decoder.widths[-1], out_channels, 1)

        self.divisor = 1
        self.training_only = ("latents.",) if latents == "side" else ()
        names = [*(f"stride{stride}" for stride in strides[:-1]), "bottleneck"]
        self.taps = {name: Tap(f"levels.{i}", channels[i], strides[i]) for i, name in enumerate(names)}
        fine = strides[::-1][-len(self.decoder.widths) :]  # strides of the steps, deepest first
        for i, (stride, width) in enumerate(zip(fine, self.decoder.widths, strict=True)):
            self.taps[f"decoder_stride{stride}"] = Tap(f"decoder.steps.{i}", width, stride)
        self.taps.update(latent_taps(latents, latent_channels, strides[-1]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``(B, out_channels, H, W)`` of an image ``(B, in_channels, H, W)``."""
        found = self.encoder(self.normalize(x))[self.first :]
        maps = [level(found[i]) for i, level in enumerate(self.levels)]
        maps[-1] = self.latents(maps[-1])
        logits = self.head(self.decoder(maps))
        return F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=False)
