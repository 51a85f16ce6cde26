"""Free geometry: one random affine or elastic change for a picture, its mask and its soft mask, in one sampling."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from monai.utils import ensure_tuple_rep

from ..losses import MISSING

SAMPLING = ("bilinear", "nearest")
#: what stands where the moved picture does not reach -> `torch.nn.functional.grid_sample`'s name for it
OUTSIDE = {"reflect": "reflection", "zeros": "zeros"}
_CONTROL = 4


@dataclass(frozen=True)
class Geometry:
    """One draw of a geometric change; the defaults change nothing.

    Args:
        angle: turn about the centre in degrees, counterclockwise.
        scale: factor on the size of what is seen; above 1 the picture is cropped, below 1 it shrinks.
        shift: of the content to the right and downwards, as shares of width and height.
        shear: horizontal and vertical shear factor.
        bend: displacements of a coarse grid of control points, ``(2, n, n)`` in shares of the side; None for none.
    """

    angle: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    shear: tuple[float, float] = (0.0, 0.0)
    bend: np.ndarray | None = field(default=None, compare=False)

    def matrix(self, height: int, width: int) -> torch.Tensor:
        """Return the ``(1, 2, 3)`` matrix from places in the output to places in the input, both in [-1, 1]."""
        turn = math.radians(self.angle)
        cosine, sine = math.cos(turn), math.sin(turn)
        shear = np.array([[1.0, self.shear[0]], [self.shear[1], 1.0]])
        # rows point down: a counterclockwise turn has the signs of a clockwise one
        forward = self.scale * np.array([[cosine, sine], [-sine, cosine]]) @ shear
        backward = np.linalg.inv(forward)
        # in pixels, so that a turn of a picture that is not square is a turn
        sides = np.array([width, height], dtype=float)
        linear = backward * sides[None, :] / sides[:, None]
        offset = -linear @ (2 * np.array(self.shift))
        return torch.from_numpy(np.concatenate([linear, offset[:, None]], 1).astype(np.float32))[None]


def geometry_grid(change: Geometry, height: int, width: int) -> torch.Tensor:
    """Return where every pixel of the output is read, ``(1, height, width, 2)`` in [-1, 1] of the input."""
    # column and row parts added up: `affine_grid` multiplies a matrix at every pixel, eight times as slow on a CPU
    columns = torch.arange(1 - width, width, 2, dtype=torch.float32) / width
    rows = torch.arange(1 - height, height, 2, dtype=torch.float32) / height
    grid = torch.empty(1, height, width, 2)
    for axis, (across, down, offset) in enumerate(change.matrix(height, width)[0].tolist()):
        torch.add((rows * down + offset)[:, None], columns * across, out=grid[0, :, :, axis])
    if change.bend is not None:
        bend = torch.from_numpy(2 * change.bend.astype(np.float32))[None]
        smooth = F.interpolate(bend, size=(height, width), mode="bicubic", align_corners=True)
        grid = grid + smooth.movedim(1, -1)
    return grid


def apply_geometry(
    x: torch.Tensor, grid: torch.Tensor, sampling: str = "bilinear", outside: str = "reflect"
) -> torch.Tensor:
    """Return a picture, mask or volume as it is seen through a grid.

    Args:
        x: ``(..., H, W)`` of any type; all leading axes move alike (a volume is moved in its slices).
        grid: of `geometry_grid`.
        sampling: ``"bilinear"``, or ``"nearest"``, which makes no new values.
        outside: ``"reflect"`` mirrors the picture at its border, ``"zeros"`` leaves black and background.

    Returns:
        The same shape and type; whole numbers are rounded.
    """
    planes = x.reshape(1, -1, *x.shape[-2:])
    native = planes if planes.is_floating_point() else planes.float()
    moved = F.grid_sample(
        native, grid.to(native.dtype), mode=sampling, padding_mode=OUTSIDE[outside], align_corners=False
    )
    if not x.is_floating_point():
        moved = (moved.round_() if sampling == "bilinear" else moved).to(x.dtype)
    return moved.reshape(x.shape)


class RandGeometryd(Randomizable, MapTransform):
    """Draw one turn, scale, shift, shear and bend, and make it to all keys in one sampling.

    Where the changed picture does not reach, it is mirrored at its border, and its masks with it (``outside: reflect``); with
    ``zeros`` there is black and background. A crop is a scale above 1 with a shift. What is drawn depends on the random state
    alone. Feature maps cannot follow such changes: `ViewDataset` leaves this transform out while stored maps are read.

    Args:
        keys: keys of ``(C, H, W)`` or ``(C, D, H, W)`` tensors of one size; volumes are moved in their slices.
        sampling: ``"bilinear"`` for pictures and soft masks, ``"nearest"`` for masks; one for all keys or one per key.
        rotate: largest turn in degrees, 0 to 180 (any angle).
        scale: smallest and largest factor on the size, drawn log-uniformly.
        shift: largest shift as a share of the side, from 0.
        shear: largest shear factor, in [0, 1).
        elastic: largest displacement of a coarse grid of control points as a share of the side, in [0, 0.25].
        prob: probability that anything is changed.
        outside: ``"reflect"`` or ``"zeros"``.
        allow_missing_keys: do not raise when a key is absent.

    Raises:
        ValueError: a number is outside its range, an unknown sampling, or keys of different sizes.
    """

    def __init__(
        self,
        keys: KeysCollection,
        sampling: Sequence[str] | str = "bilinear",
        rotate: float = 180.0,
        scale: Sequence[float] = (0.7, 1.4),
        shift: float = 0.1,
        shear: float = 0.0,
        elastic: float = 0.0,
        prob: float = 1.0,
        outside: str = "reflect",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.sampling = ensure_tuple_rep(sampling, len(self.keys))
        for name, found, allowed in (
            *(("sampling", each, SAMPLING) for each in self.sampling),
            ("outside", outside, tuple(OUTSIDE)),
        ):
            if found not in allowed:
                raise ValueError(f"{name} is {found!r}; allowed are {', '.join(map(repr, allowed))}.")
        limits = {"rotate": (rotate, 180), "shift": (shift, 1), "shear": (shear, 0.999)}
        limits |= {"elastic": (elastic, 0.25), "prob": (prob, 1)}
        for name, (number, limit) in limits.items():
            if not 0 <= number <= limit:
                raise ValueError(f"{name} is {number}; allowed is 0 to {limit}.")
        ends = tuple(float(end) for end in (scale if isinstance(scale, Sequence) else [scale, scale]))
        if len(ends) != 2 or not 0 < ends[0] <= ends[1]:
            raise ValueError(
                f"scale is {scale}; give the smallest and the largest factor, such as [0.7, 1.4]; [1, 1] changes nothing."
            )
        self.rotate, self.scale, self.shift, self.shear = float(rotate), ends, float(shift), float(shear)
        self.elastic, self.prob, self.outside = float(elastic), float(prob), outside
        self.change = Geometry()

    @property
    def moves(self) -> bool:
        """Whether anything is ever changed."""
        changes = (self.rotate, self.shift, self.shear, self.elastic, *(end - 1 for end in self.scale))
        return bool(self.prob and any(changes))

    def randomize(self, data: Any = None) -> None:
        """Draw ``self.change``; the count of random numbers does not depend on the outcome."""
        chance, size = self.R.rand(2)
        angle, *rest = self.R.uniform(-1, 1, 5)
        bend = self.R.uniform(-1, 1, (2, _CONTROL, _CONTROL)) if self.elastic else None
        if chance >= self.prob:
            self.change = Geometry()
            return
        low, high = self.scale
        self.change = Geometry(
            angle=float(self.rotate * angle),
            scale=float(low * (high / low) ** size),
            shift=(float(self.shift * rest[0]), float(self.shift * rest[1])),
            shear=(float(self.shear * rest[2]), float(self.shear * rest[3])),
            bend=None if bend is None else self.elastic * bend,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Draw one change and return the item with it made to every key."""
        d = dict(data)
        present = list(self.key_iterator(d, self.sampling))
        if not present or not self.moves:
            return d
        sizes = {str(key): tuple(d[key].shape[-2:]) for key, _ in present}
        if len(set(sizes.values())) > 1:
            raise ValueError(
                f"one geometry needs one size, but the sizes are {sizes}. Resize them to the same size first."
            )
        self.randomize()
        if self.change == Geometry() and self.change.bend is None:
            return d
        grid = geometry_grid(self.change, *next(iter(sizes.values())))
        for key, sampling in present:
            moved = apply_geometry(d[key], grid, sampling, self.outside)
            if sampling == "nearest" and self.outside == "zeros":
                # a structure that nobody annotated is not background where the picture ends
                moved[(d[key] == MISSING).flatten(1).all(1)] = MISSING
            d[key] = moved
        return d
