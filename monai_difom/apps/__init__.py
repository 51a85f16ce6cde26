"""What a person asks for in one command: evaluate a student, summarise a run, try the demo."""

from .command_line import check_overrides
from .evaluate import evaluate_bundle, evaluate_set, evaluate_sets, predict_probability
from .running import running_settings
from .summary import summarize
from .trained_bundle import check_bundle, write_trained_bundle

__all__ = [
    "check_bundle",
    "check_overrides",
    "evaluate_bundle",
    "evaluate_set",
    "evaluate_sets",
    "predict_probability",
    "running_settings",
    "summarize",
    "write_trained_bundle",
]
