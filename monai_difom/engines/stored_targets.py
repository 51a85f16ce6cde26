"""The feature store of a training's images: whether it is read, and when."""

from __future__ import annotations

from typing import Any

from ..data import FeatureStore


def used_store(loader: Any, distils: bool) -> FeatureStore | None:
    """Return the store that the training images' targets are read from, checked; None where the teachers run.

    Args:
        loader: the training's.
        distils: whether any term needs a target; else none is read.
    """
    dataset: Any = getattr(loader, "dataset", None)
    if getattr(dataset, "features", None) is None:
        return None
    dataset.features.active = distils
    if not distils:
        return None
    dataset.check_features()
    return dataset.features


def switch_store(loader: Any, active: bool) -> None:
    """Have the images of a loader bring their stored targets, or not; does nothing without a store."""
    store = getattr(getattr(loader, "dataset", None), "features", None)
    if store is not None:
        store.active = active
