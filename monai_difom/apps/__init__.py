"""What a person asks for in one command: evaluate a student, summarise a run, try the demo."""

from .command_line import check_overrides
from .evaluate import evaluate_bundle, evaluate_set, evaluate_sets, predict_probability
from .export import describe_run, export_encoder
from .summary import summarize

__all__ = [
    "check_overrides",
    "describe_run",
    "evaluate_bundle",
    "evaluate_set",
    "evaluate_sets",
    "export_encoder",
    "predict_probability",
    "summarize",
]
