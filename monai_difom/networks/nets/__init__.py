"""Students: light segmentation networks with named taps."""

from .sam_segmenter import SamSegmenter
from .self_supervised import VitMaskedAutoencoder, VitMomentumContrast
from .unet import DifomUNet
from .unetpp import DifomUNetPlusPlus, load_published_unetpp

__all__ = [
    "DifomUNet",
    "DifomUNetPlusPlus",
    "SamSegmenter",
    "VitMaskedAutoencoder",
    "VitMomentumContrast",
    "load_published_unetpp",
]
