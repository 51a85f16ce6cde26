"""From teacher maps to what the student must match: standardise, fuse, resample, split."""

from .fuse import ConcatFusion, LearnedFusion, PCAFusion, make_fusion
from .pipeline import TargetPipeline
from .standardize import PhiStandardizer, StreamingCovariance, equal_diagonal_rotation
from .terms import DistillationTerm, LogitTerm, layer_terms, one_head_each

__all__ = [
    "ConcatFusion",
    "DistillationTerm",
    "LearnedFusion",
    "LogitTerm",
    "PCAFusion",
    "PhiStandardizer",
    "StreamingCovariance",
    "TargetPipeline",
    "equal_diagonal_rotation",
    "layer_terms",
    "make_fusion",
    "one_head_each",
]
