"""What a trained student needs around it to run anywhere: from pixels to its input, from its logits to masks."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...transforms.volume_file import PLANES
from ...utils import look_up
from ...utils.configurations import resolved
from ...utils.documents import read_json
from ...utils.imagenet import IMAGENET_MEAN, IMAGENET_STD
from ...utils.probabilities import checked_probabilities

INFERENCE, METADATA, DEPLOYMENT = "configs/inference.yaml", "configs/metadata.json", "deployment"
ACTIVATIONS = ("sigmoid", "softmax")
LARGEST_SIDE = 8192


@dataclass(frozen=True)
class Deployment:
    """Plain facts, the same for every format, that stand in the metadata of a bundle and in every exported file.

    Args:
        size: height and width of the network's input.
        mean: mean of the normalisation of an image in [0, 1], one number per channel.
        std: deviation of the normalisation, in the same way.
        activation: ``"sigmoid"``, every channel for itself; or ``"softmax"``, where channel 0 is the background.
        threshold: probability from which a pixel is foreground.
        structures: names of the foreground channels, in order.
        plane: how volumes were sliced for the training, and are here.
        window: values of a volume that were black and white; None: quantiles of each volume.

    Raises:
        ValueError: an unknown activation or plane, a threshold that is no probability, a window that is none, or mean, deviation
            and size that fit no image.
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    activation: str = "sigmoid"
    threshold: float = 0.5
    structures: tuple[str, ...] = ("foreground",)
    plane: str = "axial"
    window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation is {self.activation!r}; allowed are {', '.join(ACTIVATIONS)}.")
        look_up("plane", self.plane, PLANES)
        if self.window is not None and not (len(self.window) == 2 and self.window[0] < self.window[1]):
            raise ValueError(f"window is {self.window}; allowed are two values, the lower first.")
        if len(self.size) != 2 or min(self.size) < 1 or max(self.size) > LARGEST_SIDE:
            raise ValueError(
                f"size is {self.size}; allowed is height and width of an image, from 1 to {LARGEST_SIDE} pixels."
            )
        finite = all(math.isfinite(number) for number in (*self.mean, *self.std))
        if (
            len(self.mean) != len(self.std)
            or len(self.mean) not in (1, 3)
            or not finite
            or min(self.std) <= 0
        ):
            raise ValueError(
                f"mean is {self.mean}, std {self.std}; give one for each channel, for 1 or 3 channels, std above 0."
            )
        if not 0 <= self.threshold <= 1:  # false for nan too
            raise ValueError(
                f"threshold is {self.threshold}; allowed is a probability from 0 to 1, such as 0.5."
            )
        if not self.structures or not all(name and name.isprintable() for name in self.structures):
            raise ValueError(
                f"structures are {self.structures!r}; allowed are names that can be printed, one per channel."
            )

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Deployment:
        """Return the facts out of `as_dict`, as read from a file; checked, because files come from anywhere."""
        try:
            return cls(
                size=(int(found["size"][0]), int(found["size"][1])),
                mean=tuple(float(n) for n in found["mean"]),
                std=tuple(float(n) for n in found["std"]),
                activation=str(found["activation"]),
                threshold=float(found["threshold"]),
                structures=tuple(str(name) for name in found["structures"]),
                # absent in what was exported before
                plane=str(found.get("plane", "axial")),
                window=_window(found.get("window")),
            )
        except (KeyError, TypeError, IndexError, OverflowError) as error:
            raise ValueError(
                f"the deployment facts are damaged ({type(error).__name__}: {error})."
            ) from error

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON can hold them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def prepare(self, picture: np.ndarray) -> np.ndarray:
        """Return the network's input ``(1, C, h, w)``, float32, of an 8-bit picture ``(H, W, C)``; as in training."""
        import torch
        import torch.nn.functional as F

        image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
        if image.shape[1] != len(self.mean):
            raise ValueError(
                f"the picture has {image.shape[1]} channels; the network takes {len(self.mean)}."
            )
        if tuple(image.shape[2:]) != self.size:
            # on 8-bit data, as `ResizeImaged` does it
            image = F.interpolate(image, self.size, mode="bilinear", align_corners=False, antialias=True)
        mean, std = (torch.tensor(n, dtype=torch.float32).view(1, -1, 1, 1) for n in (self.mean, self.std))
        return ((image.float().div_(255) - mean) / std).numpy()

    def probabilities(self, logits: np.ndarray, size: Sequence[int]) -> np.ndarray:
        """Return the probabilities ``(structures, H, W)`` of logits ``(1, K, h, w)`` at ``size``, interpolated smoothly.

        Raises:
            ValueError: some logits are not numbers.
        """
        import torch
        import torch.nn.functional as F

        scores = torch.from_numpy(np.asarray(logits, dtype=np.float32))
        found = torch.sigmoid(scores) if self.activation == "sigmoid" else torch.softmax(scores, 1)[:, 1:]
        sized = F.interpolate(checked_probabilities(found), tuple(size), mode="bilinear", align_corners=False)
        return sized[0].numpy()

    def masks(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the boolean masks ``(structures, H, W)`` of probabilities; of softmax's, at most one per pixel."""
        if self.activation == "sigmoid" or len(probabilities) == 1:
            return probabilities >= self.threshold
        background = 1 - probabilities.sum(0, keepdims=True)
        best = np.concatenate([background, probabilities]).argmax(0)
        return best[None] == np.arange(1, len(probabilities) + 1).reshape(-1, 1, 1)


def read_deployment(bundle: str | os.PathLike) -> Deployment:
    """Return the facts of a bundle: those that its export wrote, or else those of its inference configuration.

    Nothing of the configuration is run.

    Args:
        bundle: folder with ``configs/metadata.json`` and ``configs/inference.yaml``.

    Raises:
        FileNotFoundError: the folder is no bundle.
        ValueError: the configuration does not say the image size in numbers.
    """
    folder = Path(bundle)
    for name in (METADATA, INFERENCE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no bundle: it lacks {name}.")
    try:
        return _facts_of(folder)
    # a file from elsewhere may hold anything anywhere
    except (AttributeError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise ValueError(
            f"{folder}: {METADATA} or {INFERENCE} is damaged, or of no segmentation network "
            f"({type(error).__name__}: {error})."
        ) from error


def _facts_of(folder: Path) -> Deployment:
    metadata = read_json(folder / METADATA)
    if DEPLOYMENT in metadata:
        return Deployment.from_dict(metadata[DEPLOYMENT])
    before, after = (_transforms(folder / INFERENCE, name) for name in ("preprocessing", "postprocessing"))
    if "Spacingd" in before:
        raise ValueError(
            f"{folder} segments whole volumes, in 3D, which is done by its own configuration: python -m monai.bundle run "
            f"--bundle_root {folder} --config_file {folder / INFERENCE} --dataset_dir VOLUMES --output_dir MASKS"
        )
    sliced = before.get("SlicesToImagesd", {})
    size = sliced.get("image_size", before.get("ResizeImaged", {}).get("spatial_size"))
    sides = [size, size] if isinstance(size, int) else size
    if not isinstance(sides, list) or not all(isinstance(side, int) for side in sides):
        raise ValueError(
            f"{folder / INFERENCE}: preprocessing resizes to {size!r}; needed is a ResizeImaged with numbers in it."
        )
    normalise = before.get("NormalizeImaged", {})
    softmax = bool(after.get("Activationsd", {}).get("softmax"))
    return Deployment(
        size=tuple(sides),  # type: ignore[arg-type]
        mean=tuple(normalise.get("mean", IMAGENET_MEAN)),
        std=tuple(normalise.get("std", IMAGENET_STD)),
        activation="softmax" if softmax else "sigmoid",
        threshold=float(after.get("AsDiscreted", {}).get("threshold") or 0.5),
        structures=structures_of(metadata, resolved(folder / INFERENCE, "structures"), softmax),
        plane=str(resolved(folder / INFERENCE, "plane") or "axial"),
        window=_window(resolved(folder / INFERENCE, "window")),
    )


def inference_config(bundle: str | os.PathLike) -> Path:
    """Return the configuration of a bundle's inference, YAML or JSON; the first where there is none."""
    places = [Path(bundle) / f"configs/inference.{end}" for end in ("yaml", "json", "yml")]
    return next((place for place in places if place.is_file()), places[0])


def _window(found: Any) -> tuple[float, float] | None:
    return None if found is None else (float(found[0]), float(found[1]))


def _transforms(config: Path, name: str) -> dict[str, dict[str, Any]]:
    """Class name -> arguments of the transforms of a chain."""
    found = resolved(config, name) or {}
    return {str(t.get("_target_", "")).rpartition(".")[2]: t for t in found.get("transforms", [])}


def structures_of(metadata: Mapping[str, Any], named: Any, softmax: bool) -> tuple[str, ...]:
    """Return the names of a bundle's foreground channels.

    Args:
        metadata: content of its ``metadata.json``.
        named: ``structures`` of its configuration; None where it has none.
        softmax: whether channel 0 is the background.
    """
    if isinstance(named, list) and named != ["foreground"]:  # which says nothing; the metadata may
        return tuple(str(name) for name in named)
    output = metadata.get("network_data_format", {}).get("outputs", {}).get("pred", {})
    number = int(output.get("num_channels", 1))
    names = output.get("channel_def", {})
    listed = [str(names.get(str(i), f"structure {i}")) for i in range(number)]
    return tuple(listed[1:] if softmax else listed)
