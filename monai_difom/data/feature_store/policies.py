"""When cached targets are right: the three policies, and the augmentations that each of them allows."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from monai.transforms import Compose, Randomizable, RandomizableTrait

from ...transforms import RandGeometryd, RandPhotometricd, RandViewd, SplitTeacherd
from ...utils import unknown_name
from .shards import StoreError

#: name of a policy -> what it allows; a store is read with all but ``online``
POLICIES = {
    "online": "the teachers see every view as it is drawn (feature_store: null); any geometry, slow",
    "views": "the augmentation draws among the stored dihedral views (RandViewd); photometric changes stay free; free geometry "
    "(RandGeometryd) rests while a phase reads stored maps",
    "frozen": "one view, no geometric augmentation while stored maps are read; photometric changes stay free",
}
_MOVING = ("monai.transforms.spatial", "monai.transforms.croppad")
_LIGHT = "monai.transforms.intensity"


def policies_sentence() -> str:
    """Return the three policies in one sentence, for messages."""
    return "Policies: " + "; ".join(f"{name!r}: {text}" for name, text in POLICIES.items()) + "."


def check_policy(policy: str) -> str:
    """Return the name of a policy that reads a store.

    Raises:
        ValueError: no such policy, or ``online``, which has no store.
    """
    if policy not in POLICIES:
        raise ValueError(f"{unknown_name('feature_policy', policy, POLICIES)} {policies_sentence()}")
    if policy == "online":
        raise StoreError(
            "feature_policy is 'online', which reads no feature store, but a feature_store is given. Set "
            f"feature_store to null, or choose another policy. {policies_sentence()}"
        )
    return policy


def check_augmentation(augment: Compose | None, policy: str, stored: Collection[int] | None = None) -> None:
    """Refuse an augmentation under which a stored target would not be that of the image.

    A feature map of a flipped image is not the flipped feature map (cosine 0.87 in a published measurement on
    DINOv3), so stored maps are never warped: every geometry that is drawn must have been stored.

    Args:
        augment: the random chain of the data set.
        policy: ``"views"`` or ``"frozen"``.
        stored: the stored views, where they are known already.

    Raises:
        StoreError: names the transform or the view, and the three policies.
    """
    for transform in flattened(augment):
        name, module = type(transform).__name__, type(transform).__module__
        if isinstance(transform, RandViewd):
            allowed = {0} if policy == "frozen" else set(transform.views if stored is None else stored)
            strange = sorted(set(transform.views) - allowed)
            if strange:
                raise StoreError(
                    f"RandViewd draws view {strange[0]}, which was never stored for policy {policy!r}; allowed are views "
                    f"{sorted(allowed)}. Build the store with more views (feature_views), or draw fewer. {policies_sentence()}"
                )
        elif isinstance(transform, (RandPhotometricd, RandGeometryd)) or module.startswith(_LIGHT):
            continue
        elif isinstance(transform, (Randomizable, RandomizableTrait)) or module.startswith(_MOVING):
            raise StoreError(
                f"{name} beside stored targets is refused: its geometry is not that of the stored views, and a warped "
                f"feature map is not the map of the warped image. Remove it, or train online. {policies_sentence()}"
            )


def flattened(augment: Compose | None) -> Iterator[Any]:
    """Yield the transforms of a chain, those of nested chains too."""
    for transform in () if augment is None else augment.transforms:
        if isinstance(transform, Compose):
            yield from flattened(transform)
        else:
            yield transform


def stored_chain(augment: Compose) -> Compose:
    """Return an augmentation as it is while stored maps are read: without free geometry, which they cannot follow."""
    return Compose([t for t in flattened(augment) if not isinstance(t, RandGeometryd)])


def teacher_chain(augment: Compose | None, view: int) -> Compose:
    """Return the part of an augmentation that makes the teachers' image, with its view fixed.

    Args:
        augment: the random chain of the data set; `RandViewd` in it becomes this view, light changes are left out.
        view: number of the view.

    Raises:
        StoreError: the chain never makes a teachers' image.
    """
    chain: list[Any] = []
    for transform in flattened(augment):
        if isinstance(transform, RandViewd):
            chain.append(
                RandViewd(transform.keys, (view,), 1.0, transform.spatial_dims, transform.allow_missing_keys)
            )
        elif isinstance(transform, SplitTeacherd):
            return Compose([*chain, transform])
        elif not isinstance(transform, (Randomizable, RandomizableTrait)):
            chain.append(transform)
    raise StoreError(
        "the augmentation makes no teachers' image: put SplitTeacherd between RandViewd and the photometric changes."
    )
