"""Students, teachers, and the taps by which both are read."""

from . import nets, teachers

__all__ = ["nets", "teachers"]
