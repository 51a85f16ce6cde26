"""Building blocks of the students."""

from .backbone import encoder_tensors, load_backbone
from .conv import DoubleConv, check_input_size, check_network_input, upsample_like
from .latents import InlineLatents, SideLatents, make_latents

__all__ = [
    "DoubleConv",
    "InlineLatents",
    "SideLatents",
    "check_input_size",
    "check_network_input",
    "encoder_tensors",
    "load_backbone",
    "make_latents",
    "upsample_like",
]
