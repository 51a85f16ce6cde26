"""Students, teachers, and the taps by which both are read."""

from . import blocks, nets, teachers

__all__ = ["blocks", "nets", "teachers"]
