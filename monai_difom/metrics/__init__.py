"""Scores of one image at its own size, and how sure their means are."""

from .overlap import image_scores, mean_scores
from .statistics import Comparison, Estimate, bootstrap_mean, compare_paired

__all__ = ["Comparison", "Estimate", "bootstrap_mean", "compare_paired", "image_scores", "mean_scores"]
