"""Data lists, checks, the data set that training reads, and synthetic images to try everything on."""

from .chains import evaluation_chain, loading_chain, plain_augmentation, training_augmentation
from .checks import BinaryMaskd, CheckPaird, binarise, check_pairs
from .datalists import clinicdb_sequence, split_validation, test_sets, train_validation, training_pairs
from .dataset import EpochSampler, ViewDataset
from .feature_store import FeatureStore, define, image_keys, open_store
from .policies import POLICIES
from .shards import DamagedShardError, StoreError
from .store_build import Build, build_shards
from .synthetic import make_polyps, polyp_image

__all__ = [
    "POLICIES",
    "BinaryMaskd",
    "Build",
    "CheckPaird",
    "DamagedShardError",
    "EpochSampler",
    "FeatureStore",
    "StoreError",
    "ViewDataset",
    "binarise",
    "build_shards",
    "check_pairs",
    "clinicdb_sequence",
    "define",
    "evaluation_chain",
    "image_keys",
    "loading_chain",
    "make_polyps",
    "open_store",
    "plain_augmentation",
    "polyp_image",
    "split_validation",
    "test_sets",
    "train_validation",
    "training_augmentation",
    "training_pairs",
]
