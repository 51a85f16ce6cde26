"""Lists of image and mask files, from the folder layouts that polyp segmentation uses.

An item is ``{"image": path, "label": path, "group": name}``; with masks of many structures the label is a dict, see
`monai_difom.data.structures`. Items of one group (frames of one video sequence) resemble each other, so a split into
training and validation must keep a group together.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from ..transforms.picture_file import PICTURE_SUFFIXES
from ..utils import few
from .datalist_file import read_datalist, read_test_lists
from .folder_files import IMAGE_FOLDERS, MASK_FOLDERS, child, files_by_stem, subfolders, tell_not_taken
from .groups import regroup
from .items import NIFTI_SUFFIXES, Item, by_image
from .published.clinicdb import groups_of
from .structures import read_structures, structure_files

TRAIN_FOLDERS = ("TrainDataset", "TrainDB")
TEST_FOLDERS = ("TestDataset", "TestDB")
DATALIST = "datalist.json"

_EXAMPLE = """Allowed layouts:
  <dataset_dir>/TrainDataset/{image,mask}/*.png      (PraNet; tests in TestDataset/<set>/{images,masks})
  <dataset_dir>/TrainDB/{images,masks}/*.png         (tests in TestDB/<set>/{images,masks})
  <dataset_dir>/{images,masks}/*.png                 (image or images; mask, masks or labels)
  <dataset_dir>/{imagesTr,labelsTr}/*.nii.gz         (Medical Segmentation Decathlon, nnU-Net; tests in imagesTs, labelsTs)
  <dataset_dir>/datalist.json                        ({"training": [{"image": ..., "label": ...}], ...})
An image and its mask have the same name up to the extension (PNG, JPEG, TIFF, BMP, WebP, GIF, NIfTI; nnU-Net's _0000 apart).
Many structures: masks/<structure>/<stem>.png, masks/<stem>_<structure>.png, or one indexed masks/<stem>.png or .nii.gz;
their names in <dataset_dir>/structures.json ({"structures": ["hyoid", ...]})."""


def training_pairs(dataset_dir: str | Path) -> list[Item]:
    """Return all training pairs of a data set, sorted by image path.

    Args:
        dataset_dir: a folder in one of the layouts that the error message lists, or a ``datalist.json``.

    Returns:
        ``[{"image": str, "label": str, "group": str}, ...]``. The group is the video sequence for frames of
        CVC-ClinicDB, see `groups_of`, and the file's own name otherwise. A datalist may give its own ``"group"``.

    Raises:
        FileNotFoundError: the folder, or a file that the datalist names, is absent.
        ValueError: no layout is recognised, there are no pairs, or images and masks do not pair up.
    """
    root = _existing(dataset_dir)
    datalist = _datalist_of(root)
    if datalist is not None:
        return read_datalist(datalist, "training", required=True)
    chosen = _first_of(root, TRAIN_FOLDERS)
    return _pairs_in(root if chosen is None else chosen, root)


def validation_pairs(dataset_dir: str | Path) -> list[Item]:
    """Return the validation list of a datalist; empty where a data set names none.

    Raises:
        FileNotFoundError: see `training_pairs`.
        ValueError: the datalist is none.
    """
    datalist = _datalist_of(_existing(dataset_dir))
    return read_datalist(datalist, "validation") if datalist is not None else []


def test_sets(dataset_dir: str | Path, group: str | None = None) -> dict[str, list[Item]]:  # noqa: PT028 - no test
    """Return the test sets of a data set by name; empty when it has none.

    Args:
        dataset_dir: as in `training_pairs`.
        group: what tells which images belong together, see `train_validation`.

    Returns:
        ``{"Kvasir": [item, ...], ...}``, names and items sorted. The ``"test"`` of a datalist is one list, the set
        ``"test"``, or an object of several.

    Raises:
        FileNotFoundError: the folder, or a file that the datalist names, is absent.
        ValueError: images and masks of a set do not pair up; see `regroup`.
    """
    sets = _test_sets(_existing(dataset_dir))
    return (
        sets if group is None else {name: regroup(items, group, dataset_dir) for name, items in sets.items()}
    )


def _test_sets(root: Path) -> dict[str, list[Item]]:
    datalist = _datalist_of(root)
    if datalist is not None:
        return read_test_lists(datalist)
    place = _first_of(root, TEST_FOLDERS)
    if place is not None:
        folders = subfolders(place)
        others = [entry.name for entry in place.iterdir() if entry not in folders]
        tell_not_taken(place, dict.fromkeys(others, "no folder of a test set"))
        return {folder.name: _pairs_in(folder, root) for folder in folders}
    images, masks = child(root, ("imagests",)), child(root, ("labelsts",))
    if images is not None and masks is not None:
        return {"test": _pairs_of(root, images, masks)}
    return {}


# pytest would collect a function of this name wherever a test imports it
test_sets.__test__ = False  # type: ignore[attr-defined]


def split_validation(
    items: Sequence[Item], fraction: float = 0.1, seed: int = 0
) -> tuple[list[Item], list[Item]]:
    """Split items into training and validation so that no group is in both.

    Args:
        items: items of `training_pairs`.
        fraction: wanted share of images for validation, in (0, 1). Whole groups move, so the share is
            approximate; validation gets at least one group.
        seed: the same items, fraction and seed give the same split, whatever the order of the items.

    Returns:
        ``(train, validation)``, each sorted by image path.

    Raises:
        ValueError: the fraction is outside (0, 1), or there are fewer than two groups.
    """
    if not 0 < fraction < 1:
        raise ValueError(
            f"validation fraction is {fraction}; allowed is a number between 0 and 1, for example 0.1."
        )
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[item["group"]].append(item)
    if len(groups) < 2:
        raise ValueError(
            f"cannot split {len(items)} images into training and validation: they belong to {len(groups)} group(s) "
            f"({', '.join(map(repr, groups)) or 'none'}), and a group is never divided. Add images, or name the training "
            f"and validation lists yourself in a {DATALIST}."
        )
    names = sorted(groups)
    random.Random(seed).shuffle(names)
    target = max(1, round(fraction * len(items)))
    chosen: set[str] = set()
    count = 0
    for name in names:
        size = len(groups[name])
        # a group that overshoots by more than what is still missing would make the share worse
        if count < target and count + size - target <= target - count and len(chosen) < len(names) - 1:
            chosen.add(name)
            count += size
    if not chosen:
        chosen.add(min(names, key=lambda name: len(groups[name])))
    train = [item for item in items if item["group"] not in chosen]
    validation = [item for item in items if item["group"] in chosen]
    return by_image(train), by_image(validation)


def train_validation(
    dataset_dir: str | Path,
    fraction: float = 0.1,
    seed: int = 0,
    limit: int | None = None,
    group: str | None = None,
) -> tuple[list[Item], list[Item]]:
    """Return the training and validation items of a data set: the one call that a configuration needs.

    Args:
        dataset_dir: as in `training_pairs`. The validation list of a datalist is used as it is.
        fraction: see `split_validation`; unused when there is a validation list.
        seed: see `split_validation`.
        limit: use only the first ``limit`` training and the first ``limit`` validation images, for a quick
            trial. They are cut after the split, so a larger limit never moves an image to the other side.
        group: what tells which images must stay together, where the layout does not know it: a regular expression or a
            column of a table, see `regroup`.

    Returns:
        ``(train, validation)``, each sorted by image path.

    Raises:
        FileNotFoundError: see `training_pairs`.
        ValueError: see `training_pairs`, `split_validation` and `regroup`; a limit below 1; an image in two lists.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; allowed is a number of images from 1, or none for all of them.")
    train, validation = training_pairs(dataset_dir), validation_pairs(dataset_dir)
    datalist = _datalist_of(_existing(dataset_dir))
    lists = {"training": train, "validation": validation}
    if datalist is not None:
        lists["test"] = [item for items in read_test_lists(datalist).values() for item in items]
    _refuse_shared(lists, datalist)
    if not validation:
        train = regroup(train, group, dataset_dir) if group is not None else train
        train, validation = split_validation(train, fraction, seed)
    return train[:limit], validation[:limit]


def _refuse_shared(lists: Mapping[str, Sequence[Item]], datalist: Path | None) -> None:
    """Refuse an image that stands in two lists of a datalist."""
    for one, other in combinations(lists, 2):
        first, second = ({os.path.realpath(item["image"]) for item in lists[name]} for name in (one, other))
        if first & second:
            raise ValueError(
                f"{datalist}: {len(first & second)} image(s) are in both the {one} and the {other} list: "
                f"{few(sorted(first & second))}. Remove them from one of the two."
            )


def _existing(dataset_dir: str | Path) -> Path:
    root = Path(dataset_dir).expanduser()
    if not root.exists():
        raise FileNotFoundError(
            f"there is no data set at {root}. Give the folder that holds the images as dataset_dir.\n{_EXAMPLE}"
        )
    if root.is_file() and root.suffix.lower() != ".json":
        raise ValueError(f"{root} is a file, not a data set folder or a datalist (.json).\n{_EXAMPLE}")
    return root


def _datalist_of(root: Path) -> Path | None:
    if root.is_file():
        return root
    return root / DATALIST if (root / DATALIST).is_file() else None


def _first_of(root: Path, names: Sequence[str]) -> Path | None:
    """The first of some folders that exists; a second one is named in a warning."""
    there = [root / name for name in names if (root / name).is_dir()]
    tell_not_taken(root, {place.name: f"beside {there[0].name}" for place in there[1:]})
    return there[0] if there else None


def pair_folders(folder: Path) -> tuple[Path, Path] | None:
    """Return the folders of images and of masks inside a folder; None where it has not both."""
    images, masks = child(folder, IMAGE_FOLDERS), child(folder, MASK_FOLDERS)
    return None if images is None or masks is None else (images, masks)


def _pairs_in(folder: Path, root: Path) -> list[Item]:
    images_dir, masks_dir = child(folder, IMAGE_FOLDERS), child(folder, MASK_FOLDERS)
    if images_dir is None or masks_dir is None:
        entries = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())
        raise ValueError(
            f"no data set layout is recognised in {folder}. Found there: {few(entries) or 'nothing'}.\n{_EXAMPLE}"
        )
    if any(file.name.lower().endswith(NIFTI_SUFFIXES) for file in images_dir.iterdir()):
        return _pairs_of(folder, images_dir, masks_dir)
    images = files_by_stem(images_dir)
    named = (root / "structures.json").is_file()
    labels = structure_files(masks_dir, images, read_structures(root) if named else None)
    if labels:
        groups = groups_of(folder, images)
        # an image without any mask is kept: nobody annotated it, and teachers need no masks
        return by_image(
            [
                {"image": str(file), "label": labels.get(stem, {}), "group": groups[stem]}
                for stem, file in images.items()
            ]
        )
    masks = files_by_stem(masks_dir)
    if not images and not masks:
        raise ValueError(
            f"{images_dir} and {masks_dir} hold no images. Allowed types: {', '.join(PICTURE_SUFFIXES)}.\n{_EXAMPLE}"
        )
    return _paired(folder, images, masks, images_dir, masks_dir)


def _pairs_of(folder: Path, images_dir: Path, masks_dir: Path) -> list[Item]:
    """Pairs of NIfTI volumes; one channel of an image, so that nnU-Net's number of it says nothing."""
    found = files_by_stem(images_dir, NIFTI_SUFFIXES)
    images = {name.removesuffix("_0000"): file for name, file in found.items()}
    if len(images) < len(found):
        twice = sorted(name for name in found if name.endswith("_0000") and name[: -len("_0000")] in found)
        raise ValueError(
            f"{images_dir} holds {few(twice)} and the same name(s) without _0000: keep one of each."
        )
    masks = files_by_stem(masks_dir, NIFTI_SUFFIXES)
    return _paired(folder, images, masks, images_dir, masks_dir)


def _paired(
    folder: Path, images: dict[str, Path], masks: dict[str, Path], images_dir: Path, masks_dir: Path
) -> list[Item]:
    problems = []
    for have, lack, kind, where in ((images, masks, "mask", masks_dir), (masks, images, "image", images_dir)):
        lonely = sorted(set(have) - set(lack))
        if lonely:
            problems.append(
                f"{len(lonely)} without {kind} in {where}: {few([have[stem].name for stem in lonely])}"
            )
    if problems:
        raise ValueError(
            f"images and masks of {folder} do not pair up by name. {'; '.join(problems)}. Add the missing "
            "files or remove the ones without partner."
        )
    groups = groups_of(folder, images)
    return by_image(
        [{"image": str(images[s]), "label": str(masks[s]), "group": groups[s]} for s in images],
    )
