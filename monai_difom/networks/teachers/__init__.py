"""Frozen foundation models that give feature maps to learn from."""

from .adapted import SegmentingTeacher
from .base import InputContract, Teacher, TeacherMap
from .network import NetworkTeacher, TimmTeacher, bundle_teacher, timm_teacher
from .segment_anything import SegmentAnythingTeacher
from .vit import ViTTeacher

__all__ = [
    "InputContract",
    "NetworkTeacher",
    "SegmentAnythingTeacher",
    "SegmentingTeacher",
    "Teacher",
    "TeacherMap",
    "TimmTeacher",
    "ViTTeacher",
    "bundle_teacher",
    "timm_teacher",
]
