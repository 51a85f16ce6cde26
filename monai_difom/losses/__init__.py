"""Distillation and segmentation losses, as MONAI losses."""

from .annotated import MISSING, AnnotatedLoss
from .balance import (
    Balancer,
    RunningMeanBalancer,
    StaticBalancer,
    TeacherDropping,
    UncertaintyBalancer,
    UniformBalancer,
)
from .balance_learned import AttentionBalancer, MLPBalancer
from .deep_supervision import DeepSupervision
from .feature import FeatureDistillationLoss
from .frequency import FrequencyDistillationLoss
from .logit import LogitDistillationLoss
from .semimetric import SemimetricDiceCELoss
from .structure import StructureLoss

__all__ = [
    "MISSING",
    "AnnotatedLoss",
    "AttentionBalancer",
    "Balancer",
    "DeepSupervision",
    "FeatureDistillationLoss",
    "FrequencyDistillationLoss",
    "LogitDistillationLoss",
    "MLPBalancer",
    "RunningMeanBalancer",
    "SemimetricDiceCELoss",
    "StaticBalancer",
    "StructureLoss",
    "TeacherDropping",
    "UncertaintyBalancer",
    "UniformBalancer",
]
