"""Soft masks: what adapted teachers say of images, on disk."""

from .certainty import certainty, disagreement
from .load import SOFT_KEY, check_soft_mask_chain, with_soft_masks
from .map_folder import MapFolder, open_soft_masks
from .store import SoftMaskError, SoftMasks
from .writer import SoftMaskWriter

__all__ = [
    "SOFT_KEY",
    "MapFolder",
    "SoftMaskError",
    "SoftMaskWriter",
    "SoftMasks",
    "certainty",
    "check_soft_mask_chain",
    "disagreement",
    "open_soft_masks",
    "with_soft_masks",
]
