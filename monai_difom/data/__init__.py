"""Data lists, checks, the data set that training reads, and synthetic images to try everything on."""

from .checks import BinaryMaskd, CheckPaird, binarise, check_pairs
from .datalists import clinicdb_sequence, split_validation, test_sets, train_validation, training_pairs
from .dataset import EpochSampler, ViewDataset
from .synthetic import make_polyps, polyp_image

__all__ = [
    "BinaryMaskd",
    "CheckPaird",
    "EpochSampler",
    "ViewDataset",
    "binarise",
    "check_pairs",
    "clinicdb_sequence",
    "make_polyps",
    "polyp_image",
    "split_validation",
    "test_sets",
    "train_validation",
    "training_pairs",
]
