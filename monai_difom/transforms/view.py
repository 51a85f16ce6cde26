"""The fixed geometric views of an image: the eight symmetries of the square, or the eight flips of a box.

A view is a number. Number 0 is the image itself. In two dimensions views 0 to 3 keep height and width where
they are (flips); views 4 to 7 exchange them (transpositions and quarter turns) and need square images.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

#: spatial dimensions -> names of the views, in the order of their numbers
VIEWS: dict[int, tuple[str, ...]] = {
    2: (
        "identity",
        "flip_width",
        "flip_height",
        "rotate_180",
        "transpose",
        "rotate_90_clockwise",
        "rotate_90_counterclockwise",
        "anti_transpose",
    ),
    3: (
        "identity",
        "flip_width",
        "flip_height",
        "flip_height_width",
        "flip_depth",
        "flip_depth_width",
        "flip_depth_height",
        "flip_all",
    ),
}


def _check(x: torch.Tensor, view: int, spatial_dims: int) -> None:
    if spatial_dims not in VIEWS:
        raise ValueError(f"spatial_dims is {spatial_dims}; views exist for 2 and 3 dimensions.")
    if not 0 <= view < len(VIEWS[spatial_dims]):
        raise ValueError(f"view is {view}; allowed is 0 to {len(VIEWS[spatial_dims]) - 1}.")
    if spatial_dims == 2 and view >= 4 and x.shape[-1] != x.shape[-2]:
        raise ValueError(
            f"view {view} ({VIEWS[2][view]}) exchanges height and width and needs a square image, but this one is "
            f"{x.shape[-2]}x{x.shape[-1]}. Use views 0 to 3, or resize the images to a square."
        )


def _flip(x: torch.Tensor, view: int, spatial_dims: int) -> torch.Tensor:
    # bit 0 flips the last axis, bit 1 the one before it, bit 2 (three dimensions only) the first
    dims = [-1 - bit for bit in range(spatial_dims) if view >> bit & 1]
    return torch.flip(x, dims) if dims else x


def apply_view(x: torch.Tensor, view: int, spatial_dims: int = 2) -> torch.Tensor:
    """Return a geometric view of an image, a mask or a batch of them.

    Args:
        x: ``(..., H, W)`` or ``(..., D, H, W)``; only the last axes are touched.
        view: number of the view, 0 to 7, named in ``VIEWS[spatial_dims]``.
        spatial_dims: 2 or 3.

    Returns:
        A tensor shaped like ``x`` with the same values in other places; it may share memory with ``x``.

    Raises:
        ValueError: no such view, or a view that exchanges the axes of an image that is not square.
    """
    _check(x, view, spatial_dims)
    if spatial_dims == 2 and view & 4:
        x = x.transpose(-1, -2)
    return _flip(x, view & 3 if spatial_dims == 2 else view, spatial_dims)


def invert_view(x: torch.Tensor, view: int, spatial_dims: int = 2) -> torch.Tensor:
    """Undo `apply_view`: ``invert_view(apply_view(x, v), v) == x``.

    Args:
        x: ``(..., H, W)`` or ``(..., D, H, W)``.
        view: the number that was given to `apply_view`.
        spatial_dims: 2 or 3.

    Raises:
        ValueError: as in `apply_view`.
    """
    _check(x, view, spatial_dims)
    x = _flip(x, view & 3 if spatial_dims == 2 else view, spatial_dims)
    return x.transpose(-1, -2) if spatial_dims == 2 and view & 4 else x


def allowed_views(views: Sequence[int], size: Sequence[int]) -> list[int]:
    """Return those of the views that keep the shape of an image.

    Args:
        views: numbers of views, see `VIEWS`.
        size: spatial size, two or three numbers. Of volumes all views keep it: they are flips.
    """
    square = len(size) == 3 or size[0] == size[1]
    return [view for view in views if square or view < 4]


class RandViewd(Randomizable, MapTransform):
    """Draw one view, apply it to all keys and write its number to ``data["view"]``.

    Images that are not square get only those of the views that keep the shape.

    Args:
        keys: keys of ``(C, H, W)`` or ``(C, D, H, W)`` tensors of one spatial size.
        views: how many views to draw among (the first ones of ``VIEWS``), or their numbers. View targets that
            are computed beforehand exist for these views only.
        prob: probability that a view is drawn; otherwise the view is 0, the image itself. View 0 can be
            drawn too.
        spatial_dims: 2 or 3.
        allow_missing_keys: do not raise when a key is absent.

    Raises:
        ValueError: no such view, a probability outside [0, 1], keys of different sizes, or images that
            are not square where every view needs a square.
    """

    def __init__(
        self,
        keys: KeysCollection,
        views: int | Sequence[int] = 8,
        prob: float = 1.0,
        spatial_dims: int = 2,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        if spatial_dims not in VIEWS:
            raise ValueError(f"spatial_dims is {spatial_dims}; views exist for 2 and 3 dimensions.")
        self.views = tuple(range(views)) if isinstance(views, int) else tuple(int(view) for view in views)
        if not self.views or not set(self.views) <= set(range(len(VIEWS[spatial_dims]))):
            raise ValueError(
                f"views is {views}; allowed is a number from 1 to 8, or a list of numbers from 0 to 7."
            )
        if not 0 <= prob <= 1:
            raise ValueError(f"prob is {prob}; allowed is 0 to 1.")
        self.prob = prob
        self.spatial_dims = spatial_dims
        self.view = 0

    def randomize(self, data: Sequence[int]) -> None:
        """Draw ``self.view`` for an image of this spatial size."""
        allowed = allowed_views(self.views, data)
        if not allowed:
            raise ValueError(
                f"images of size {'x'.join(map(str, data))} allow only views 0 to 3, but the views are {self.views}. "
                "Resize the images to a square, or choose other views."
            )
        # both numbers are always drawn, so that a change of prob does not move the transforms behind
        chance, choice = self.R.rand(), self.R.randint(len(allowed))
        self.view = allowed[choice] if chance < self.prob else 0

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Draw one view and return the item with it made to every key, and with its number as ``view``."""
        d = dict(data)
        keys = list(self.key_iterator(d))
        sizes = {str(key): tuple(d[key].shape[-self.spatial_dims :]) for key in keys}
        if len(set(sizes.values())) > 1:
            raise ValueError(
                f"one view needs one size, but the sizes are {sizes}. Resize them to the same size first."
            )
        if keys:
            self.randomize(next(iter(sizes.values())))
            for key in keys:
                d[key] = apply_view(d[key], self.view, self.spatial_dims).contiguous()
        d["view"] = self.view if keys else 0
        return d
