"""The teacher contract: a frozen network that turns RGB images into named feature maps.

Every teacher takes the same thing, an RGB batch in [0, 1], and does its own resize and normalisation as
tensors on the device. No crop and no padding: each map covers the field of view of the input, so that maps of
different teachers and of the student lie on top of each other.

A teacher of volumes declares ``spatial_dims`` 3 and its ``channels``; it takes ``(B, channels, D, H, W)`` in [0, 1], and all else
is the same. Whatever brings grey levels to [0, 1] (the window of a CT) belongs to the loading chain, which the student needs too.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from ...utils import IMAGENET_MEAN, IMAGENET_STD, read_later, resample, unknown_name

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class InputContract:
    """What a teacher's network wants to see.

    Args:
        size: ``(height, width)``, of volumes ``(depth, height, width)``, that the input is resized to, or None to keep the size
            of the input.
        mean: per-channel mean, subtracted after the image is in [0, 1].
        std: per-channel standard deviation, divided by.
        multiple_of: when ``size`` is None, sides are resized to the nearest multiple of this (patch size), at
            least one.
        interpolation: ``"bilinear"`` or ``"bicubic"``; always antialiased. Volumes are resampled by `resample` alone.
        colour: ``"rgb"``, or ``"grey"``: the luma of ITU-R 601 (PIL's mode L), on all three channels.
        span: ``"unit"``: the image stays in [0, 1]; ``"min_max"``: each resized image is stretched from its own lowest
            to its own highest value, over all channels, as MedSAM was trained.
    """

    size: tuple[int, ...] | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    multiple_of: int = 1
    interpolation: str = "bilinear"
    colour: str = "rgb"
    span: str = "unit"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("interpolation", self.interpolation, ("bilinear", "bicubic")),
            ("colour", self.colour, ("rgb", "grey")),
            ("span", self.span, ("unit", "min_max")),
        ):
            if value not in allowed:
                raise ValueError(unknown_name(f"{name} of an input contract", value, allowed))


def fixed_size(size: int | Sequence[int] | None, multiple_of: int) -> tuple[int, int] | None:
    """Return ``(height, width)`` of a fixed input size, see `fixed_sides`."""
    return cast("tuple[int, int] | None", fixed_sides(size, multiple_of, 2))


def fixed_sides(
    size: int | Sequence[int] | None, multiple_of: int, spatial_dims: int
) -> tuple[int, ...] | None:
    """Return one side per dimension of a fixed input size given as one side or as all; None stays None.

    Raises:
        ValueError: a side is no positive multiple of ``multiple_of``, so that maps would not cover the image.
    """
    if size is None:
        return None
    sides = (size,) * spatial_dims if isinstance(size, int) else tuple(size)
    if len(sides) != spatial_dims or any(side <= 0 or side % multiple_of for side in sides):
        near = [max(1, round(side / multiple_of)) * multiple_of for side in sides]
        raise ValueError(
            f"input_size is {size!r}; allowed are one side or {spatial_dims} of them, multiples of {multiple_of}, "
            f"or None. Nearest: {near[0] if isinstance(size, int) else near}."
        )
    return tuple(int(side) for side in sides)


@dataclass(frozen=True)
class TeacherMap:
    """One map of a teacher.

    Args:
        channels: channels of the map.
        stride: pixels of the teacher's own (resized) input per cell of the map, along an axis.
    """

    channels: int
    stride: float


class Teacher(nn.Module):
    """Base of all teachers: frozen, always in eval mode, never in a checkpoint.

    Subclasses implement `extract`.

    Args:
        maps: map name -> `TeacherMap`.
        contract: the input that the network wants.
        licence: licence of the weights, as their publisher states it.
        source: where the weights came from: hub name, file name or folder name.
        spatial_dims: 2 for images, 3 for volumes.
        channels: channels of the image; 3 (RGB) for every teacher of images.

    Raises:
        ValueError: no maps.
    """

    def __init__(
        self,
        maps: Mapping[str, TeacherMap],
        contract: InputContract,
        licence: str,
        source: str,
        spatial_dims: int = 2,
        channels: int = 3,
    ) -> None:
        super().__init__()
        if not maps:
            raise ValueError("a teacher needs at least one map.")
        self.maps = dict(maps)
        self.contract = contract
        self.licence = licence
        self.source = source
        self.spatial_dims, self.channels = int(spatial_dims), int(channels)

    @abstractmethod
    def extract(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the maps of a prepared image batch ``(B, 3, H, W)``: name -> ``(B, C, h, w)``."""

    def freeze(self) -> Teacher:
        """Switch gradients off and eval mode on. Subclasses call it at the end of ``__init__``."""
        self.requires_grad_(False)
        nn.Module.train(self, False)
        return self

    def train(self, mode: bool = True) -> Teacher:
        """Stay in eval mode whatever is asked: a teacher's BatchNorm and dropout never move."""
        return super().train(False)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return nothing: a teacher is rebuilt from its source, never written into a checkpoint."""
        return {}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # the other half of `state_dict`: a module that holds a teacher still loads its own checkpoint
        # strictly, because the teacher answers for its keys with the weights it has
        state_dict.update(nn.Module.state_dict(self, prefix=prefix))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def input_size(self, image_size: Sequence[int]) -> tuple[int, ...]:
        """Return the size that an image of ``image_size`` is resized to before the network sees it."""
        if self.contract.size is not None:
            return self.contract.size
        step = self.contract.multiple_of
        return tuple(max(step, round(side / step) * step) for side in image_size)

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        """Resize and normalise an RGB batch ``(B, 3, H, W)`` in [0, 1] as the network's contract says; volumes likewise."""
        size = self.input_size(image.shape[2:])
        if self.spatial_dims == 3:
            image = resample(image, size)
        elif tuple(image.shape[2:]) != size:
            mode = self.contract.interpolation
            image = F.interpolate(image, size=size, mode=mode, align_corners=False, antialias=True)
            image = image.clamp(0, 1)  # bicubic overshoots
        if self.contract.colour == "grey":
            image = (image * image.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True).expand_as(image)
        if self.contract.span == "min_max":
            axes = tuple(range(1, image.ndim))
            low, high = image.amin(axes, keepdim=True), image.amax(axes, keepdim=True)
            image = (image - low) / (high - low).clamp_min(1e-8)
        shape = (1, -1, *[1] * self.spatial_dims)
        mean = image.new_tensor(self.contract.mean).view(shape)
        std = image.new_tensor(self.contract.std).view(shape)
        return (image - mean) / std

    @torch.no_grad()
    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return name -> ``(B, C, h, w)`` for an RGB batch ``(B, 3, H, W)`` in [0, 1]; volumes likewise.

        Numbers are checked at once, or where a training collects its readings, with them (`read_later`).

        Raises:
            ValueError: the input is no batch of the teacher's channels and dimensions in [0, 1].
            RuntimeError: a map is missing, has the wrong batch, channels or grid, or holds NaN or infinity; the
                teacher is named.
        """
        right = image.ndim == 2 + self.spatial_dims and image.shape[1] == self.channels
        if not right or not image.is_floating_point():
            takes = (
                "RGB batch (B, 3, H, W)" if self.spatial_dims == 2 else f"batch (B, {self.channels}, D, H, W)"
            )
            raise ValueError(
                f"{self.describe()} takes a float {takes} in [0, 1]; got {image.dtype} {tuple(image.shape)}."
            )
        read_later(torch.stack(image.aminmax()), self._check_range)
        prepared = self.prepare(image)
        found = self.extract(prepared)
        for name, spec in self.maps.items():
            if name not in found:
                raise RuntimeError(
                    f"{self.describe()} gave no map {name!r}; it gave {', '.join(sorted(found)) or 'none'}."
                )
            if found[name].ndim != image.ndim or found[name].shape[1] != spec.channels:
                raise RuntimeError(
                    f"{self.describe()}: map {name!r} has shape {tuple(found[name].shape)}, declared are "
                    f"{spec.channels} channels."
                )
            grid, sides = found[name].shape[2:], prepared.shape[2:]
            # a border that a layer adds or cuts off moves a grid by a pixel; anything more covers another field of view
            off = any(abs(n - side / spec.stride) > 1 for n, side in zip(grid, sides, strict=True))
            if found[name].shape[0] != image.shape[0] or off:
                raise RuntimeError(
                    f"{self.describe()}: map {name!r} has shape {tuple(found[name].shape)} for {image.shape[0]} images of "
                    f"{tuple(sides)}; at its stride of {spec.stride:g} the grid should be "
                    f"{tuple(round(side / spec.stride) for side in sides)}."
                )
        maps = {name: found[name] for name in self.maps}
        read_later(torch.stack([torch.isfinite(each).all() for each in maps.values()]), self._check_finite)
        return maps

    def _check_range(self, numbers: Sequence[float]) -> None:
        low, high = numbers
        if not (low >= -1e-4 and high <= 1 + 1e-4):
            raise ValueError(
                f"{self.describe()} takes {'RGB' if self.spatial_dims == 2 else 'volumes'} in [0, 1]; got values "
                f"from {low:.3g} to {high:.3g}. Give the image before the student's normalisation."
            )

    def _check_finite(self, finite: Sequence[float]) -> None:
        for name, whole in zip(self.maps, finite, strict=True):
            if not whole:
                raise RuntimeError(f"{self.describe()}: map {name!r} holds NaN or infinity.")

    @cached_property
    def signature(self) -> str:
        """SHA-256 over weights, input contract and maps: equal signatures give equal features."""
        digest = hashlib.sha256()
        digest.update(type(self).__name__.encode())
        digest.update(repr(sorted(asdict(self.contract).items())).encode())
        digest.update(repr(sorted((name, asdict(spec)) for name, spec in self.maps.items())).encode())
        digest.update(self.signature_extra().encode())
        for name, tensor in sorted(nn.Module.state_dict(self).items()):
            digest.update(name.encode())
            digest.update(str(tensor.dtype).encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def signature_extra(self) -> str:
        """Whatever else changes the features (tap paths, a layer index); part of the signature."""
        return ""

    def describe(self) -> str:
        """Return class and source in one phrase, for messages."""
        return f"{type(self).__name__}({self.source})"
