"""Masks of many structures: where their files lie, and how they become one channel each.

A label is one of

- a file per structure, ``{"hyoid": "path.png", ...}``: each holds 0 and one other value, and structures may overlap.
  A structure without a file, or with the file null, was not annotated in that image;
- one indexed file for all, ``"path.png"`` (8-bit grey, 16-bit or palette) or ``"path.nii.gz"``: value n is the n-th
  structure, 0 the background. Everything counts as annotated unless the item says ``annotated: [names]``;
- a NIfTI of one channel per structure, ``(W, H, K)``, 0 and 1, for masks that overlap;
- of a single structure, any binary mask: 0 and one other value;
- absent, in an item without label: nobody annotated anything.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform

from ..losses import MISSING
from ..transforms.label_file import read_labels, read_mask
from ..transforms.picture_file import PICTURE_SUFFIXES
from ..transforms.volume_file import read_volume_labels
from ..utils import few, unknown_name
from ..utils.documents import read_large_json
from .checks import binarise
from .folder_files import IMAGE_FOLDERS, MASK_FOLDERS, child, is_system, subfolders, tell_not_taken
from .items import NIFTI_SUFFIXES, is_volume, name_of

NAMES_FILE = "structures.json"
_MASK_SUFFIXES = (*PICTURE_SUFFIXES, *NIFTI_SUFFIXES)
FOREGROUND = "foreground"


def read_structures(dataset_dir: str | Path) -> list[str]:
    """Return the names of a data set's structures, in the order of the student's channels.

    They stand under ``"structures"`` in ``structures.json`` or ``datalist.json``; without either they are the folders
    below the training set's ``masks``, in alphabetical order.

    Raises:
        ValueError: there are none, or a name stands twice.
    """
    found = _named(Path(dataset_dir).expanduser())
    if not found:
        raise ValueError(
            f"{dataset_dir} names no structures. Write {NAMES_FILE}: "
            '{"structures": ["hyoid", "bolus"]}, or put the masks of each into a folder of its own below masks.'
        )
    return found


def structure_names(dataset_dir: str | Path) -> list[str]:
    """Return the names of a data set's structures as `read_structures` does; one, ``foreground``, of plain binary masks.

    Raises:
        ValueError: a name stands twice.
    """
    return _named(Path(dataset_dir).expanduser()) or [FOREGROUND]


def _named(root: Path) -> list[str]:
    """The names that a data set gives its structures; empty where it gives none."""
    files = [root] if root.is_file() else [root / NAMES_FILE, root / "datalist.json"]
    for file in files:
        if file.is_file():
            content = read_large_json(file)
            names = content.get("structures") if isinstance(content, dict) else content
            if names:
                return _checked(names, file)
    if not root.is_dir():
        return []
    names = set()
    for place in (root / "TrainDataset", root / "TrainDB", root):
        images, masks = (child(place, known) for known in (IMAGE_FOLDERS, MASK_FOLDERS))
        if images is not None and masks is not None:
            stems = {name_of(file) for file in images.iterdir()}
            names |= {folder.name for folder in structure_folders(masks, stems)}
    return sorted(names)


def structure_folders(masks_dir: Path, stems: Collection[str]) -> list[Path]:
    """Return the folders below ``masks`` that hold the masks of a structure each, where no file names the structures.

    A folder that holds no mask of an image is none (a backup, thumbnails of a network drive), nor is any where every image has
    its plain mask beside the folders; these are named in a warning.

    Args:
        masks_dir: the folder of masks.
        stems: names of the images, without extension.

    Raises:
        ValueError: some images have a plain mask and others have theirs in folders: which of both is meant is not clear.
    """
    found, left = [], {}
    for entry in sorted(entry for entry in masks_dir.iterdir() if entry.is_dir()):
        if is_system(entry):
            left[entry.name] = "a folder of the system, or hidden"
        elif any(_stem(file) in stems for file in _masks(entry)):
            found.append(entry)
        else:
            left[entry.name] = "a folder without a mask of any image"
    plain = {_stem(file) for file in _masks(masks_dir)} & set(stems)
    if found and plain and plain < set(stems):
        raise ValueError(
            f"{masks_dir} holds masks of {len(plain)} of {len(stems)} images, and the folder(s) "
            f"{few([folder.name for folder in found])} with masks too: which of both is meant? Move one of them elsewhere, or "
            f"name the structures in {NAMES_FILE}."
        )
    if found and plain:
        left |= {folder.name: "a folder beside the masks of all images" for folder in found}
        found = []
    tell_not_taken(masks_dir, left)
    return found


def _checked(names: Any, file: Path) -> list[str]:
    good = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    if not good or len(set(names)) < len(names):
        raise ValueError(f"{file}: structures is {names}; it must be a list of different names.")
    return list(names)


def structure_files(
    masks_dir: Path, images: Mapping[str, Path], names: Sequence[str] | None
) -> dict[str, Any]:
    """Find the masks of images: one folder per structure, files with a suffix, or NIfTI files.

    Args:
        masks_dir: ``masks/<structure>/<stem>.png``, ``masks/<stem>_<structure>.png`` or ``masks/<stem>.nii.gz``.
        images: stem -> image file.
        names: structures, where a file names them; the folders' own names without.

    Returns:
        Stem -> label (see the module), only for images with any. Empty when none of the three is there.

    Raises:
        ValueError: a folder names no structure, or a mask belongs to no image.
    """
    folders = structure_folders(masks_dir, images) if names is None else subfolders(masks_dir)
    known = list(names) if names else [folder.name for folder in folders]
    labels: dict[str, Any] = {}
    strangers: list[str] = []
    whole: dict[str, str] = {}
    for folder in folders:
        if folder.name not in known:
            raise ValueError(f"{folder}: {unknown_name('structure', folder.name, known)}")
        for file in _masks(folder):
            stem = _stem(file)
            if stem not in images:
                strangers.append(f"{folder.name}/{file.name}")
            labels.setdefault(stem, {})[folder.name] = str(file)
    if folders:
        beside = {file.name: "beside folders of structures" for file in _masks(masks_dir)}
        tell_not_taken(masks_dir, beside)
    else:
        for file in _masks(masks_dir):
            stem = _stem(file)
            named = next((n for n in sorted(known, key=len, reverse=True) if stem.endswith(f"_{n}")), None)
            if named is not None and stem.removesuffix(f"_{named}") in images:
                labels.setdefault(stem.removesuffix(f"_{named}"), {})[named] = str(file)
            elif file.name.endswith(NIFTI_SUFFIXES) and stem in images:
                whole[stem] = str(file)
            else:
                strangers.append(file.name)
    labels = labels or whole
    if labels and strangers:
        shown = ", ".join(strangers[:10])
        raise ValueError(
            f"{len(strangers)} mask(s) in {masks_dir} belong to no image or structure: {shown}. A mask has the name of "
            f"its image, in a folder of its structure or with _<structure> behind it; structures: {', '.join(known)}."
        )
    return labels


def _masks(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file() and not file.name.startswith(".") and file.name.lower().endswith(_MASK_SUFFIXES)
    )


def _stem(file: Path) -> str:
    return file.name.removesuffix(".gz").rsplit(".", 1)[0]


class LoadStructuresd(MapTransform):
    """Load the masks of an item as ``(K, H, W)`` uint8: 0, 1, and `MISSING` in all of a channel nobody annotated.

    NIfTI arrays are read as ``[column, row]``, as their tools write pictures; the affine is not looked at.

    Args:
        structures: names in the order of the channels.
        key: key of the label, see the module; ``annotated`` beside it names what an indexed mask covers.
        image_key: key of the loaded image ``(C, H, W)``, whose size a label without any file takes.
        mask_threshold: grey value from which a pixel of a mask of one structure is foreground; None refuses grey masks.

    Raises:
        ValueError: a mask cannot be understood or sizes differ; names the file.
    """

    def __init__(
        self,
        structures: Sequence[str],
        key: str = "label",
        image_key: str = "image",
        mask_threshold: float | None = None,
    ) -> None:
        super().__init__([key])
        if not structures:
            raise ValueError("structures is empty: name at least one.")
        self.structures = list(structures)
        self.key, self.image_key = key, image_key
        self.mask_threshold = mask_threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its label as ``(K, H, W)`` of 0, 1 and, in channels without annotation, `MISSING`."""
        d = dict(data)
        label, annotated = d.get(self.key, {}), d.pop("annotated", None)
        size = tuple(d[self.image_key].shape[1:])
        joint = not isinstance(label, Mapping)
        if joint and len(self.structures) == 1 and annotated is None:
            label, joint = {self.structures[0]: label}, False
        masks = self._joint(str(label), annotated) if joint else self._separate(label, size)
        if masks.shape[1:] != size:
            raise ValueError(
                f"the masks {_files(label)} are {'x'.join(map(str, masks.shape[1:]))} but their image is "
                f"{'x'.join(map(str, size))} (height x width). A mask must have the size of its image."
            )
        d[self.key] = masks
        return d

    def _separate(self, label: Mapping[str, Any], size: tuple[int, ...]) -> torch.Tensor:
        for name in label:
            if name not in self.structures:
                raise ValueError(unknown_name("structure", name, self.structures))
        masks = torch.full((len(self.structures), *size), MISSING, dtype=torch.uint8)
        for channel, name in enumerate(self.structures):
            file = label.get(name)
            if file is None:
                continue
            mask = _one_mask(file, self.mask_threshold)
            if tuple(mask.shape) != size:
                raise ValueError(
                    f"the mask {file} is {'x'.join(map(str, mask.shape))} but its image is {'x'.join(map(str, size))} "
                    "(height x width). A mask must have the size of its image."
                )
            masks[channel] = mask
        return masks

    def _joint(self, file: str, annotated: Sequence[str] | None) -> torch.Tensor:
        values = _class_numbers(file)
        count = len(self.structures)
        if values.ndim == 3:
            if values.shape[0] != count or int(values.max()) > 1:
                raise ValueError(
                    f"{file} holds {values.shape[0]} channels with values up to {int(values.max())}; allowed is one "
                    f"channel of 0 and 1 for each of the {count} structures."
                )
            masks = values.to(torch.uint8)
        else:
            if int(values.max()) > count:
                raise ValueError(
                    f"{file} holds the value {int(values.max())}, but there are {count} structures: "
                    f"1 is {self.structures[0]!r}, {count} is {self.structures[-1]!r}, 0 the background."
                )
            masks = torch.stack([values == n for n in range(1, count + 1)]).to(torch.uint8)
        for name in annotated or ():
            if name not in self.structures:
                raise ValueError(unknown_name("annotated structure", name, self.structures))
        if annotated is not None:
            lacking = [i for i, name in enumerate(self.structures) if name not in annotated]
            masks[lacking] = MISSING
        return masks


def _class_numbers(file: str | Path) -> torch.Tensor:
    """Whole numbers of an indexed mask: ``(H, W)``, or ``(K, H, W)`` of a NIfTI with channels."""
    if not is_volume(file):
        return torch.from_numpy(read_labels(file).astype(np.int32))
    array = read_volume_labels(file)
    if array.ndim not in (2, 3):
        raise ValueError(f"{file} is {array.shape}; allowed are (W, H) and (W, H, K).")
    channels = torch.from_numpy(array.astype(np.int32).T.copy())
    return channels[0] if channels.ndim == 3 and channels.shape[0] == 1 else channels


def _one_mask(file: str | Path, threshold: float | None) -> torch.Tensor:
    """Mask of one structure, ``(H, W)`` of 0 and 1."""
    if not is_volume(file):
        return torch.from_numpy(read_mask(file, threshold).astype(np.uint8))
    try:
        return binarise(_class_numbers(file)[None], threshold)[0]
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _files(label: Any) -> str:
    return ", ".join(str(file) for file in label.values()) if isinstance(label, Mapping) else str(label)
