"""Data lists, checks, the data set that training reads, and synthetic images to try everything on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..utils.lazy import lazy_names

if TYPE_CHECKING:
    from .chains import (
        chain_at_size,
        evaluation_chain,
        loading_chain,
        plain_augmentation,
        training_augmentation,
    )
    from .checks import BinaryMaskd, CheckPaird, ClassChannelsd, binarise
    from .datalists import split_validation, test_sets, train_validation, training_pairs
    from .dataset import EpochSampler, ItemError, ViewDataset
    from .duplicates import check_transfer
    from .feature_store import FeatureStore, define, image_keys, open_store
    from .feature_store.build import Build, build_shards
    from .feature_store.policies import POLICIES
    from .feature_store.shards import DamagedShardError, StoreError
    from .groups import regroup, split_folds
    from .items import is_volume
    from .layouts import class_names, prepare_layout
    from .mixed_sampler import MixedSampler
    from .nifti import volume_sets, volume_slices, voxel_size
    from .published.clinicdb import clinicdb_sequence, image_group
    from .soft_masks import (
        MapFolder,
        SoftMaskError,
        SoftMasks,
        SoftMasksByStructure,
        SoftMaskWriter,
        open_soft_masks,
    )
    from .structures import LoadStructuresd, read_structures, structure_names
    from .survey import check_pairs, check_structures, describe_data
    from .synthetic import make_polyps, polyp_image
    from .synthetic_fluoroscopy import STRUCTURES, make_fluoroscopy, swallow_frame
    from .transfer import (
        image_chain,
        strong_augmentation,
        transfer_items,
        transfer_of_labelled,
    )
    from .unlabelled import check_unlabelled, unlabelled_images, unlabelled_items, unlabelled_volumes
    from .volume_grids import CheckVolumesd
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "chains": "chain_at_size evaluation_chain loading_chain plain_augmentation training_augmentation",
            "checks": "BinaryMaskd CheckPaird ClassChannelsd binarise",
            "datalists": "split_validation test_sets train_validation training_pairs",
            "dataset": "EpochSampler ItemError ViewDataset",
            "duplicates": "check_transfer",
            "feature_store": "FeatureStore define image_keys open_store",
            "feature_store.build": "Build build_shards",
            "feature_store.policies": "POLICIES",
            "feature_store.shards": "DamagedShardError StoreError",
            "groups": "regroup split_folds",
            "items": "is_volume",
            "layouts": "class_names prepare_layout",
            "mixed_sampler": "MixedSampler",
            "nifti": "volume_sets volume_slices voxel_size",
            "published.clinicdb": "clinicdb_sequence image_group",
            "soft_masks": "MapFolder SoftMaskError SoftMasks SoftMasksByStructure SoftMaskWriter open_soft_masks",
            "structures": "LoadStructuresd read_structures structure_names",
            "survey": "check_pairs check_structures describe_data",
            "synthetic": "make_polyps polyp_image",
            "synthetic_fluoroscopy": "STRUCTURES make_fluoroscopy swallow_frame",
            "transfer": "image_chain strong_augmentation transfer_items transfer_of_labelled",
            "unlabelled": "check_unlabelled unlabelled_images unlabelled_items unlabelled_volumes",
            "volume_grids": "CheckVolumesd",
        },
    )
