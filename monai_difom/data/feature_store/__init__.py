"""The feature store: targets of images and views, computed once and read in every epoch."""

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

__all__ = ["FORMAT", "PICTURE", "RAW", "FeatureStore", "define", "image_key", "image_keys", "image_name"]
__all__ += ["open_store", "thumbnail"]
