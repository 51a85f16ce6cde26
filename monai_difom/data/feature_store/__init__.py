"""The feature store: targets of images and views, computed once and read in every epoch."""

from .build import Build, build_shards
from .policies import POLICIES
from .shards import DamagedShardError, StoreError
from .store import (
    FORMAT,
    PICTURE,
    RAW,
    FeatureStore,
    define,
    image_key,
    image_keys,
    image_name,
    open_store,
    thumbnail,
)

__all__ = [
    "FORMAT",
    "PICTURE",
    "POLICIES",
    "RAW",
    "Build",
    "DamagedShardError",
    "FeatureStore",
    "StoreError",
    "build_shards",
    "define",
    "image_key",
    "image_keys",
    "image_name",
    "open_store",
    "thumbnail",
]
