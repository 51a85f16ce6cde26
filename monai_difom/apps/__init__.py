"""What a person asks for in one command: evaluate a student, summarise a run, try the demo."""

from .command_line import check_overrides
from .evaluate import evaluate_bundle, evaluate_set, evaluate_sets, predict_probability
from .export import describe_run, export_encoder
from .folders import FolderScores, evaluate_folders
from .pretrain import pretrain_encoder
from .running import running_settings
from .score_files import score_table, write_scores
from .summary import summarize
from .synthesize import generate_images, synthesize, train_diffusion
from .trained_bundle import check_bundle, write_trained_bundle

__all__ = [
    "FolderScores",
    "check_bundle",
    "check_overrides",
    "describe_run",
    "evaluate_bundle",
    "evaluate_folders",
    "evaluate_set",
    "evaluate_sets",
    "export_encoder",
    "generate_images",
    "predict_probability",
    "pretrain_encoder",
    "running_settings",
    "score_table",
    "summarize",
    "synthesize",
    "train_diffusion",
    "write_scores",
    "write_trained_bundle",
]
