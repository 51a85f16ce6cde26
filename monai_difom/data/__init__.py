"""Data lists, checks, the data set that training reads, and synthetic images to try everything on."""

from .chains import evaluation_chain, loading_chain, plain_augmentation, training_augmentation
from .checks import BinaryMaskd, CheckPaird, ClassChannelsd, binarise, check_pairs
from .datalists import clinicdb_sequence, split_validation, test_sets, train_validation, training_pairs
from .dataset import EpochSampler, ViewDataset
from .duplicates import check_transfer
from .layouts import class_names, prepare_layout
from .synthetic import make_polyps, polyp_image
from .transfer import (
    image_chain,
    strong_augmentation,
    transfer_of_labelled,
    unlabelled_images,
)

__all__ = [
    "BinaryMaskd",
    "CheckPaird",
    "ClassChannelsd",
    "EpochSampler",
    "ViewDataset",
    "binarise",
    "check_pairs",
    "check_transfer",
    "class_names",
    "clinicdb_sequence",
    "evaluation_chain",
    "image_chain",
    "loading_chain",
    "make_polyps",
    "plain_augmentation",
    "polyp_image",
    "prepare_layout",
    "split_validation",
    "strong_augmentation",
    "test_sets",
    "train_validation",
    "training_augmentation",
    "training_pairs",
    "transfer_of_labelled",
    "unlabelled_images",
]
