"""Frozen foundation models that give feature maps to learn from."""

from .adapted import SegmentingTeacher
from .base import InputContract, Teacher, TeacherMap
from .convnext import ConvNextTeacher
from .hub_sam import HubSAMTeacher
from .input_check import input_mismatch
from .mask_former import MaskFormerTeacher
from .medclip import MedCLIPTeacher
from .network import NetworkTeacher, TimmTeacher, bundle_teacher, bundle_teachers, timm_teacher
from .segment_anything import SegmentAnythingTeacher, medsam_teacher
from .vit import ViTTeacher

__all__ = [
    "ConvNextTeacher",
    "HubSAMTeacher",
    "InputContract",
    "MaskFormerTeacher",
    "MedCLIPTeacher",
    "NetworkTeacher",
    "SegmentAnythingTeacher",
    "SegmentingTeacher",
    "Teacher",
    "TeacherMap",
    "TimmTeacher",
    "ViTTeacher",
    "bundle_teacher",
    "bundle_teachers",
    "input_mismatch",
    "medsam_teacher",
    "timm_teacher",
]
