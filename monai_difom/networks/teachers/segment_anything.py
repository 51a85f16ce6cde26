"""The image encoder of Segment Anything as a teacher.

Kirillov et al., "Segment Anything", ICCV 2023. MedSAM checkpoints have the same layout and load the same way.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...utils import look_up, unknown_name
from ..weights import fill_network, read_weights
from .base import InputContract, Teacher, TeacherMap, fixed_size

_PATCH = 16
_CHANNELS = 256
_PREFIX = "image_encoder."
_PIXEL_MEAN = (123.675 / 255, 116.28 / 255, 103.53 / 255)
_PIXEL_STD = (58.395 / 255, 57.12 / 255, 57.375 / 255)
_DOWNLOADS = "https://dl.fbaipublicfiles.com/segment_anything/"

_ARCHITECTURES: dict[str, dict[str, Any]] = {
    "vit_b": {
        "embed_dim": 768,
        "depth": 12,
        "num_heads": 12,
        "global_attn_indexes": (2, 5, 8, 11),
        "img_size": 1024,
    },
    "vit_l": {
        "embed_dim": 1024,
        "depth": 24,
        "num_heads": 16,
        "global_attn_indexes": (5, 11, 17, 23),
        "img_size": 1024,
    },
    "vit_h": {
        "embed_dim": 1280,
        "depth": 32,
        "num_heads": 16,
        "global_attn_indexes": (7, 15, 23, 31),
        "img_size": 1024,
    },
}
_FILES = {
    "vit_b": "sam_vit_b_01ec64.pth",
    "vit_l": "sam_vit_l_0b3195.pth",
    "vit_h": "sam_vit_h_4b8939.pth",
}


class SegmentAnythingTeacher(Teacher):
    """Give SAM's image embedding, the map that its mask decoder starts from.

    The one map is ``embedding``: ``(B, 256, input_size / 16, input_size / 16)``. The image is squashed to a
    square where SAM itself pads, so that the map covers the field of view of the image and nothing else.

    At another ``input_size`` than the trained one, the absolute position embedding is resampled once
    (bicubic), and the relative position tables of the global blocks are interpolated by the package at run
    time. At 1024 the features are the published encoder's; a smaller size is faster by more than its pixel
    ratio.

    Args:
        model_type: ``"vit_b"``, ``"vit_l"`` or ``"vit_h"``.
        weights: a checkpoint in the published layout: the whole SAM (keys ``image_encoder.*``) or its encoder
            alone.
        input_size: side of the square that the image is resized to, in pixels; a multiple of 16.
        architecture: values that replace those of ``model_type``, for a SAM of another shape: ``embed_dim``,
            ``depth``, ``num_heads``, ``global_attn_indexes``, ``img_size`` (the trained input side).
        licence: licence of the weights; the published ones are Apache-2.0.

    Raises:
        ValueError: no weights are given, they do not fit, or a size or name is not allowed.
        FileNotFoundError: there is no such weight file.

    Example::

        teacher = SegmentAnythingTeacher("vit_b", "weights/sam_vit_b_01ec64.pth", input_size=512)
        teacher(torch.rand(1, 3, 352, 352))["embedding"].shape  # (1, 256, 32, 32)
    """

    def __init__(
        self,
        model_type: str = "vit_b",
        weights: str | os.PathLike | None = None,
        input_size: int = 1024,
        architecture: Mapping[str, Any] | None = None,
        licence: str = "Apache-2.0",
    ) -> None:
        shape = dict(look_up("Segment Anything model type", model_type, _ARCHITECTURES))
        for name, value in (architecture or {}).items():
            if name not in shape:
                raise ValueError(unknown_name("architecture value", name, shape))
            shape[name] = value
        if weights is None:
            raise ValueError(
                f"a SegmentAnythingTeacher needs weights=<path of a checkpoint>. {_where(model_type)}"
            )
        size = fixed_size(input_size, _PATCH)
        if size is None or size[0] != size[1]:
            raise ValueError(
                f"input_size is {input_size!r}; Segment Anything takes a square: give one number."
            )
        contract = InputContract(size=size, mean=_PIXEL_MEAN, std=_PIXEL_STD, multiple_of=_PATCH)
        super().__init__({"embedding": TeacherMap(_CHANNELS, _PATCH)}, contract, licence, os.fspath(weights))
        self.architecture = shape
        self.encoder = _load_encoder(shape, weights, model_type)
        _resize_positions(self.encoder, size[0] // _PATCH)
        self.freeze()

    def extract(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return ``{"embedding": (B, 256, S/16, S/16)}`` for a prepared batch ``(B, 3, S, S)``."""
        return {"embedding": self.encoder(image)}

    def signature_extra(self) -> str:
        """Return the shape values that the weights alone do not show, such as the number of heads."""
        return repr(sorted((name, _plain(value)) for name, value in self.architecture.items()))


def _plain(value: Any) -> Any:
    """Make a list from a configuration and a tuple from Python look the same."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _where(model_type: str) -> str:
    """Say where the published weights of a model type are."""
    return f"The published file is {_FILES[model_type]}, at {_DOWNLOADS}{_FILES[model_type]}."


def _load_encoder(shape: Mapping[str, Any], weights: str | os.PathLike, model_type: str) -> nn.Module:
    """Build the encoder at its trained input size and fill it from a checkpoint."""
    from segment_anything.modeling import ImageEncoderViT

    state = read_weights(weights, _where(model_type))
    if any(key.startswith(_PREFIX) for key in state):
        state = {key[len(_PREFIX) :]: value for key, value in state.items() if key.startswith(_PREFIX)}
    # on the meta device nothing is initialised: the random weights of vit_h alone take many seconds
    with torch.device("meta"):
        encoder = ImageEncoderViT(
            **{**shape, "global_attn_indexes": tuple(shape["global_attn_indexes"])},
            patch_size=_PATCH,
            out_chans=_CHANNELS,
            mlp_ratio=4,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=14,
        )
    advice = f"Is it the file of another model type than {model_type!r}? {_where(model_type)}"
    fill_network(encoder, state, weights, advice, assign=True)
    return encoder.float()


def _resize_positions(encoder: nn.Module, side: int) -> None:
    """Resample the absolute position embedding ``(1, h, w, C)`` to ``side`` x ``side`` tokens."""
    positions: torch.Tensor = encoder.pos_embed  # type: ignore[assignment]
    if tuple(positions.shape[1:3]) == (side, side):
        return
    grid = positions.detach().permute(0, 3, 1, 2)  # (1, C, h, w)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False, antialias=True)
    encoder.pos_embed = nn.Parameter(grid.permute(0, 2, 3, 1).contiguous())
