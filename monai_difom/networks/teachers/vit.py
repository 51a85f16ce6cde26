"""Plain vision transformers of the transformers library as teachers: DINOv2, DINOv3, CLIP, I-JEPA.

Any model of these families loads by its hub name or from a local folder, RAD-DINO and other medical ones
included.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...utils import look_up
from .base import InputContract, Teacher, TeacherMap, fixed_size

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_PIL_BICUBIC = 3
_SEE_CARD = "see model card"

# configuration values that say where a model came from or who wrote the file, not what it computes
_VOLATILE = {"_name_or_path", "transformers_version", "architectures", "dtype", "id2label", "label2id"}

# what the publishers state; derived models may have another licence, so this goes by name and not by family
_LICENCES = {
    "facebook/dinov2": "Apache-2.0",
    "dinov2-": "Apache-2.0",
    "facebook/dinov3": "DINOv3 License",
    "dinov3-": "DINOv3 License",
    "openai/clip": "MIT",
    "clip-vit-": "MIT",
}


@dataclass(frozen=True)
class _Family:
    """What differs between model types of the library.

    Args:
        normalisation: mean and standard deviation where the model brings no preprocessor configuration.
        interpolation: resize filter in the same case.
        class_tokens: class tokens before the patch tokens.
        flag: the model resamples its position embedding only when told to.
        vision_only: class of the library that leaves the text tower out; empty for AutoModel.
    """

    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = _IMAGENET
    interpolation: str = "bicubic"
    class_tokens: int = 1
    flag: bool = False
    vision_only: str = ""


_CLIP_FAMILY = _Family(_CLIP, flag=True, vision_only="CLIPVisionModel")
_FAMILIES = {
    "dinov2": _Family(),
    "dinov2_with_registers": _Family(),
    "dinov3_vit": _Family(interpolation="bilinear"),
    "clip": _CLIP_FAMILY,
    "clip_vision_model": _CLIP_FAMILY,
    "ijepa": _Family(class_tokens=0, flag=True),
}


class ViTTeacher(Teacher):
    """Give the patch tokens of a vision transformer as maps.

    The main map is ``tokens``: the model's ``last_hidden_state`` without class and register tokens, on its
    grid ``(B, C, h / patch, w / patch)``. In DINOv2, DINOv3 and I-JEPA it has passed the final norm; CLIP
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
        ValueError: the model is of no known family, its weights do not fit or hold code, or a size is not
            allowed.
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
        network, family = _load_network(str(model))
        config: Any = network.config
        patch = int(config.patch_size)
        depth = int(config.num_hidden_layers)
        if any(not 1 <= layer <= depth for layer in layers):
            raise ValueError(f"layers is {list(layers)}; {model} has blocks 1 to {depth}.")
        found_mean, found_std, interpolation = _normalisation(str(model), family)
        contract = InputContract(
            size=fixed_size(input_size, patch),
            mean=tuple(mean if mean is not None else found_mean),
            std=tuple(std if std is not None else found_std),
            multiple_of=patch,
            interpolation=interpolation,
        )
        spec = TeacherMap(int(config.hidden_size), patch)
        maps = {"tokens": spec, **{f"layer{layer}": spec for layer in layers}}
        super().__init__(maps, contract, licence or _licence(str(model), config.model_type), str(model))
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
        config: Any = self.network.config
        values = {key: value for key, value in config.to_dict().items() if key not in _VOLATILE}
        return json.dumps(values, sort_keys=True, default=str)


def _licence(model: str, model_type: str) -> str:
    """Return the licence of a model by its name; DINOv3's also binds what is derived from DINOv3."""
    if model_type == "dinov3_vit":
        return "DINOv3 License"
    names = (model, Path(model).name)
    return next(
        (text for start, text in _LICENCES.items() if any(n.startswith(start) for n in names)), _SEE_CARD
    )


def _load_network(model: str) -> tuple[nn.Module, _Family]:
    """Load the configuration, choose the class, load the weights and see that none is missing."""
    import transformers

    config = _explained(
        model, lambda: transformers.AutoConfig.from_pretrained(model, trust_remote_code=False)
    )
    family = look_up(f"model type of {model}", config.model_type, _FAMILIES)
    loader = getattr(transformers, family.vision_only or "AutoModel")
    with _quiet_loading():
        # float32 whatever the file holds: half-precision files would give half-precision targets
        network, report = _explained(
            model,
            lambda: loader.from_pretrained(
                model,
                output_loading_info=True,
                dtype=torch.float32,
                trust_remote_code=False,
                weights_only=True,
            ),
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"the weights of {model} lack {len(missing)} keys of {type(network).__name__} (first: "
            f"{', '.join(missing[:3])}). Use a folder that save_pretrained wrote, or a fresh download."
        )
    return network, family


def _explained(model: str, load: Callable[[], Any]) -> Any:
    """Run a loading call; on failure say which model it was and what to do."""
    try:
        return load()
    except OSError as error:
        local = Path(model).is_dir()
        where = "lacks a file" if local else "is no local folder and cannot be had from the hub"
        raise OSError(
            f"{model!r} {where}: {_first_line(error)} Give `model` a local folder (download it where there "
            f"is a network: hf download {model} --local-dir <folder>). A gated model such as DINOv3 also "
            "needs its licence accepted on its hub page and `hf auth login`."
        ) from error
    except Exception as error:  # unpickling, safetensors, shapes, unknown types: no common class
        raise ValueError(
            f"{model!r} cannot be loaded: {_first_line(error)} `model` takes a folder or hub name with "
            "config.json and model.safetensors (pickled files only where they hold tensors alone; code of "
            "the hub is never run)."
        ) from error


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its class name when it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Keep the library's load report silent: an unused text tower is no news."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _normalisation(model: str, family: _Family) -> tuple[Sequence[float], Sequence[float], str]:
    """Return mean, standard deviation and resize filter from the model's preprocessor, or the family's."""
    from transformers import BaseImageProcessor

    try:
        found, _ = BaseImageProcessor.get_image_processor_dict(model)
    except OSError:  # many checkpoints come without one
        return (*family.normalisation, family.interpolation)
    if found.get("do_normalize", True):
        mean, std = found.get("image_mean"), found.get("image_std")
    else:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    interpolation = family.interpolation
    if isinstance(found.get("resample"), int):
        interpolation = "bicubic" if found["resample"] == _PIL_BICUBIC else "bilinear"
    return mean or family.normalisation[0], std or family.normalisation[1], interpolation
