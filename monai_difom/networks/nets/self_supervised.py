"""Pre-training of a timm vision transformer without masks: masked autoencoder and momentum contrast.

The transformer itself is changed in nothing: its state dict is timm's own, at the position grid that timm gives it, whatever the
size of the images.
"""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...utils import of_all_ranks, own_rank, world_size


def make_vit(encoder: str) -> Any:
    """Return a timm vision transformer with random weights that takes any image size in multiples of its patch.

    Raises:
        ValueError: timm has no such model, or it is no plain vision transformer.
    """
    import timm

    if not timm.is_model(encoder):
        raise ValueError(
            f"timm has no model {encoder!r}; give a vision transformer such as vit_tiny_patch16_224."
        )
    try:
        network: Any = timm.create_model(encoder, pretrained=False, num_classes=0, dynamic_img_size=True)
    except TypeError as error:
        raise ValueError(f"{encoder} is no plain vision transformer: {error}") from error
    if not all(
        hasattr(network, name) for name in ("blocks", "patch_embed", "pos_embed", "num_prefix_tokens")
    ):
        raise ValueError(f"{encoder} is no plain vision transformer; give one such as vit_tiny_patch16_224.")
    return network


def sine_positions(height: int, width: int, channels: int) -> torch.Tensor:
    """Return fixed sine and cosine position embeddings of a grid, ``(height * width, channels)``."""
    frequency = 10000 ** (-torch.arange(channels // 4).float() / (channels // 4))
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequency for axis in (y, x)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], 1)


