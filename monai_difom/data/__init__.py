"""Data lists, checks, the data set that training reads, and synthetic images to try everything on."""

from .chains import evaluation_chain, loading_chain, plain_augmentation, training_augmentation
from .checks import BinaryMaskd, CheckPaird, binarise, check_pairs
from .datalists import clinicdb_sequence, split_validation, test_sets, train_validation, training_pairs
from .dataset import EpochSampler, ViewDataset
from .groups import regroup
from .structures import LoadStructuresd, check_structures, read_structures
from .synthetic import make_polyps, polyp_image
from .synthetic_fluoroscopy import STRUCTURES, make_fluoroscopy, swallow_frame

__all__ = [
    "STRUCTURES",
    "BinaryMaskd",
    "CheckPaird",
    "EpochSampler",
    "LoadStructuresd",
    "ViewDataset",
    "binarise",
    "check_pairs",
    "check_structures",
    "clinicdb_sequence",
    "evaluation_chain",
    "loading_chain",
    "make_fluoroscopy",
    "make_polyps",
    "plain_augmentation",
    "polyp_image",
    "read_structures",
    "regroup",
    "split_validation",
    "swallow_frame",
    "test_sets",
    "train_validation",
    "training_augmentation",
    "training_pairs",
]
