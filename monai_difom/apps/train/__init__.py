"""Training in one line: data and names in; a configuration, a run and a report out."""

from .command import run_train, train
from .finished import FinishedRun

__all__ = ["FinishedRun", "run_train", "train"]
