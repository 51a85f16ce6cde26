"""Handlers of a distillation run: phase log, collapse monitor, checkpoints, progress bar, pictures, teachers."""

from .checkpoint import TrainingCheckpoint, kept_weights
from .collapse import CollapseError, CollapseMonitor
from .phases import PhaseLog
from .pictures import PicturePanel
from .progress import TrainingProgress
from .teachers import TeacherDiagnostics

__all__ = [
    "CollapseError",
    "CollapseMonitor",
    "PhaseLog",
    "PicturePanel",
    "TeacherDiagnostics",
    "TrainingCheckpoint",
    "TrainingProgress",
    "kept_weights",
]