class VitMaskedAutoencoder(nn.Module):
    r"""Masked autoencoder (He et al., CVPR 2022): the encoder sees a quarter of the patches, a small decoder draws the rest.

    .. math:: L = \frac{1}{|M|} \sum_{i \in M} \lVert \hat{x}_i - \tilde{x}_i \rVert^2 / d

    over the masked patches :math:`M`, with :math:`\tilde{x}_i` the pixels of patch :math:`i`, mean 0 and deviation 1.

    Args:
        encoder: name of a timm vision transformer.
        mask_ratio: share of the patches that are hidden, in (0, 1).
        decoder_width: channels of the decoder, a multiple of 16.
        decoder_depth: blocks of the decoder.

    Attributes:
        encoder: the transformer, in timm's keys.

    Raises:
        ValueError: a share outside (0, 1), or no plain vision transformer of this name.
    """

    def __init__(
        self,
        encoder: str = "vit_tiny_patch16_224",
        mask_ratio: float = 0.75,
        decoder_width: int = 192,
        decoder_depth: int = 4,
    ) -> None:
        super().__init__()
        from timm.models.vision_transformer import Block

        if not 0 < mask_ratio < 1:
            raise ValueError(
                f"mask_ratio is {mask_ratio}; allowed is a share between 0 and 1, 0.75 as published."
            )
        self.encoder = make_vit(encoder)
        self.mask_ratio = float(mask_ratio)
        self.patch = int(self.encoder.patch_embed.patch_size[0])
        self.decoder_width = decoder_width
        self.embed = nn.Linear(self.encoder.embed_dim, decoder_width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, decoder_width))
        heads = max(1, decoder_width // 32)
        self.decoder = nn.Sequential(
            *(Block(decoder_width, heads, qkv_bias=True) for _ in range(decoder_depth))
        )
        self.norm = nn.LayerNorm(decoder_width)
        self.head = nn.Linear(decoder_width, 3 * self.patch**2)

    def patches(self, image: torch.Tensor) -> torch.Tensor:
        """Cut ``(B, 3, H, W)`` into ``(B, patches, 3 * patch ** 2)``, row by row."""
        return F.unfold(image, self.patch, stride=self.patch).transpose(1, 2)

    def random_mask(self, image: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Return which patches are hidden, ``(B, patches)`` bool, the same number in every image.

        Of several processes, all draw the masks of the joined batch, and each takes its own.
        """
        count = (image.shape[2] // self.patch) * (image.shape[3] // self.patch)
        hidden = min(max(round(self.mask_ratio * count), 1), count - 1)
        joined = torch.rand(image.shape[0] * world_size(), count, generator=generator)
        order = joined[own_rank() :: world_size()].argsort(1)
        return (order < hidden).to(image.device)

    def encode_visible(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the encoder's tokens of the visible patches, ``(B, prefix + visible, C)``."""
        vit = self.encoder
        tokens = vit._pos_embed(vit.patch_embed(image))
        prefix, rest = tokens[:, : vit.num_prefix_tokens], tokens[:, vit.num_prefix_tokens :]
        seen = rest[~mask].view(rest.shape[0], -1, rest.shape[2])
        tokens = vit.norm_pre(torch.cat([prefix, seen], 1))
        return vit.norm(vit.blocks(tokens))

    def reconstruct(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the decoder's pixels of every patch, ``(B, patches, 3 * patch ** 2)``."""
        prefix = self.encoder.num_prefix_tokens
        tokens = self.embed(self.encode_visible(image, mask))
        grid = (image.shape[2] // self.patch, image.shape[3] // self.patch)
        full = self.mask_token.to(tokens.dtype).repeat(image.shape[0], mask.shape[1], 1)
        full[~mask] = tokens[:, prefix:].reshape(-1, self.decoder_width)
        full = full + sine_positions(*grid, self.decoder_width).to(full)
        drawn = self.norm(self.decoder(torch.cat([tokens[:, :prefix], full], 1)))
        return self.head(drawn[:, prefix:])

    def forward(self, image: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Return the loss of a batch ``(B, 3, H, W)``, normalised as the encoder wants it."""
        mask = self.random_mask(image, generator)
        target = self.patches(image)
        target = (target - target.mean(2, keepdim=True)) / (target.var(2, keepdim=True) + 1e-6).sqrt()
        return (self.reconstruct(image, mask).float() - target).pow(2).mean(2)[mask].mean()


class VitMomentumContrast(nn.Module):
    r"""MoCo v3 (Chen, Xie and He, ICCV 2021): two views of an image are near, those of others far.

    .. math:: L = 2 \tau\, [\mathrm{ctr}(q_1, k_2) + \mathrm{ctr}(q_2, k_1)], \quad
        \mathrm{ctr}(q, k) = -\log \frac{\exp(q \cdot k^+ / \tau)}{\sum_j \exp(q \cdot k_j / \tau)}

    Queries come from the encoder with a predictor, keys from its running average, which no gradient reaches. The patch projection
    stays as it was drawn, which the authors found to keep training stable.

    Args:
        encoder: name of a timm vision transformer.
        temperature: :math:`\tau`.
        hidden: hidden channels of projector and predictor.
        features: channels of their output.

    Attributes:
        encoder: the transformer, in timm's keys.

    Raises:
        ValueError: a temperature of 0 or below, or no plain vision transformer of this name.
    """

    def __init__(
        self,
        encoder: str = "vit_tiny_patch16_224",
        temperature: float = 0.2,
        hidden: int = 1024,
        features: int = 256,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}; it must be above 0.")
        self.temperature = float(temperature)
        self.encoder = make_vit(encoder)
        self.encoder.patch_embed.requires_grad_(False)
        self.projector = _mlp([self.encoder.embed_dim, hidden, hidden, features])
        self.predictor = _mlp([features, hidden, features])
        self.slow_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.slow_projector = copy.deepcopy(self.projector).requires_grad_(False)

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the momentum encoder towards the encoder: ``slow = momentum * slow + (1 - momentum) * fast``."""
        pairs = ((self.slow_encoder, self.encoder), (self.slow_projector, self.projector))
        for slow, fast in pairs:
            for kept, new in zip(slow.parameters(), fast.parameters(), strict=True):
                kept.lerp_(new, 1 - momentum)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return the loss of two views of a batch, each ``(B, 3, H, W)``, normalised as the encoder wants it."""
        queries = [self.predictor(self.projector(_summary(self.encoder, view))) for view in (first, second)]
        with torch.no_grad():
            keys = [self.slow_projector(_summary(self.slow_encoder, view)) for view in (first, second)]
        return self.contrast(queries[0], keys[1]) + self.contrast(queries[1], keys[0])

    def contrast(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        r"""Return :math:`2 \tau` times the InfoNCE loss; image i is the positive of image i.

        Of several processes, the keys of all are compared with.
        """
        keys = torch.cat(of_all_ranks(F.normalize(key.float(), dim=1)))
        similar = F.normalize(query.float(), dim=1) @ keys.T / self.temperature
        own = torch.arange(len(query), device=query.device) + own_rank() * len(query)
        return 2 * self.temperature * F.cross_entropy(similar, own)


def _summary(vit: Any, image: torch.Tensor) -> torch.Tensor:
    """One vector per image: the class token where there is one, the mean token otherwise."""
    tokens = vit.forward_features(image)
    return tokens[:, 0] if vit.cls_token is not None else tokens[:, vit.num_prefix_tokens :].mean(1)


def _mlp(sizes: list[int]) -> nn.Sequential:
    """Linear layers with batch norm, ReLU between them, and no scale in the last norm, as published."""
    layers: list[nn.Module] = []
    for i, (inside, outside) in enumerate(pairwise(sizes)):
        last = i == len(sizes) - 2
        layers += [nn.Linear(inside, outside, bias=False), nn.BatchNorm1d(outside, affine=not last)]
        layers += [] if last else [nn.ReLU()]
    return nn.Sequential(*layers)


def momentum_at(progress: float, start: float) -> float:
    """Return the momentum at a share of the training: from ``start`` to 1 along a cosine."""
    return 1 - (1 - start) * 0.5 * (1 + math.cos(math.pi * progress))
