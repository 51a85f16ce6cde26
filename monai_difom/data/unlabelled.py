"""Images without masks to train on beside labelled ones: where they are, and that no test image is among them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..transforms.picture_file import PICTURE_SUFFIXES, is_picture
from ..utils.names import few
from .datalists import train_validation
from .duplicates import Fingerprint, fingerprint, volume_digest
from .feature_store import image_keys
from .folder_files import files_below
from .items import NIFTI_SUFFIXES, Item, is_volume, name_of
from .nifti import volume_sets

#: stands for the training images of the data set beyond ``limit``, without their masks
REST = "rest"
#: one less the correlation of thumbnails: below it two files show the same picture. Copies saved anew as JPEG (quality 60), at
#: half their size or 5 % brighter are at most 4.1e-4 apart; the nearest two frames of the videos of CVC-ClinicDB 5e-4
SAME = 4.5e-4
#: and below this share of the distance of the two most alike images that are held out: small noisy images need more
_SHARE, _LARGEST = 0.02, 5e-3


def unlabelled_images(
    folder: str | Path, limit: int | None = None, volumes: bool = False
) -> list[dict[str, str]]:
    """Return the images of a folder, with those of its subfolders, as items without a label.

    Args:
        folder: folder of pictures; links to folders are followed, and files that are no pictures named in a warning.
        limit: use the first ``limit`` images; None for all.
        volumes: take NIfTI files, and not pictures.

    Returns:
        ``[{"image": path, "group": name}, ...]``, sorted by path.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no images, or the limit is below 1.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder of images at {root}.")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; allowed is a number of images from 1, or none for all of them.")
    found = files_below(root, is_volume if volumes else is_picture)
    if not found:
        allowed = NIFTI_SUFFIXES if volumes else PICTURE_SUFFIXES
        raise ValueError(f"{root} holds no images. Allowed types: {', '.join(allowed)}.")
    return [{"image": str(path), "group": name_of(path)} for path in found[:limit]]


def unlabelled_items(
    unlabelled: str | Path | Sequence[str | Path] | None,
    dataset_dir: str | Path,
    fraction: float = 0.1,
    seed: int = 0,
    limit: int | None = None,
    group: str | None = None,
) -> list[Item]:
    """Return the images that a training uses without masks, as items without a label.

    Args:
        unlabelled: a folder of images, ``"rest"`` for the training images of the data set beyond ``limit`` (their masks are not
            opened), a list of such, or None for none. Of images that are the same file, byte for byte, the first is taken; those
            of labelled training images are left out.
        dataset_dir: the data set, and how it is split: see `train_validation`.
        fraction: share of the validation images.
        seed: seed of the split.
        limit: number of labelled images.
        group: what tells which images stay together.

    Returns:
        ``[{"image": path, "group": name}, ...]``.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a folder without images, or nothing but labelled images.
    """
    if not unlabelled:
        return []
    train = train_validation(dataset_dir, fraction, seed, None, group)[0]
    return _without_labels(unlabelled, train, limit, volumes=False)


def unlabelled_volumes(
    unlabelled: str | Path | Sequence[str | Path] | None,
    dataset_dir: str | Path,
    test_fraction: float = 0.2,
    fraction: float = 0.1,
    seed: int = 0,
    limit: int | None = None,
) -> list[Item]:
    """Return the NIfTI volumes that a training uses without masks: `unlabelled_items` of volumes.

    Args:
        unlabelled: see `unlabelled_items`; folders of NIfTI files.
        dataset_dir: the data set, and how it is split: see `volume_sets`.
        test_fraction: share of the test volumes where the data set has none of its own; they are never among those returned.
        fraction: share of the validation volumes.
        seed: seed of the split.
        limit: number of labelled volumes.

    Returns:
        ``[{"image": path, "group": name}, ...]``.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a folder without volumes, or nothing but labelled volumes.
    """
    if not unlabelled:
        return []
    train = volume_sets(dataset_dir, test_fraction, fraction, seed)[0]
    return _without_labels(unlabelled, train, limit, volumes=True)


def _without_labels(
    unlabelled: str | Path | Sequence[str | Path], train: Sequence[Item], limit: int | None, volumes: bool
) -> list[Item]:
    """What the sources hold beside the labelled items: the first ``limit`` of the training items, None for all."""
    sources = [unlabelled] if isinstance(unlabelled, (str, Path)) else list(unlabelled)
    labelled, beyond = train[:limit], train[len(train[:limit]) :]
    found: list[Item] = []
    for source in sources:
        items: Sequence[Mapping[str, Any]] = (
            beyond if source == REST else unlabelled_images(source, volumes=volumes)
        )
        found += [{key: value for key, value in item.items() if key != "label"} for item in items]
    taken = set(image_keys(labelled))
    kept = []
    for item, key in zip(found, image_keys(found), strict=True):
        if key not in taken:
            kept.append(item)
            taken.add(key)
    if found and not kept:
        raise ValueError(
            f"all {len(found)} images without masks are labelled training images. Give a folder of further images, or a limit."
        )
    return kept


