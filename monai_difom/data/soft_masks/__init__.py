"""Soft masks: what adapted teachers say of images, on disk."""

from .by_structure import SoftMasksByStructure, open_soft_masks
from .certainty import certainty, disagreement
from .load import SOFT_KEY, AnySoftMasks, check_soft_mask_chain, with_soft_masks
from .map_folder import MapFolder, open_folder
from .store import SoftMaskError, SoftMasks
from .writer import SoftMaskWriter

__all__ = [
    "SOFT_KEY",
    "AnySoftMasks",
    "MapFolder",
    "SoftMaskError",
    "SoftMaskWriter",
    "SoftMasks",
    "SoftMasksByStructure",
    "certainty",
    "check_soft_mask_chain",
    "disagreement",
    "open_folder",
    "open_soft_masks",
    "with_soft_masks",
]
