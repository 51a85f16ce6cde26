"""MedCLIP's image encoders as teachers (Wang et al., "MedCLIP", EMNLP 2022), from the published ``pytorch_model.bin``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...utils import look_up, unknown_name
from ..weights import fill_network, read_weights
from .base import InputContract, Teacher, TeacherMap, fixed_size
from .hub import check_missing, config_text

_MEAN, _STD = 0.5862785803043838, 0.27950088968644304
_STRIDES = (16, 32)
_PREFIX = "vision_model."
_FILE = "pytorch_model.bin"
_SWIN_TINY = {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24), "window_size": 7}
_WHERE = (
    "The published archives are https://storage.googleapis.com/pytrial/medclip-vit-pretrained.zip (Swin) and "
    "https://storage.googleapis.com/pytrial/medclip-pretrained.zip (ResNet-50); unpack one and give its folder or its "
    "pytorch_model.bin as `weights` (command line of a bundle: --medclip_weights)."
)


class MedCLIPTeacher(Teacher):
    """Give the last two stages of MedCLIP's image encoder, and its embedding before the pooling.

    Which encoder the file holds, Swin-Tiny or ResNet-50, is seen from its keys. ``stride16`` is the output of the last
    stage but one, ``stride32`` that of the last (normed in Swin). ``embedding`` is ``stride32`` through the projection:
    its mean over the grid is the image's embedding, which was matched with reports in training.

    MedCLIP was trained on chest X-rays of one channel: the image is turned to grey, by the luma that its own processor
    uses. Its processor pads to a square; here the image is squashed, as for all teachers.

    Args:
        weights: ``pytorch_model.bin`` as published, or the folder that holds it.
        maps: which of ``stride16``, ``stride32`` and ``embedding`` to give.
        input_size: side, or (height, width), multiples of 32; trained at 224. None keeps the size of the image.
        architecture: values that replace those of Swin-Tiny, for a Swin of another shape: ``embed_dim``, ``depths``,
            ``num_heads``, ``window_size``.
        licence: licence of the weights; that of the published repository is MIT.

    Raises:
        ValueError: the file holds no MedCLIP, its weights do not fit, or a size or map is not allowed.
        FileNotFoundError: there is no such weight file.

    Example::

        teacher = MedCLIPTeacher("weights/medclip-vit", maps=["stride16"])
        teacher(torch.rand(1, 3, 352, 352))["stride16"].shape  # (1, 384, 14, 14)
    """

    def __init__(
        self,
        weights: str | os.PathLike | None = None,
        maps: Sequence[str] = ("stride16", "stride32"),
        input_size: int | Sequence[int] | None = 224,
        architecture: Mapping[str, Any] | None = None,
        licence: str = "MIT",
    ) -> None:
        if weights is None:
            raise ValueError(f"a MedCLIPTeacher needs weights=<path of its file or folder>. {_WHERE}")
        file, state = _read(weights)
        if any(key.startswith("model.encoder.layers.") for key in state):
            network, stages, widths, shape = _swin(file, state, architecture or {})
        else:
            network, stages, widths, shape = _resnet(file, state)
        known = {f"stride{s}": TeacherMap(c, s) for s, c in zip(_STRIDES, widths, strict=True)}
        projection = _projection(file, state, widths[-1])
        known["embedding"] = TeacherMap(projection.shape[0], _STRIDES[-1])
        chosen = {name: look_up("map of MedCLIP", name, known) for name in maps}
        contract = InputContract(
            fixed_size(input_size, _STRIDES[-1]),
            (_MEAN,) * 3,
            (_STD,) * 3,
            _STRIDES[-1],
            "bicubic",
            colour="grey",
        )
        super().__init__(chosen, contract, licence, os.fspath(weights))
        self.network = network
        self.projection = nn.Parameter(projection)
        self.shape = shape
        self._stages = stages
        self.freeze()

    def extract(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the maps ``(B, C, h, w)`` of a prepared batch ``(B, 3, H, W)``."""
        fine, coarse = self._stages(self.network, image)
        embedding = F.conv2d(coarse, self.projection[:, :, None, None])
        return {"stride16": fine, "stride32": coarse, "embedding": embedding}

    def signature_extra(self) -> str:
        """Return the shape values that the weights alone do not show, such as the number of heads."""
        return self.shape


