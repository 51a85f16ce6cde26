"""What a person asks for in one command: evaluate a student, summarise a run, try the demo."""

from .evaluate import evaluate_set, evaluate_sets, picture_chain, predict_probability
from .summary import summarize

__all__ = ["evaluate_set", "evaluate_sets", "picture_chain", "predict_probability", "summarize"]
