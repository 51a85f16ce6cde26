"""What a person asks for in one command: evaluate a student, summarise a run, try the demo."""

from .command_line import check_overrides
from .evaluate import evaluate_bundle, evaluate_set, evaluate_sets, predict_probability
from .pretrain import pretrain_encoder
from .summary import summarize
from .synthesize import generate_images, synthesize, train_diffusion

__all__ = [
    "check_overrides",
    "evaluate_bundle",
    "evaluate_set",
    "evaluate_sets",
    "generate_images",
    "predict_probability",
    "pretrain_encoder",
    "summarize",
    "synthesize",
    "train_diffusion",
]
