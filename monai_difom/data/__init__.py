"""Data lists, checks, the data set that training reads, and synthetic images to try everything on."""

from .chains import (
    chain_at_size,
    evaluation_chain,
    loading_chain,
    plain_augmentation,
    training_augmentation,
)
from .checks import BinaryMaskd, CheckPaird, ClassChannelsd, binarise, check_pairs
from .datalists import (
    clinicdb_sequence,
    image_group,
    split_validation,
    test_sets,
    train_validation,
    training_pairs,
)
from .dataset import EpochSampler, ItemError, ViewDataset
from .duplicates import check_transfer
from .feature_store import (
    POLICIES,
    Build,
    DamagedShardError,
    FeatureStore,
    StoreError,
    build_shards,
    define,
    image_keys,
    open_store,
)
from .groups import regroup, split_folds
from .items import is_volume
from .layouts import class_names, prepare_layout
from .nifti import volume_sets, volume_slices, voxel_size
from .soft_masks import MapFolder, SoftMaskError, SoftMasks, SoftMaskWriter, open_soft_masks
from .structures import LoadStructuresd, check_structures, read_structures, structure_names
from .synthetic import make_polyps, polyp_image
from .synthetic_fluoroscopy import STRUCTURES, make_fluoroscopy, swallow_frame
from .transfer import (
    image_chain,
    strong_augmentation,
    transfer_items,
    transfer_of_labelled,
    unlabelled_images,
)
from .volume_grids import CheckVolumesd

__all__ = [
    "POLICIES",
    "STRUCTURES",
    "BinaryMaskd",
    "Build",
    "CheckPaird",
    "CheckVolumesd",
    "ClassChannelsd",
    "DamagedShardError",
    "EpochSampler",
    "FeatureStore",
    "ItemError",
    "LoadStructuresd",
    "MapFolder",
    "SoftMaskError",
    "SoftMaskWriter",
    "SoftMasks",
    "StoreError",
    "ViewDataset",
    "binarise",
    "build_shards",
    "chain_at_size",
    "check_pairs",
    "check_structures",
    "check_transfer",
    "class_names",
    "clinicdb_sequence",
    "define",
    "evaluation_chain",
    "image_chain",
    "image_group",
    "image_keys",
    "is_volume",
    "loading_chain",
    "make_fluoroscopy",
    "make_polyps",
    "open_soft_masks",
    "open_store",
    "plain_augmentation",
    "polyp_image",
    "prepare_layout",
    "read_structures",
    "regroup",
    "split_folds",
    "split_validation",
    "strong_augmentation",
    "structure_names",
    "swallow_frame",
    "test_sets",
    "train_validation",
    "training_augmentation",
    "training_pairs",
    "transfer_items",
    "transfer_of_labelled",
    "unlabelled_images",
    "volume_sets",
    "volume_slices",
    "voxel_size",
]