def check_unlabelled(
    unlabelled: Sequence[Mapping[str, Any]],
    held_out: Mapping[str, Sequence[Mapping[str, Any]]],
    progress: bool = True,
) -> dict[str, Any]:
    """Refuse images without masks of which a copy is held out for validation or test.

    What counts is the picture and not the name: files with the same pixels, and near copies (saved anew, resized, brightened a
    little) in any of the eight dihedral views: nearer than `SAME`, or fifty times nearer than any two held-out images are to each
    other. Volumes are held out where their values are the same, in any storage order and compression. A student that was trained
    on a test image cannot be tested on it.

    Args:
        unlabelled: items that are trained on.
        held_out: name of a set -> its items.
        progress: show a progress bar.

    Returns:
        ``images``, ``held_out``, and ``nearest``, the smallest distance (one less the correlation of thumbnails); None where one
        side is empty.

    Raises:
        ValueError: names the pairs.
    """
    _check_volumes(unlabelled, held_out)
    others = [(name, path) for name, items in held_out.items() for path in _pictures(items)]
    images = _pictures(unlabelled)
    if not images or not others:
        return {"images": len(images), "held_out": len(others), "nearest": None}
    bar = tqdm(total=len(images) + len(others), desc="Comparing images", disable=not progress)

    def seen(path: str) -> Fingerprint:
        bar.update()
        return fingerprint(path)

    prints, references = [seen(path) for path in images], [seen(path) for _, path in others]
    bar.close()
    thumbnails = np.stack([print_.grey for print_ in references])
    nearest, place = _nearest(np.stack([print_.grey for print_ in prints]), thumbnails)
    same = _limit(thumbnails)
    known = {print_.pixels: number for number, print_ in enumerate(references)}
    problems = []
    for number, print_ in enumerate(prints):
        equal = known.get(print_.pixels)
        if equal is not None or nearest[number] < same:
            name, path = others[place[number] if equal is None else equal]
            word = "nearly equals" if equal is None else "equals"
            problems.append(f"{images[number]} {word} {path} ({name})")
    _refuse(problems, len(images))
    return {"images": len(images), "held_out": len(others), "nearest": float(nearest.min())}


def _check_volumes(
    unlabelled: Sequence[Mapping[str, Any]], held_out: Mapping[str, Sequence[Mapping[str, Any]]]
) -> None:
    volumes = _paths(unlabelled, volumes=True)
    known = {
        volume_digest(path): f"{path} ({name})"
        for name, items in held_out.items()
        for path in (_paths(items, volumes=True) if volumes else ())
    }
    found = {path: known.get(volume_digest(path)) for path in (volumes if known else ())}
    _refuse([f"{path} equals {other}" for path, other in found.items() if other], len(volumes))


def _refuse(problems: Sequence[str], number: int) -> None:
    if problems:
        raise ValueError(
            f"{len(problems)} of {number} images without masks are held out for validation or test: {few(problems)}. Remove "
            "them from unlabelled: what was trained on an image cannot be tested on it."
        )


def _nearest(grey: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each thumbnail to the nearest of the references in any of their eight views, and which that is."""
    side = round(grey.shape[1] ** 0.5)
    pictures = references.reshape(-1, side, side)
    views = [
        np.rot90(pictures[:, :, ::-1] if view >= 4 else pictures, view % 4, axes=(1, 2)).reshape(
            len(references), -1
        )
        for view in range(8)
    ]
    apart = np.clip(1 - grey @ np.concatenate(views).T, 0, 2)
    best = apart.argmin(1)
    return apart[np.arange(len(grey)), best], best % len(references)


def _limit(references: np.ndarray) -> float:
    """Distance below which an image and a held-out one show the same picture."""
    among = 1 - references @ references.T
    among = among[among > SAME]  # without each and itself, and copies
    return max(SAME, min(_SHARE * float(among.min()), _LARGEST)) if among.size else SAME


def _pictures(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Paths of the items whose image is one picture."""
    return _paths(items, volumes=False)


def _paths(items: Sequence[Mapping[str, Any]], volumes: bool) -> list[str]:
    """Paths of the items whose image is one picture, or one volume; images in several files are not compared."""
    paths = [os.fspath(item["image"]) for item in items if isinstance(item["image"], (str, os.PathLike))]
    return [path for path in paths if is_volume(path) == volumes]
