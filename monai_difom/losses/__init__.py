"""Distillation and segmentation losses, as MONAI losses."""

from .balance import UniformBalancer
from .feature import FeatureDistillationLoss
from .frequency import FrequencyDistillationLoss
from .logit import LogitDistillationLoss
from .structure import StructureLoss

__all__ = [
    "FeatureDistillationLoss",
    "FrequencyDistillationLoss",
    "LogitDistillationLoss",
    "StructureLoss",
    "UniformBalancer",
]
