"""Distillation and segmentation losses, as MONAI losses."""

from .balance import UniformBalancer
from .deep_supervision import DeepSupervision
from .feature import FeatureDistillationLoss
from .frequency import FrequencyDistillationLoss
from .structure import StructureLoss

__all__ = [
    "DeepSupervision",
    "FeatureDistillationLoss",
    "FrequencyDistillationLoss",
    "StructureLoss",
    "UniformBalancer",
]
