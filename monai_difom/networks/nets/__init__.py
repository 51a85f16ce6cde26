"""Students: light segmentation networks with named taps."""

from ..student import reparameterize
from .any_network import MainOutput, tapped
from .emcadnet import EMCADNet, load_published_emcadnet
from .light_segmenter import LightSegmenter
from .pranet import PraNet, load_published_pranet
from .sam_segmenter import SamSegmenter
from .self_supervised import VitMaskedAutoencoder, VitMomentumContrast
from .unet import DifomUNet
from .unetpp import DifomUNetPlusPlus, load_published_unetpp
from .vit_segmenter import ViTSegmenter

__all__ = [
    "DifomUNet",
    "DifomUNetPlusPlus",
    "EMCADNet",
    "LightSegmenter",
    "MainOutput",
    "PraNet",
    "SamSegmenter",
    "ViTSegmenter",
    "VitMaskedAutoencoder",
    "VitMomentumContrast",
    "load_published_emcadnet",
    "load_published_pranet",
    "load_published_unetpp",
    "reparameterize",
    "tapped",
]
