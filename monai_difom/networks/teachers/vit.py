"""Plain vision transformers of the transformers library as teachers: DINOv2, DINOv3, CLIP, SigLIP, I-JEPA.

Any model of these families loads by its hub name or from a local folder, RAD-DINO (a DINOv2 with its own mean and
deviation) and other medical ones included. SigLIP 2 loads in its fixed sizes; its NaFlex models take packed patches
of any shape and are another family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...utils import look_up
from .base import Teacher, TeacherMap
from .hub import (
    CLIP,
    HALF,
    SEE_CARD,
    Normalisation,
    config_text,
    hub_contract,
    licence_of,
    load_config,
    load_hub_network,
)


@dataclass(frozen=True)
class _Family:
    """What differs between model types of the library.

    Args:
        normalisation: where the model brings no preprocessor configuration.
        class_tokens: class tokens before the patch tokens.
        flag: the model resamples its position embedding only when told to.
        loader: class of the library; that of the vision tower where there is a text tower too.
    """

    normalisation: Normalisation
    class_tokens: int = 1
    flag: bool = False
    loader: str = "AutoModel"


_IMAGENET_FAMILY = _Family(Normalisation(interpolation="bicubic"))
_CLIP_FAMILY = _Family(Normalisation(*CLIP, "bicubic"), flag=True, loader="CLIPVisionModel")
# SigLIP's pooling head has a token of its own, which is no token of the sequence
_SIGLIP_FAMILY = _Family(
    Normalisation(*HALF, "bicubic"), class_tokens=0, flag=True, loader="SiglipVisionModel"
)
_FAMILIES = {
    "dinov2": _IMAGENET_FAMILY,
    "dinov2_with_registers": _IMAGENET_FAMILY,
    "dinov3_vit": _Family(Normalisation()),
    "clip": _CLIP_FAMILY,
    "clip_vision_model": _CLIP_FAMILY,
    "siglip": _SIGLIP_FAMILY,
    "siglip_vision_model": _SIGLIP_FAMILY,
    "ijepa": _Family(Normalisation(interpolation="bicubic"), class_tokens=0, flag=True),
}
# models whose mean and deviation are not those of their family, so that they may not be guessed
_OWN_NORMALISATION = ("rad-dino",)


class ViTTeacher(Teacher):
    """Give the patch tokens of a vision transformer as maps.

    The main map is ``tokens``: the model's ``last_hidden_state`` without class and register tokens, on its
    grid ``(B, C, h / patch, w / patch)``. In DINOv2, DINOv3, SigLIP and I-JEPA it has passed the final norm; CLIP
    norms only its class token, so there it is the output of the last block. ``layers`` adds maps
    ``layer{i}``, the raw output of block ``i`` counted from 1, with no norm after it.

    Args:
        model: hub name (``"facebook/dinov2-base"``) or local folder with ``config.json`` and
            ``model.safetensors``.
        layers: blocks that are given as additional maps, counted from 1.
        input_size: side, or (height, width), that the image is resized to, multiples of the patch; None keeps
            the size of the image, rounded to whole patches.
        mean: per-channel mean for an image in [0, 1]; None takes ``preprocessor_config.json``, or the
            family's.
        std: per-channel standard deviation, in the same way.
        licence: licence of the weights; None takes that of the publisher where it is known.

    Raises:
        ValueError: the model is of no known family, its weights do not fit or hold code, a size is not allowed,
            or RAD-DINO comes without its preprocessor file.
        OSError: the model is neither a local folder nor reachable on the hub.

    Example::

        teacher = ViTTeacher("facebook/dinov2-base", layers=[6])
        teacher(torch.rand(1, 3, 352, 352))["tokens"].shape  # (1, 768, 25, 25)
    """

    def __init__(
        self,
        model: str,
        layers: Sequence[int] = (),
        input_size: int | Sequence[int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        licence: str | None = None,
    ) -> None:
        model = str(model)
        network, family = _load(model)
        config: Any = network.config
        patch = int(config.patch_size)
        depth = int(config.num_hidden_layers)
        if any(not 1 <= layer <= depth for layer in layers):
            raise ValueError(f"layers is {list(layers)}; {model} has blocks 1 to {depth}.")
        own = any(name in Path(model).name for name in _OWN_NORMALISATION)
        contract = hub_contract(model, family.normalisation, input_size, patch, mean, std, own)
        spec = TeacherMap(int(config.hidden_size), patch)
        maps = {"tokens": spec, **{f"layer{layer}": spec for layer in layers}}
        super().__init__(maps, contract, licence or _licence(model, config.model_type), model)
        self.layers = tuple(layers)
        self.patch = patch
        self.prefix_tokens = family.class_tokens + int(getattr(config, "num_register_tokens", 0) or 0)
        self.network = network
        self._arguments = {"interpolate_pos_encoding": True} if family.flag else {}
        self.freeze()

    def extract(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return ``tokens`` and ``layer{i}``, each ``(B, C, h, w)``, for prepared ``(B, 3, H, W)``."""
        output = self.network(image, output_hidden_states=bool(self.layers), **self._arguments)
        grid = (image.shape[-2] // self.patch, image.shape[-1] // self.patch)
        maps = {"tokens": self._to_map(output.last_hidden_state, grid)}
        for layer in self.layers:  # hidden state 0 is the embedding before the first block
            maps[f"layer{layer}"] = self._to_map(output.hidden_states[layer], grid)
        return maps

    def _to_map(self, tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Drop the prefix tokens of ``(B, N, C)`` and lay the rest out row by row as ``(B, C, h, w)``."""
        expected = self.prefix_tokens + grid[0] * grid[1]
        if tokens.shape[1] != expected:
            raise RuntimeError(
                f"{self.describe()} gave {tokens.shape[1]} tokens; {self.prefix_tokens} prefix tokens and a "
                f"{grid[0]}x{grid[1]} grid make {expected}."
            )
        return tokens[:, self.prefix_tokens :].transpose(1, 2).reshape(tokens.shape[0], -1, *grid)

    def signature_extra(self) -> str:
        """Return the configuration that the weights alone do not show, such as the number of heads."""
        return config_text(self.network.config)


def _load(model: str) -> tuple[nn.Module, _Family]:
    """Load the configuration, choose the class by it, and load the weights."""
    config = load_config(model)
    family = look_up(f"model type of {model}", config.model_type, _FAMILIES)
    return load_hub_network(model, family.loader), family


def _licence(model: str, model_type: str) -> str:
    """Return the licence of a model by its name; DINOv3's also binds what is derived from DINOv3."""
    return licence_of(model, "DINOv3 License" if model_type.startswith("dinov3") else SEE_CARD)
