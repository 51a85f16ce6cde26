"""Building blocks of the students."""

from .conv import DoubleConv, check_input_size, check_network_input, upsample_like
from .latents import InlineLatents, SideLatents, make_latents

__all__ = [
    "DoubleConv",
    "InlineLatents",
    "SideLatents",
    "check_input_size",
    "check_network_input",
    "make_latents",
    "upsample_like",
]
