"""U-Net++ student, and the published checkpoint of Polyp-DiFoM."""

# a ModuleList of ModuleLists is a list of plain modules to mypy; the remark stands here because TorchScript
# reads a comment "type: ignore" inside forward as a signature
# mypy: disable-error-code="arg-type, var-annotated"

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from ..blocks import DoubleConv, upsample_like
from ..blocks.latents import LatentMode
from ..blocks.levels import EncoderLevels
from ..weights import load_published


class DifomUNetPlusPlus(EncoderLevels):
    """U-Net++ (Zhou et al., DLMIA 2018) with named taps and optional latents.

    Node ``x{i}_{j}`` stands at level ``i`` (stride ``2**i``); ``x{i}_0`` are the encoder, the others take all
    earlier nodes of their level and the upsampled node below. The defaults equal the published Polyp-DiFoM
    student: widths 32 to 512, convolutions with bias, upsampling with aligned corners.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: channels of the logits.
        features: width of every level, from full resolution down; its length sets the depth.
        act: MONAI activation.
        norm: MONAI norm.
        bias: bias of the convolutions.
        dropout: channel dropout in every block.
        latents: ``"none"``, ``"side"`` (dropped at export) or ``"inline"``; see `DifomUNet`.
        latent_channels: channels of L1 and L2.
        align_corners: corner alignment of the upsampling; True in the published code.
        pretrained: file of ``export --encoder-only`` of a student with the same encoder; None for random weights.

    Attributes:
        taps: encoder ``stride1`` ... ``bottleneck``, decoder ``decoder_stride1`` ... (the last node of each
            level), and ``L1``, ``L2`` where there are latents.
        training_only: name prefixes of parameters that the exported network does not have.

    Raises:
        ValueError: in ``forward``, when a side of the image is no multiple of the deepest stride.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 1,
        features: Sequence[int] = (32, 64, 128, 256, 512),
        act: str | tuple = ("relu", {"inplace": True}),
        norm: str | tuple = "batch",
        bias: bool = True,
        dropout: float = 0.0,
        latents: LatentMode = "none",
        latent_channels: int = 256,
        align_corners: bool = True,
        pretrained: str | os.PathLike | None = None,
    ) -> None:
        widths = tuple(int(width) for width in features)
        depth = len(widths)
        block = (act, norm, bias, dropout)
        # the last node of level i is x{i}_{depth-1-i}
        last = [f"decoder.{depth - 2 - i}.{i}" for i in range(depth - 1)]
        super().__init__(spatial_dims, in_channels, widths, block, latents, latent_channels, pretrained, last)
        self.align_corners = align_corners
        # column j holds the nodes x{i}_{j}, i = 0 .. depth - 1 - j
        self.decoder = nn.ModuleList(
            nn.ModuleList(
                DoubleConv(spatial_dims, j * widths[i] + widths[i + 1], widths[i], *block)
                for i in range(depth - j)
            )
            for j in range(1, depth)
        )
        self.head = Conv[Conv.CONV, spatial_dims](widths[0], out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``(B, out_channels, *spatial)`` of an image ``(B, in_channels, *spatial)``."""
        if x.dim() == 4 and not x.is_cuda:
            # the same numbers, a third faster on CPUs: concatenations and convolutions of many channels
            x = x.contiguous(memory_format=torch.channels_last)
        rows = [[found] for found in self.encode(x)]
        for column in self.decoder:
            # every node of a column reads only the column before it at the level below
            below = [row[-1] for row in rows]
            for i, node in enumerate(column):
                up = upsample_like(below[i + 1], rows[i][0], self.align_corners)
                rows[i].append(node(torch.cat(rows[i] + [up], 1)))
        return self.head(rows[0][-1])


def published_key(key: str) -> str | None:
    """Map a key of the published U-Net++ checkpoint to this network's key; None for the fusion layer.

    ======================================  ==========================================
    published                               here
    ======================================  ==========================================
    ``conv{i}_0.conv1``, ``.bn1``, ...      ``encoder.{i}.conv1``, ``.norm1``, ...
    ``conv{i}_{j}.conv1``, ...              ``decoder.{j-1}.{i}.conv1``, ...
    ``linear1.0`` / ``linear2``             ``latents.L1.0`` / ``latents.L2``
    ``final``                               ``head``
    ``linear.0`` (teacher fusion)           none: it is the teachers' side
    ======================================  ==========================================
    """
    module, rest = key.split(".", 1)
    if module == "linear":
        return None
    if module == "final":
        return f"head.{rest}"
    if module in ("linear1", "linear2"):
        return f"latents.L{module[-1]}.{rest}"
    level, column = module.removeprefix("conv").split("_")
    place = f"encoder.{level}" if column == "0" else f"decoder.{int(column) - 1}.{level}"
    return f"{place}.{rest.replace('bn', 'norm', 1)}"


def load_published_unetpp(
    network: DifomUNetPlusPlus, checkpoint: str | os.PathLike | Mapping[str, torch.Tensor]
) -> DifomUNetPlusPlus:
    """Load a checkpoint of the published Polyp-DiFoM U-Net++ (2F or 3F) into a network of the same widths.

    Args:
        network: default widths; ``latents="side"`` takes the published latents too, ``"none"`` leaves them
            out (they are not on the published path from image to mask).
        checkpoint: file, or its state dict.

    Returns:
        The network.

    Raises:
        ValueError: a key of the checkpoint has no place, or a parameter of the network has no key.
    """
    own = network.state_dict()

    def rename(key: str) -> str | None:
        target = published_key(key)
        return None if target is not None and target.startswith("latents.") and target not in own else target

    return load_published(network, checkpoint, rename, "U-Net++")
