"""Models of the transformers library as teachers load them: by hub name or from a local folder, offline as well.

No code of the hub is ever run, weights are read as tensors alone, a missing key is an error, and an error says which
model it was, how to get it and what takes a local path.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...utils import IMAGENET_MEAN, IMAGENET_STD
from ...zoo import find_entry
from ..hub_access import hub_if_there
from .base import InputContract, fixed_size

CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SEE_CARD = "see model card"

# series whose publisher states one licence for all sizes, beyond those that the zoo lists
_SERIES = {
    "facebook/dinov2-": "Apache-2.0",
    "facebook/dinov3-": "DINOv3 License",
    "facebook/sam2": "Apache-2.0",
    "openai/clip-vit-": "MIT",
    "google/siglip": "Apache-2.0",
}
# PIL's numbers of the filters that torch has antialiased too
_FILTERS = {2: "bilinear", 3: "bicubic"}
# an owner and a name, on every system: a path of Windows has a drive or a backslash
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
# configuration values that say where a model came from or who wrote the file, not what it computes
_VOLATILE = {"_name_or_path", "transformers_version", "architectures", "dtype", "id2label", "label2id"}


@dataclass(frozen=True)
class Normalisation:
    """How a model's images are normalised and resized.

    Args:
        mean: per-channel mean of an image in [0, 1].
        std: per-channel standard deviation.
        interpolation: resize filter, ``"bilinear"`` or ``"bicubic"``.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"

    def replaced(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> Normalisation:
        """Return it with the mean and deviation that a person gave, where one was given."""
        return Normalisation(
            tuple(mean if mean is not None else self.mean),
            tuple(std if std is not None else self.std),
            self.interpolation,
        )


def load_config(model: str) -> Any:
    """Return the configuration of a model: `transformers.PretrainedConfig`.

    Args:
        model: hub name, or local folder with ``config.json``.

    Raises:
        OSError: the model is neither a local folder nor reachable on the hub.
        ValueError: its configuration cannot be read.
    """
    import transformers

    return explained(model, lambda: transformers.AutoConfig.from_pretrained(model, trust_remote_code=False))


def load_hub_network(model: str, loader: str = "AutoModel", unused: Sequence[str] = ()) -> nn.Module:
    """Return a model with its weights in float32, whatever the file holds.

    Args:
        model: hub name, or local folder with ``config.json`` and ``model.safetensors``.
        loader: class of the transformers library.
        unused: prefixes of keys that may be missing, because the teacher does not use their modules.

    Raises:
        OSError: the model is neither a local folder nor reachable on the hub, or lacks a file.
        ValueError: the weights lack keys, hold code, or do not fit.
    """
    import transformers

    with _quiet_loading():
        network, report = explained(
            model,
            lambda: getattr(transformers, loader).from_pretrained(
                model,
                output_loading_info=True,
                dtype=torch.float32,
                trust_remote_code=False,
                weights_only=True,
            ),
        )
    check_missing(report["missing_keys"], model, network, unused)
    return network


def check_missing(keys: Sequence[str], model: str, network: nn.Module, unused: Sequence[str] = ()) -> None:
    """Refuse a network of which keys were left at random; the arguments are those of `load_hub_network`."""
    missing = sorted(key for key in keys if not (unused and key.startswith(tuple(unused))))
    if missing:
        raise ValueError(
            f"the weights of {model} lack {len(missing)} keys of {type(network).__name__} (first: "
            f"{', '.join(missing[:3])}). Use a folder that save_pretrained wrote, or a fresh download."
        )


def read_normalisation(model: str, family: Normalisation, own: bool = False) -> Normalisation:
    """Return what the model's ``preprocessor_config.json`` says, or else what is usual in its family.

    Args:
        model: hub name or local folder.
        family: mean, deviation and filter where the model has no such file.
        own: the model is known to differ from its family: without the file it is refused.

    Raises:
        ValueError: ``own``, and there is no such file.
    """
    from transformers import BaseImageProcessor

    try:
        found, _ = BaseImageProcessor.get_image_processor_dict(model)
    except OSError:  # many checkpoints come without one
        if own:
            raise ValueError(
                f"{model} has no preprocessor_config.json, and its mean and deviation are its own. Put the published "
                "file into the folder (hf download fetches it with the weights), or give `mean` and `std`."
            ) from None
        if Path(model).is_dir():
            warnings.warn(
                f"{model} has no preprocessor_config.json: the mean and deviation of its family are taken "
                f"({', '.join(map(str, family.mean))}; {', '.join(map(str, family.std))}).",
                stacklevel=3,
            )
        return family
    found = found.get("image_processor", found)  # a processor_config.json holds it one level deeper
    mean, std = found.get("image_mean") or family.mean, found.get("image_std") or family.std
    if not found.get("do_normalize", True):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    resample = found.get("resample")
    interpolation = _FILTERS.get(resample, "bilinear") if isinstance(resample, int) else family.interpolation
    return Normalisation(tuple(mean), tuple(std), interpolation)


def hub_contract(
    model: str,
    family: Normalisation,
    input_size: int | Sequence[int] | None,
    multiple_of: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    own: bool = False,
) -> InputContract:
    """Return the input contract of a model: its own normalisation, unless a person gives another.

    Args:
        model: hub name or local folder.
        family: see `read_normalisation`.
        input_size: side, or (height, width), multiples of ``multiple_of``; None keeps the size of the image.
        multiple_of: patch side, or the largest stride.
        mean: in place of the model's.
        std: in place of the model's.
        own: see `read_normalisation`; a person's mean and deviation make up for the file.
    """
    found = read_normalisation(model, family, own and (mean is None or std is None)).replaced(mean, std)
    size = fixed_size(input_size, multiple_of)
    return InputContract(size, found.mean, found.std, multiple_of, found.interpolation)


def licence_of(model: str, default: str = SEE_CARD) -> str:
    """Return the licence of a published model by its name, in the zoo or in a series; derived ones may have another."""
    entry = find_entry(model)
    if entry is not None:
        return entry.licence
    for start, licence in _SERIES.items():
        if model.startswith(start) or Path(model).name.startswith(start.partition("/")[2]):
            return licence
    return default


def config_text(config: Any) -> str:
    """Return a configuration as text for a signature, without what does not change the features."""
    return json.dumps(_computing(config.to_dict()), sort_keys=True, default=str)


def _computing(values: Any) -> Any:
    """Leave out the volatile values of a configuration, at every depth."""
    if isinstance(values, Mapping):
        return {str(k): _computing(v) for k, v in values.items() if k not in _VOLATILE}
    return values


def how_to_get(model: str) -> str:
    """Say how a hub model is had on a machine, and what takes its local folder."""
    entry = find_entry(model)
    gated = (
        f"It is gated: accept its terms at https://huggingface.co/{model} and run `hf auth login` first. "
        if entry is not None and entry.gated
        else "If it is gated, accept its terms on its hub page and run `hf auth login` first. "
    )
    option = (
        f"--{entry.option}"
        if entry and entry.option
        else "the teacher's id in its overlay of configs/teachers, as --dinov2"
    )
    return (
        f"{gated}Where there is a network: hf download {model} --local-dir <folder>. Then give the folder as `model` "
        f"(command line of a bundle: {option} <folder>)."
    )


def explained(model: str, load: Callable[[], Any]) -> Any:
    """Run a loading call; on failure say which model it was and what to do."""
    local = Path(model).is_dir()
    if not local and not _HUB_NAME.fullmatch(model):
        known = "" if "/" in model.strip("/.~") else " A hub name has an owner: facebook/dinov2-base."
        raise FileNotFoundError(f"there is no folder {model!r} for a teacher's `model`.{known}")
    try:
        with hub_if_there():
            return load()
    except OSError as error:
        if local:
            raise OSError(
                f"{model!r} lacks a file: {_first_line(error)} The folder needs config.json and model.safetensors, as "
                "`hf download <name> --local-dir <folder>` and save_pretrained write them."
            ) from error
        raise OSError(
            f"{model!r} is no local folder and cannot be had from the hub: {_first_line(error)} {how_to_get(model)}"
        ) from error
    except Exception as error:  # unpickling, safetensors, shapes, unknown types: no common class
        raise ValueError(
            f"{model!r} cannot be loaded: {_first_line(error)} `model` takes a folder or hub name with config.json and "
            "model.safetensors (pickled files only where they hold tensors alone; code of the hub is never run)."
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
