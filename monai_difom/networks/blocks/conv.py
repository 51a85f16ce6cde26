"""Convolution block, upsampling and the size check that U-Net-like students share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_act_layer, get_norm_layer
from torch import nn

from ..student import as_student


class DoubleConv(nn.Module):
    """Two times 3x3 convolution, norm, activation.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        act: MONAI activation name or ``(name, kwargs)``.
        norm: MONAI norm name or ``(name, kwargs)``.
        bias: bias of the convolutions.
        dropout: probability of channel dropout after the block, 0 for none.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        act: str | tuple,
        norm: str | tuple,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.conv1 = conv(in_channels, out_channels, 3, padding=1, bias=bias)
        self.norm1 = get_norm_layer(norm, spatial_dims, out_channels)
        self.conv2 = conv(out_channels, out_channels, 3, padding=1, bias=bias)
        self.norm2 = get_norm_layer(norm, spatial_dims, out_channels)
        self.act = get_act_layer(act)
        dropouts = {2: nn.Dropout2d, 3: nn.Dropout3d}
        self.dropout = dropouts[spatial_dims](dropout) if dropout else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(B, out_channels, *spatial)``."""
        x = self.act(self.norm1(self.conv1(x)))
        return self.dropout(self.act(self.norm2(self.conv2(x))))


def upsample_like(x: torch.Tensor, reference: torch.Tensor, align_corners: bool) -> torch.Tensor:
    """Interpolate ``x`` linearly to the spatial size of ``reference``.

    Args:
        x: ``(B, C, h, w)`` or ``(B, C, d, h, w)``.
        reference: of the same number of dimensions; its values are not looked at.
        align_corners: as in ``torch.nn.functional.interpolate``; published checkpoints need either.
    """
    mode = "bilinear" if x.dim() == 4 else "trilinear"
    return F.interpolate(x, size=reference.shape[2:], mode=mode, align_corners=align_corners)


def check_input_size(spatial: Sequence[int], divisor: int, name: str) -> None:
    """Refuse an image whose sides do not divide, naming the nearest sizes that work.

    Args:
        spatial: sides of the image.
        divisor: what each must be a multiple of.
        name: of the network, for the message.

    Raises:
        ValueError: a side is no multiple of ``divisor``.
    """
    if all(int(side) % divisor == 0 for side in spatial):
        return
    lower = "x".join(str(max(int(side) // divisor, 1) * divisor) for side in spatial)
    upper = "x".join(str(-(-int(side) // divisor) * divisor) for side in spatial)
    found = "x".join(str(int(side)) for side in spatial)
    nearest = lower if lower == upper else f"{lower} or {upper}"
    raise ValueError(
        f"{name} cannot take a {found} image: every side must be a multiple of {divisor}. Nearest: {nearest}."
    )


def check_network_input(network: nn.Module, image_size: int | Sequence[int]) -> None:
    """Refuse an image size that a student cannot take, before anything is loaded or trained.

    Args:
        network: any student, see `as_student`.
        image_size: side, or one a dimension.
    """
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    check_input_size(sides, as_student(network).divisor, type(network).__name__)
