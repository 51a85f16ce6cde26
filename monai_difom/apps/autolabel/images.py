"""The images that are to be labelled: pictures or volumes, each once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data import image_keys, unlabelled_images
from ...data.feature_store import image_name
from ...data.items import is_volume
from ...utils.names import few
from .teachers import MaskTeacher

Images = str | os.PathLike | Sequence[str | os.PathLike | Mapping[str, Any]]


@dataclass(frozen=True)
class ToLabel:
    """An image that is to be labelled.

    Args:
        key: digest of its bytes.
        name: its name for people.
        path: where it is.
    """

    key: str
    name: str
    path: str


def are_volumes(teachers: Sequence[MaskTeacher]) -> bool:
    """Return whether the teachers label volumes, and not pictures.

    Raises:
        ValueError: some do, others do not.
    """
    volumes = [teacher.name for teacher in teachers if teacher.volumes is not None]
    if volumes and len(volumes) < len(teachers):
        others = [teacher.name for teacher in teachers if teacher.volumes is None]
        raise ValueError(
            f"{few(volumes)} label volumes, {few(others)} pictures. Label with teachers of one kind."
        )
    return bool(volumes)


def images_to_label(images: Images, volumes: bool, progress: bool) -> list[ToLabel]:
    """Return every different image once, in order.

    Args:
        images: a folder, with its subfolders; or paths, or items with ``image``.
        volumes: whether NIfTI volumes are to be labelled, and not pictures.
        progress: show a progress bar.

    Raises:
        ValueError: there are none, or some of the other kind.
    """
    if isinstance(images, (str, os.PathLike)):
        paths = [item["image"] for item in unlabelled_images(Path(images), volumes=volumes)]
    else:
        paths = [os.fspath(i["image"] if isinstance(i, Mapping) else i) for i in images]
    if not paths:
        raise ValueError("there are no images to label.")
    strange = [path for path in paths if is_volume(path) != volumes]
    if strange:
        raise ValueError(
            f"the teachers label {'volumes' if volumes else 'pictures'}, and {len(strange)} of {len(paths)} images are none: "
            f"{few(strange)}."
        )
    keys = image_keys([{"image": path} for path in paths], progress)
    named = {
        key: ToLabel(key, image_name({"image": path}), path)
        for key, path in reversed(list(zip(keys, paths, strict=True)))
    }
    return [named[key] for key in dict.fromkeys(keys)]
