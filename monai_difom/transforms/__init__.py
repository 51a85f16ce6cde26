"""Files to pixels and labels, and dictionary transforms: geometric views, free geometry, photometric changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..utils.lazy import lazy_names

if TYPE_CHECKING:
    from ..utils import IMAGENET_MEAN, IMAGENET_STD
    from .foreground_of import ForegroundOfd
    from .geometry import Geometry, RandGeometryd, apply_geometry, geometry_grid
    from .image import PictureReader, ResizeImaged
    from .label_file import foreground, open_label, read_labels, read_mask
    from .mixing import MixImages
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
    from .reseeding import reseed
    from .save import SaveStructuresd
    from .slices import SlicesToImagesd
    from .soft_target import MixSoftMaskd, mix_soft_mask
    from .view import VIEWS, RandViewd, allowed_views, apply_view, invert_view
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "foreground_of": "ForegroundOfd",
            "geometry": "Geometry RandGeometryd apply_geometry geometry_grid",
            "image": "PictureReader ResizeImaged",
            "label_file": "foreground open_label read_labels read_mask",
            "mixing": "MixImages",
            "photometric": (
                "IMAGENET_MEAN IMAGENET_STD NormalizeImaged Photometric RandPhotometricd SplitTeacherd "
                "apply_photometric"
            ),
            "picture_file": (
                "PICTURE_SUFFIXES is_picture open_picture picture_facts read_picture_file to_gray to_rgb"
            ),
            "reseeding": "reseed",
            "save": "SaveStructuresd",
            "slices": "SlicesToImagesd",
            "soft_target": "MixSoftMaskd mix_soft_mask",
            "view": "VIEWS RandViewd allowed_views apply_view invert_view",
        },
    )
