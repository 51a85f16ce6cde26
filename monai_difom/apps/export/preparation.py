"""Whether the trained bundle will prepare an image as the training does: asked before hours of training, not after."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import Compose

from ...data.items import is_volume
from ...transforms import NormalizeImaged
from ...transforms.picture_file import read_picture_file
from ...utils import with_folder
from ..deployed.facts import INFERENCE, METADATA, Deployment, read_deployment
from .trained_bundle import source_of, with_settings

_NEAR = 1e-4  # rounding of floats; one grey level of 256 is fifty times as much


def check_preparation(
    items: Sequence[Mapping[str, Any]],
    preprocessing: Callable,
    augmentation: Mapping[str, Callable],
    settings: Mapping[str, Any],
    bundle_root: str | os.PathLike,
    replaced: str | os.PathLike | None = None,
) -> None:
    """Prepare one image as the training does and as the trained bundle will, and refuse a difference.

    Args:
        items: items of the validation; the first picture is taken, and nothing is compared where there is none.
        preprocessing: the deterministic chain that loads an item.
        augmentation: ``"train"`` and ``"validate"``, what stands behind it; the latter draws nothing.
        settings: what of the running configuration goes into the trained bundle, see `running_settings`.
        bundle_root: the bundle that is trained.
        replaced: see `write_trained_bundle`.

    Raises:
        ValueError: training, validation and the trained bundle normalise in different ways, or the prepared image differs.
    """
    used = {name: _statistics(chain) for name, chain in augmentation.items()}
    if len(set(used.values())) > 1:
        raise ValueError(
            f"training and validation normalise images in different ways: {used}. Change mean and std, which all of them take."
        )
    image = next(
        (item for item in items if isinstance(item["image"], str) and not is_volume(item["image"])), None
    )
    if image is None:
        return
    trained = np.asarray(augmentation["validate"](preprocessing(dict(image)))["image"])
    facts = _facts(settings, bundle_root, replaced)
    deployed = facts.prepare(read_picture_file(image["image"], len(facts.mean)))[0]
    if trained.shape != deployed.shape or float(np.abs(trained - deployed).max()) > _NEAR:
        apart = (
            f"{trained.shape} and {deployed.shape}"
            if trained.shape != deployed.shape
            else f"up to {np.abs(trained - deployed).max():.3g} apart"
        )
        raise ValueError(
            f"the training and the bundle that it leaves prepare {image['image']} in different ways ({apart}): what is trained "
            "on one picture is useless on another. Change image_size, mean and std by their own options, or give --deployed DIR "
            f"with an {Path(INFERENCE).name} that prepares an image as train#preprocessing and validate#augmentation do."
        )


def _statistics(chain: Callable) -> tuple[Any, ...]:
    steps = chain.flatten().transforms if isinstance(chain, Compose) else [chain]
    return tuple(
        (tuple(step.mean.tolist()), tuple(step.std.tolist()))
        for step in steps
        if isinstance(step, NormalizeImaged)
    )


def _facts(
    settings: Mapping[str, Any], bundle_root: str | os.PathLike, replaced: str | os.PathLike | None
) -> Deployment:
    """What the trained bundle will say of itself."""
    with tempfile.TemporaryDirectory() as folder:
        for name in (INFERENCE, METADATA):
            text = source_of(Path(bundle_root), replaced, name).read_text(encoding="utf-8")
            text = with_settings(text, settings) if name == INFERENCE else text
            with_folder(Path(folder) / name).write_text(text, encoding="utf-8")
        return read_deployment(folder)
