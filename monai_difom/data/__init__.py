"""Data lists, checks, the data set that training reads, and synthetic images to try everything on."""

from .chains import evaluation_chain, loading_chain, plain_augmentation, training_augmentation
from .checks import BinaryMaskd, CheckPaird, binarise, check_pairs
from .datalists import (
    clinicdb_sequence,
    image_group,
    split_validation,
    test_sets,
    train_validation,
    training_pairs,
)
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
    "evaluation_chain",
    "image_group",
    "loading_chain",
    "make_polyps",
    "plain_augmentation",
    "polyp_image",
    "split_validation",
    "test_sets",
    "train_validation",
    "training_augmentation",
    "training_pairs",
]
