"""Soft masks: what adapted teachers say of images, on disk."""

from .certainty import certainty, disagreement
from .map_folder import MapFolder, open_soft_masks
from .store import SoftMaskError, SoftMasks
from .writer import SoftMaskWriter

__all__ = [
    "MapFolder",
    "SoftMaskError",
    "SoftMaskWriter",
    "SoftMasks",
    "certainty",
    "disagreement",
    "open_soft_masks",
]
