"""Data lists, checks, the data set that training reads, and synthetic images to try everything on."""

from .chains import evaluation_chain, loading_chain, plain_augmentation, training_augmentation
from .checks import BinaryMaskd, CheckPaird, ClassChannelsd, binarise, check_pairs
from .datalists import (
    clinicdb_sequence,
    image_group,
    split_validation,
    test_sets,
    train_validation,
    training_pairs,
)
from .dataset import EpochSampler, ViewDataset
from .duplicates import check_transfer
from .groups import regroup
from .layouts import class_names, prepare_layout
from .structures import LoadStructuresd, check_structures, read_structures
from .synthetic import make_polyps, polyp_image
from .synthetic_fluoroscopy import STRUCTURES, make_fluoroscopy, swallow_frame
from .transfer import (
    image_chain,
    strong_augmentation,
    transfer_of_labelled,
    unlabelled_images,
)

__all__ = [
    "STRUCTURES",
    "BinaryMaskd",
    "CheckPaird",
    "ClassChannelsd",
    "EpochSampler",
    "LoadStructuresd",
    "ViewDataset",
    "binarise",
    "check_pairs",
    "check_structures",
    "check_transfer",
    "class_names",
    "clinicdb_sequence",
    "evaluation_chain",
    "image_chain",
    "image_group",
    "loading_chain",
    "make_fluoroscopy",
    "make_polyps",
    "plain_augmentation",
    "polyp_image",
    "prepare_layout",
    "read_structures",
    "regroup",
    "split_validation",
    "strong_augmentation",
    "swallow_frame",
    "test_sets",
    "train_validation",
    "training_augmentation",
    "training_pairs",
    "transfer_of_labelled",
    "unlabelled_images",
]
