"""The feature store: targets of images and views, computed once and read in every epoch."""

from .definition import define
from .images import image_key, image_keys, image_name, thumbnail
from .store import FORMAT, PICTURE, RAW, FeatureStore, open_store

__all__ = ["FORMAT", "PICTURE", "RAW", "FeatureStore", "define", "image_key", "image_keys", "image_name"]
__all__ += ["open_store", "thumbnail"]
