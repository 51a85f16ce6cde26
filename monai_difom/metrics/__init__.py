"""Scores of one image at its own size."""

from .overlap import image_scores, mean_scores
from .similarity import linear_cka
from .structures import StructureDice

__all__ = ["StructureDice", "image_scores", "linear_cka", "mean_scores"]
