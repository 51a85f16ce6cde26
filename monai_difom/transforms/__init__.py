"""Dictionary transforms: image files to tensors, geometric views, free geometry, photometric changes."""

from ..utils import IMAGENET_MEAN, IMAGENET_STD
from .geometry import Geometry, RandGeometryd, apply_geometry, geometry_grid
from .image import PictureReader, ResizeImaged
from .label_file import foreground, open_label, read_labels, read_mask
from .photometric import (
    NormalizeImaged,
    Photometric,
    RandPhotometricd,
    SplitTeacherd,
    apply_photometric,
)
from .picture_file import (
    PICTURE_SUFFIXES,
    is_picture,
    open_picture,
    picture_facts,
    read_picture_file,
    to_gray,
    to_rgb,
)
from .save import SaveStructuresd
from .soft_target import MixSoftMaskd, mix_soft_mask
from .view import VIEWS, RandViewd, allowed_views, apply_view, invert_view

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PICTURE_SUFFIXES",
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
    "foreground",
    "geometry_grid",
    "invert_view",
    "mix_soft_mask",
    "is_picture",
    "open_label",
    "open_picture",
    "picture_facts",
    "read_labels",
    "read_mask",
    "read_picture_file",
    "to_gray",
    "to_rgb",
]
