"""The image encoders of SAM and SAM 2 as the transformers library serves them.

Kirillov et al., "Segment Anything", ICCV 2023; Ravi et al., "SAM 2: Segment Anything in Images and Videos", 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...utils import look_up
from .base import InputContract, Teacher, TeacherMap, fixed_size
from .hub import Normalisation, config_text, licence_of, load_config, load_hub_network, read_normalisation
from .segment_anything import resample_positions

_SAM = ("sam", "sam_vision_model")
# SAM 2's image and video models share the encoder; what tracks objects over time is not used here
_SAM2 = ("sam2", "sam2_video", "sam2_vision_model")
_LOADERS = {
    "sam": "SamModel",
    "sam_vision_model": "SamVisionModel",
    "sam2": "Sam2Model",
    "sam2_video": "Sam2VideoModel",
    "sam2_vision_model": "Sam2VisionModel",
}
_UNUSED = (
    "prompt_encoder",
    "mask_decoder",
    "memory_",
    "shared_image_embedding",
    "no_",
    "object_",
    "occlusion_",
)


class HubSAMTeacher(Teacher):
    """Give the image embedding of SAM, or the feature pyramid of SAM 2, from the transformers library.

    SAM (and MedSAM, ``wanglab/medsam-vit-base``) has the one map ``embedding``, at stride 16. SAM 2 has ``stride16``,
    which its mask decoder starts from, and the finer ``stride8`` and ``stride4``, which refine the mask. The image is
    squashed to the square, so that the maps cover its field of view.

    Args:
        model: hub name (``"facebook/sam-vit-base"``, ``"facebook/sam2.1-hiera-large"``) or local folder.
        maps: which maps to give; None gives ``embedding`` or ``stride16``.
        input_size: side of the square; a multiple of 16 for SAM and of 32 for SAM 2. None takes the trained side. At
            another one SAM's position embedding is resampled once.
        span: ``"unit"`` normalises by mean and deviation, ``"min_max"`` stretches each image to [0, 1], as MedSAM was
            trained; None takes ``"min_max"`` for MedSAM by its name and ``"unit"`` for all others.
        mean: per-channel mean for an image in [0, 1]; None takes ``preprocessor_config.json``, or ImageNet's.
        std: per-channel standard deviation, in the same way.
        licence: licence of the weights; None takes the publisher's.

    Raises:
        ValueError: the model is of another family, its weights do not fit, or a size or map is not allowed.
        OSError: the model is neither a local folder nor reachable on the hub.

    Example::

        teacher = HubSAMTeacher("facebook/sam2.1-hiera-tiny", maps=["stride8", "stride16"], input_size=512)
        teacher(torch.rand(1, 3, 352, 352))["stride8"].shape  # (1, 256, 64, 64)
    """

    def __init__(
        self,
        model: str,
        maps: Sequence[str] | None = None,
        input_size: int | None = None,
        span: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        licence: str | None = None,
    ) -> None:
        model = str(model)
        kind = load_config(model).model_type
        network: Any = load_hub_network(model, look_up(f"model type of {model}", kind, _LOADERS), _UNUSED)
        encoder = getattr(network, "vision_encoder", network)
        vision = encoder.config
        if kind in _SAM:
            multiple, trained = int(vision.patch_size), vision.image_size
            known = {"embedding": TeacherMap(int(vision.output_channels), multiple)}
            default = ["embedding"]
        else:
            multiple, trained = 32, vision.backbone_config.image_size
            fine = [4 * 2**level for level in range(int(vision.num_feature_levels))]
            known = {
                f"stride{stride}": TeacherMap(int(vision.fpn_hidden_size), stride)
                for stride in reversed(fine)
            }
            default = [next(iter(known))]
        chosen = {
            name: look_up(f"map of {model}", name, known) for name in (default if maps is None else maps)
        }
        size = _square(input_size, trained, multiple)
        if span is None:
            span = "min_max" if "medsam" in Path(model).name.lower() else "unit"
        normalisation = read_normalisation(model, Normalisation()).replaced(mean, std)
        if span == "min_max" and mean is None and std is None:
            normalisation = Normalisation((0.0,) * 3, (1.0,) * 3, "bicubic")
        contract = InputContract(
            size, normalisation.mean, normalisation.std, multiple, normalisation.interpolation, span=span
        )
        super().__init__(chosen, contract, licence or licence_of(model), model)
        self.pyramid = kind in _SAM2
        self.encoder: nn.Module = encoder
        if kind in _SAM:
            _resize(encoder, size[0] // multiple, size)
        self.freeze()

    def extract(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the maps ``(B, 256, h, w)`` of a prepared batch ``(B, 3, S, S)``."""
        output = self.encoder(image)
        if not self.pyramid:
            return {"embedding": output.last_hidden_state}
        return {f"stride{4 * 2**level}": found for level, found in enumerate(output.fpn_hidden_states)}

    def signature_extra(self) -> str:
        """Return the configuration, which holds what the weights alone do not show, such as window sizes."""
        config: Any = self.encoder.config
        return config_text(config)


def _square(input_size: int | None, trained: int | Sequence[int], multiple: int) -> tuple[int, int]:
    """Return ``(side, side)`` of the input, the trained one where none is given."""
    side = input_size if input_size is not None else (trained if isinstance(trained, int) else trained[0])
    size = fixed_size(side, multiple)
    if size is None or size[0] != size[1]:
        raise ValueError(f"input_size is {input_size!r}; Segment Anything takes a square: give one number.")
    return size


def _resize(encoder: Any, grid: int, size: tuple[int, int]) -> None:
    """Make SAM's encoder take another square than the trained one."""
    if encoder.pos_embed is not None:
        encoder.pos_embed = resample_positions(encoder.pos_embed, grid)
    encoder.patch_embed.image_size = size
