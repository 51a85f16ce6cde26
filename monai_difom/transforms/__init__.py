"""Dictionary transforms: image files to tensors, geometric views, photometric changes."""

from .image import PictureReader, ResizeImaged, to_gray, to_rgb
from .photometric import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    NormalizeImaged,
    Photometric,
    RandPhotometricd,
    SplitTeacherd,
    apply_photometric,
)
from .save import SaveStructuresd
from .view import VIEWS, RandViewd, allowed_views, apply_view, invert_view

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "VIEWS",
    "NormalizeImaged",
    "Photometric",
    "PictureReader",
    "RandPhotometricd",
    "RandViewd",
    "ResizeImaged",
    "SaveStructuresd",
    "SplitTeacherd",
    "allowed_views",
    "apply_photometric",
    "apply_view",
    "invert_view",
    "to_gray",
    "to_rgb",
]
