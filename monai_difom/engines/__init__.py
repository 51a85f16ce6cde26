"""Phases, objective and trainer of a distillation."""

from .distiller import Distiller, network_state
from .objective import Objective
from .phases import Phase, Plan
from .schedule import Constant, OneCycle
from .trainer import DistillationTrainer

__all__ = [
    "Constant",
    "DistillationTrainer",
    "Distiller",
    "Objective",
    "OneCycle",
    "Phase",
    "Plan",
    "network_state",
]
