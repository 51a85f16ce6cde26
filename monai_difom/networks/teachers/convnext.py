"""DINOv3's ConvNeXt encoders as teachers (Siméoni et al., "DINOv3", 2025; Liu et al., "A ConvNet for the 2020s", CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...utils import look_up
from .base import Teacher, TeacherMap
from .hub import Normalisation, config_text, hub_contract, licence_of, load_config, load_hub_network

_STRIDES = (4, 8, 16, 32)
_FAMILIES = {"dinov3_convnext": "DINOv3 License"}


class ConvNextTeacher(Teacher):
    """Give the stages of a DINOv3 ConvNeXt as maps ``stride4``, ``stride8``, ``stride16`` and ``stride32``.

    ``stride32`` has passed the final norm, as the model's own patch tokens have; the others are the raw outputs of
    their stages.

    Args:
        model: hub name (``"facebook/dinov3-convnext-tiny-pretrain-lvd1689m"``, gated) or local folder.
        maps: which of the maps to give.
        input_size: side, or (height, width), multiples of 32; None keeps the size of the image, rounded so.
        mean: per-channel mean for an image in [0, 1]; None takes ``preprocessor_config.json``, or ImageNet's.
        std: per-channel standard deviation, in the same way.
        licence: licence of the weights; None takes the publisher's.

    Raises:
        ValueError: the model is of another family, its weights do not fit, or a size or map is not allowed.
        OSError: the model is neither a local folder nor reachable on the hub.

    Example::

        teacher = ConvNextTeacher("weights/dinov3-convnext-tiny", maps=["stride8", "stride16"])
        teacher(torch.rand(1, 3, 352, 352))["stride8"].shape  # (1, 192, 44, 44)
    """

    def __init__(
        self,
        model: str,
        maps: Sequence[str] = ("stride4", "stride8", "stride16", "stride32"),
        input_size: int | Sequence[int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        licence: str | None = None,
    ) -> None:
        model = str(model)
        config = load_config(model)
        default = look_up(f"model type of {model}", config.model_type, _FAMILIES)
        stages = {
            f"stride{stride}": TeacherMap(int(channels), stride)
            for stride, channels in zip(_STRIDES, config.hidden_sizes, strict=True)
        }
        chosen = {name: look_up(f"map of {model}", name, stages) for name in maps}
        network = load_hub_network(model)
        contract = hub_contract(model, Normalisation(), input_size, _STRIDES[-1], mean, std)
        super().__init__(chosen, contract, licence or licence_of(model, default), model)
        self.network = network
        self.freeze()

    def extract(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the maps ``(B, C, h, w)`` of a prepared batch ``(B, 3, H, W)``."""
        network: Any = self.network
        found: dict[str, torch.Tensor] = {}
        for stride, stage in zip(_STRIDES, network.model.stages, strict=True):
            image = stage(image)
            found[f"stride{stride}"] = image
        last = network.layer_norm(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()
        return {**found, f"stride{_STRIDES[-1]}": last}

    def signature_extra(self) -> str:
        """Return the configuration, which holds what the weights alone do not show."""
        config: Any = self.network.config
        return config_text(config)
