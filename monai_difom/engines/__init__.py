"""Phases, objective and trainer of a distillation."""

from ..networks.student import network_state
from .diffusion import DiffusionSettings, ImageDiffusion
from .distiller import Distiller
from .objective import Objective
from .phases import Phase, Plan
from .pretrainer import PretrainSettings, SelfSupervisedTrainer
from .schedule import Constant, OneCycle
from .trainer import DistillationTrainer

__all__ = [
    "Constant",
    "DiffusionSettings",
    "DistillationTrainer",
    "Distiller",
    "ImageDiffusion",
    "Objective",
    "OneCycle",
    "Phase",
    "Plan",
    "PretrainSettings",
    "SelfSupervisedTrainer",
    "network_state",
]
