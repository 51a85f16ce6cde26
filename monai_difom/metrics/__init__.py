"""Scores of one image at its own size."""

from .overlap import image_scores, mean_scores

__all__ = ["image_scores", "mean_scores"]
