"""Scores of images at their own size: overlap, surfaces, grey levels; how sure their means are; as MONAI metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..utils.lazy import lazy_names

if TYPE_CHECKING:
    from .cumulative import AlignmentMetric, ImageScoreMetric
    from .evaluator import (
        image_scores,
        map_scores,
        mean_of_structures,
        mean_scores,
        structure_scores,
    )
    from .grey_maps import GreyMap, to_levels
    from .overlap import overlap_scores
    from .scores import COLUMNS, MARKS, SCORES, ImageMark, Score, score_columns, score_of, unit_of_length
    from .similarity import linear_cka
    from .statistics import Comparison, Estimate, bootstrap_mean, compare_paired
    from .structures import StructureDice
    from .surface import surface_scores
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "cumulative": "AlignmentMetric ImageScoreMetric",
            "evaluator": "image_scores map_scores mean_of_structures mean_scores structure_scores",
            "grey_maps": "GreyMap to_levels",
            "overlap": "overlap_scores",
            "scores": "COLUMNS MARKS SCORES ImageMark Score score_columns score_of unit_of_length",
            "similarity": "linear_cka",
            "statistics": "Comparison Estimate bootstrap_mean compare_paired",
            "structures": "StructureDice",
            "surface": "surface_scores",
        },
    )
