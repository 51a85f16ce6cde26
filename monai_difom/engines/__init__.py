"""Phases, objective and trainer of a distillation."""

from ..networks.student import network_state
from .adaptation import AdaptSettings, adaptation_trainer, adaptation_validator, parameter_groups
from .diffusion import DiffusionSettings, ImageDiffusion
from .distiller import Distiller
from .mean_prediction import MeanPrediction
from .objective import Objective
from .phases import Phase, Plan
from .pretrainer import PretrainSettings, SelfSupervisedTrainer
from .schedule import Constant, OneCycle
from .trainer import DistillationTrainer

__all__ = [
    "AdaptSettings",
    "Constant",
    "DiffusionSettings",
    "DistillationTrainer",
    "Distiller",
    "ImageDiffusion",
    "MeanPrediction",
    "Objective",
    "OneCycle",
    "Phase",
    "Plan",
    "PretrainSettings",
    "SelfSupervisedTrainer",
    "adaptation_trainer",
    "adaptation_validator",
    "network_state",
    "parameter_groups",
]
