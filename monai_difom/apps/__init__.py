"""What a person asks for in one command: evaluate a student, summarise a run, try the demo."""

from .command_line import check_overrides
from .evaluate import evaluate_bundle, evaluate_set, evaluate_sets, predict_probability
from .folders import FolderScores, evaluate_folders
from .score_files import score_table, write_scores
from .summary import summarize

__all__ = [
    "FolderScores",
    "check_overrides",
    "evaluate_bundle",
    "evaluate_folders",
    "evaluate_set",
    "evaluate_sets",
    "predict_probability",
    "score_table",
    "summarize",
    "write_scores",
]
