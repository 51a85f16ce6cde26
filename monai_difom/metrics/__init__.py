"""Scores of one image at its own size."""

from .overlap import image_scores, mean_scores
from .structures import StructureDice

__all__ = ["StructureDice", "image_scores", "mean_scores"]
