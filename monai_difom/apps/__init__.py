"""What a person asks for in one command: evaluate a student, summarise a run, try the demo."""

from .command_line import check_overrides
from .evaluate import evaluate_bundle, evaluate_set, evaluate_sets, predict_probability
from .features import FeatureBuilder
from .summary import summarize

__all__ = [
    "FeatureBuilder",
    "check_overrides",
    "evaluate_bundle",
    "evaluate_set",
    "evaluate_sets",
    "predict_probability",
    "summarize",
]
