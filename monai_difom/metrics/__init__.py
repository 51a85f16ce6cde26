"""Scores of images at their own size: overlap, surfaces, grey levels; how sure their means are; as MONAI metrics."""

from .cumulative import AlignmentMetric, ImageScoreMetric
from .evaluator import (
    COLUMNS,
    SCORES,
    image_scores,
    map_scores,
    mean_of_structures,
    mean_scores,
    structure_scores,
)
from .grey_maps import GreyMap, to_levels
from .overlap import overlap_scores
from .similarity import linear_cka
from .statistics import Comparison, Estimate, bootstrap_mean, compare_paired
from .structures import StructureDice
from .surface import surface_scores

__all__ = [
    "COLUMNS",
    "SCORES",
    "AlignmentMetric",
    "Comparison",
    "Estimate",
    "GreyMap",
    "ImageScoreMetric",
    "StructureDice",
    "bootstrap_mean",
    "compare_paired",
    "image_scores",
    "linear_cka",
    "map_scores",
    "mean_of_structures",
    "mean_scores",
    "overlap_scores",
    "structure_scores",
    "surface_scores",
    "to_levels",
]
