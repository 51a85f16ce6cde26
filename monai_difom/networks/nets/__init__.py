"""Students: light segmentation networks with named taps."""

from .any_network import MainOutput, tapped
from .light_segmenter import LightSegmenter, reparameterize
from .unet import DifomUNet
from .unetpp import DifomUNetPlusPlus, load_published_unetpp
from .vit_segmenter import ViTSegmenter

__all__ = [
    "DifomUNet",
    "DifomUNetPlusPlus",
    "LightSegmenter",
    "MainOutput",
    "ViTSegmenter",
    "load_published_unetpp",
    "reparameterize",
    "tapped",
]
