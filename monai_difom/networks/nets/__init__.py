"""Students: light segmentation networks with named taps."""

from .unet import DifomUNet
from .unetpp import DifomUNetPlusPlus, load_published_unetpp

__all__ = ["DifomUNet", "DifomUNetPlusPlus", "load_published_unetpp"]