def _read(weights: str | os.PathLike) -> tuple[Path, dict[str, torch.Tensor]]:
    """Return the weight file and its image encoder's tensors, without their common prefix."""
    path = Path(weights)
    file = path / _FILE if path.is_dir() else path
    state = read_weights(file, _WHERE)
    found = {key[len(_PREFIX) :]: value for key, value in state.items() if key.startswith(_PREFIX)}
    if not found:
        raise ValueError(
            f"{file} holds no MedCLIP: no key starts with {_PREFIX!r} (first keys: {', '.join(list(state)[:3])}). {_WHERE}"
        )
    return file, found


def _swin(
    file: Path, state: Mapping[str, torch.Tensor], architecture: Mapping[str, Any]
) -> tuple[nn.Module, Callable, tuple[int, int], str]:
    """Build the Swin encoder; its key layout is that of transformers, which renames it where its own has changed."""
    from transformers import SwinConfig, SwinModel

    shape: dict[str, Any] = dict(_SWIN_TINY)
    for name, value in architecture.items():
        if name not in shape:
            raise ValueError(unknown_name("architecture value", name, shape))
        shape[name] = value
    config = SwinConfig(**{k: list(v) if isinstance(v, Sequence) else v for k, v in shape.items()})
    prefix = "model."
    weights = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    try:
        network, report = SwinModel.from_pretrained(
            None, config=config, state_dict=weights, output_loading_info=True, dtype=torch.float32
        )
    except RuntimeError as error:  # shapes that differ
        raise ValueError(f"{file} does not fit a Swin of {shape}: {error} {_WHERE}") from error
    check_missing(report["missing_keys"], str(file), network)
    deepest = int(shape["embed_dim"]) * 2 ** (len(shape["depths"]) - 1)
    return (
        network,
        _swin_stages,
        (deepest // 2, deepest),
        config_text(config),
    )


def _swin_stages(network: Any, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output of the last stage but one, before its merging of patches, and of the last one, normed."""
    kept: list[torch.Tensor] = []

    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    handle = network.encoder.layers[-2].blocks[-1].register_forward_hook(keep)
    try:
        last = network(image).last_hidden_state
    finally:
        handle.remove()
    fine, coarse = (_to_map(t, image, s) for t, s in zip((kept[0], last), _STRIDES, strict=True))
    return fine, coarse


def _to_map(tokens: torch.Tensor, image: torch.Tensor, stride: int) -> torch.Tensor:
    """Lay tokens ``(B, N, C)`` out row by row as ``(B, C, h, w)``."""
    grid = (image.shape[-2] // stride, image.shape[-1] // stride)
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *grid)


def _resnet(
    file: Path, state: Mapping[str, torch.Tensor]
) -> tuple[nn.Module, Callable, tuple[int, int], str]:
    """Build the ResNet-50 encoder, in torchvision's key layout."""
    from torchvision.models import resnet50

    network = resnet50()
    network.fc = nn.Identity()  # type: ignore[assignment]
    prefix = "model."
    weights = {key[len(prefix) :]: value.float() for key, value in state.items() if key.startswith(prefix)}
    weights = {key: value for key, value in weights.items() if not key.startswith("fc.")}
    fill_network(network, weights, file, _WHERE)
    return network, _resnet_stages, (1024, 2048), "resnet50"


def _resnet_stages(network: Any, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the outputs of the last two stages."""
    stem = network.maxpool(network.relu(network.bn1(network.conv1(image))))
    fine = network.layer3(network.layer2(network.layer1(stem)))
    return fine, network.layer4(fine)


def _projection(file: Path, state: Mapping[str, torch.Tensor], width: int) -> torch.Tensor:
    """Return the projection ``(512, width)``, which has no bias: Swin's own head, or ResNet's last layer."""
    found = state.get("projection_head.weight", state.get("model.fc.weight"))
    if found is None or found.ndim != 2 or found.shape[1] != width:
        shape = "none" if found is None else f"one of shape {tuple(found.shape)}"
        raise ValueError(f"{file} should have a projection of {width} channels and has {shape}. {_WHERE}")
    return found.float()
