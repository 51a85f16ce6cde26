"""Dictionary transforms: image files to tensors, geometric views, free geometry, photometric changes."""

from ..utils import IMAGENET_MEAN, IMAGENET_STD
from .geometry import Geometry, RandGeometryd, apply_geometry, geometry_grid
from .image import PictureReader, ResizeImaged, to_gray, to_rgb
from .photometric import (
    NormalizeImaged,
    Photometric,
    RandPhotometricd,
    SplitTeacherd,
    apply_photometric,
)
from .save import SaveStructuresd
from .soft_target import MixSoftMaskd, mix_soft_mask
from .view import VIEWS, RandViewd, allowed_views, apply_view, invert_view

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "VIEWS",
    "Geometry",
    "MixSoftMaskd",
    "NormalizeImaged",
    "Photometric",
    "PictureReader",
    "RandGeometryd",
    "RandPhotometricd",
    "RandViewd",
    "ResizeImaged",
    "SaveStructuresd",
    "SplitTeacherd",
    "allowed_views",
    "apply_geometry",
    "apply_photometric",
    "apply_view",
    "geometry_grid",
    "invert_view",
    "mix_soft_mask",
    "to_gray",
    "to_rgb",
]
