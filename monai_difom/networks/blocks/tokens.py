"""Hidden states of vision transformers as maps, at any image size."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets import ViT
from torch import nn

from ..encoders import Pretrained, load_encoder


class TimmTokens(nn.Module):
    """Hidden states of a plain vision transformer of timm (ViT, DeiT, DINOv2 and v3, EVA, ...).

    Args:
        name: timm model, such as ``"vit_tiny_patch16_224"``.
        pretrained: false, a hub name or a local file; see `load_encoder`.
        in_channels: channels of the image.
        image_size: (height, width) for which the position embedding is stored, multiples of the patch; other sizes are
            resampled from it.

    Attributes:
        patch: (height, width) of a patch in pixels.
        depth: number of layers.
        width: channels of a hidden state.

    Raises:
        ValueError: the model is no plain vision transformer.
    """

    # TorchScript leaves out the branch that a constant rules out
    __constants__ = ("prefix", "rope_of_layer", "rotary")

    def __init__(
        self, name: str, pretrained: Pretrained, in_channels: int, image_size: Sequence[int]
    ) -> None:
        super().__init__()
        refused = (
            f"{name} is no plain vision transformer. Give one (vit_tiny_patch16_224), or use LightSegmenter."
        )
        try:
            found: Any = load_encoder(name, pretrained, in_channels, dynamic_img_size=True)
        except TypeError as error:
            raise ValueError(refused) from error
        if not hasattr(found, "model") or not hasattr(found.model, "blocks"):
            raise ValueError(refused)
        self.model = found.model
        self.patch = list(self.model.patch_embed.patch_size)
        self.depth = len(self.model.blocks)
        self.width = int(self.model.embed_dim)
        self.prefix = int(self.model.num_prefix_tokens)
        # rotary position embeddings, of which some models have one per layer
        self.rotary = hasattr(self.model, "rope")
        self.rope_of_layer = bool(getattr(self.model, "rope_mixed", False))
        self.model.set_input_size(fit_to_patch(list(image_size), self.patch))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the map ``(B, width, *grid)`` of every layer, first layer first."""
        # what timm's forward_intermediates does, which TorchScript cannot compile
        x = self.model.patch_embed(image)
        grid = [x.shape[1], x.shape[2]]
        rope: torch.Tensor | None = None
        if self.rotary:
            x, rope = self.model._pos_embed(x)
        else:
            x = self.model._pos_embed(x)
        x = self.model.norm_pre(x)
        maps: list[torch.Tensor] = []
        for i, block in enumerate(self.model.blocks):
            if self.rotary:  # noqa: SIM108 - TorchScript compiles one branch of a statement only
                x = block(x, rope[i] if self.rope_of_layer and rope is not None else rope)
            else:
                x = block(x)
            maps.append(x[:, self.prefix :].transpose(1, 2).unflatten(2, grid))
        return maps


class MonaiTokens(nn.Module):
    """Hidden states of MONAI's `ViT`, 2D or 3D.

    Args:
        network: the transformer, without ``classification``.
        image_size: the ``img_size`` that it was built with, one side or one per axis.

    Attributes:
        patch, depth, width: as of `TimmTokens`.

    Raises:
        ValueError: it classifies, cuts its patches with another projection than ``"conv"``, or has another image size.
    """

    def __init__(self, network: ViT, image_size: int | Sequence[int]) -> None:
        super().__init__()
        project = network.patch_embedding.patch_embeddings
        if network.classification or isinstance(project, nn.Sequential):
            raise ValueError("a MONAI ViT as encoder needs classification=False and proj_type='conv'.")
        self.patch = list(project.kernel_size)
        self.depth = len(network.blocks)
        self.width = int(project.out_channels)
        sides = [image_size] * len(self.patch) if isinstance(image_size, int) else list(image_size)
        self.grid = [side // step for side, step in zip(sides, self.patch, strict=True)]
        if prod(self.grid) != network.patch_embedding.n_patches:
            raise ValueError(
                f"image_size is {tuple(sides)}, which makes {prod(self.grid)} patches of {self.patch}; the MONAI ViT "
                f"was built for {network.patch_embedding.n_patches}. Give the same size as image_size and img_size."
            )
        # parts that no hidden state passes would be trained in vain
        network.norm = nn.Identity()
        for block in network.blocks:
            block.norm_cross_attn = nn.Identity()
        self.model = network

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the map ``(B, width, *grid)`` of every layer, first layer first."""
        embedding = self.model.patch_embedding
        x = embedding.patch_embeddings(image)
        grid = list(x.shape[2:])
        x = embedding.dropout(x.flatten(2).transpose(1, 2) + self._position(grid))
        maps: list[torch.Tensor] = []
        for block in self.model.blocks:
            x = block(x)
            maps.append(x.transpose(1, 2).unflatten(2, grid))
        return maps

    def _position(self, grid: list[int]) -> torch.Tensor:
        """Return the position embedding ``(1, N, width)`` of a grid, resampled linearly from the stored one."""
        stored = self.model.patch_embedding.position_embeddings
        if grid == self.grid:
            return stored
        mode = "bilinear" if len(grid) == 2 else "trilinear"
        maps = stored.transpose(1, 2).unflatten(2, self.grid)
        return F.interpolate(maps, size=grid, mode=mode, align_corners=False).flatten(2).transpose(1, 2)


def fit_to_patch(size: list[int], patch: list[int]) -> list[int]:
    """Return the nearest size whose sides are multiples of the patch's, one patch at least."""
    # int: to TorchScript a rounded number is still a float
    return [max(1, int(round(side / patch[i]))) * patch[i] for i, side in enumerate(size)]  # noqa: RUF046
