"""What a person asks for in one command: evaluate a student, summarise, compare and report runs, try the demo."""

from .command_line import check_overrides
from .evaluate import evaluate_bundle, evaluate_set, evaluate_sets, predict_probability
from .record import finish_record, start_record
from .report import conclude, write_report
from .summary import summarize

__all__ = [
    "check_overrides",
    "conclude",
    "evaluate_bundle",
    "evaluate_set",
    "evaluate_sets",
    "finish_record",
    "predict_probability",
    "start_record",
    "summarize",
    "write_report",
]
