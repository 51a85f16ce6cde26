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

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform
from PIL import Image
from tqdm import tqdm

from ..losses import MISSING
from ..transforms.image import to_gray
from ..utils import unknown_name
from ..utils.documents import read_large_json
from .checks import SHOWN, binarise
from .items import NIFTI_SUFFIXES

NAMES_FILE = "structures.json"
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
    masks = [
        root / place / name
        for place in ("TrainDataset", "TrainDB", ".")
        for name in ("masks", "mask", "labels")
    ]
    return sorted(
        {f.name for m in masks if m.is_dir() for f in m.iterdir() if f.is_dir() and f.name[0] != "."}
    )


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
    folders = sorted(f for f in masks_dir.iterdir() if f.is_dir() and not f.name.startswith("."))
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
    if not folders:
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
    return sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))


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
            try:
                mask = binarise(_indices(file, grey=True)[None], self.mask_threshold)[0]
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from error
            if tuple(mask.shape) != size:
                raise ValueError(
                    f"the mask {file} is {'x'.join(map(str, mask.shape))} but its image is {'x'.join(map(str, size))} "
                    "(height x width). A mask must have the size of its image."
                )
            masks[channel] = mask
        return masks

    def _joint(self, file: str, annotated: Sequence[str] | None) -> torch.Tensor:
        values = _indices(file)
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


def _indices(file: str | Path, grey: bool = False) -> torch.Tensor:
    """Whole numbers of a mask file: ``(H, W)``, or ``(K, H, W)`` of a NIfTI with channels.

    Args:
        file: picture or NIfTI.
        grey: look palettes up (a mask of one structure); else their indices are the values.
    """
    if str(file).endswith(NIFTI_SUFFIXES):
        import nibabel

        array = np.asanyarray(nibabel.load(str(file)).dataobj)  # type: ignore[attr-defined]
        if array.ndim not in (2, 3) or not np.array_equal(array, np.round(array)) or array.min() < 0:
            raise ValueError(
                f"{file} is {array.shape} of {array.dtype}; allowed are whole numbers from 0, (W, H) or (W, H, K)."
            )
        channels = torch.from_numpy(array.astype(np.int32).T.copy())
        return channels[0] if channels.ndim == 3 and channels.shape[0] == 1 else channels
    with Image.open(file) as opened:
        picture = to_gray(opened) if grey or opened.mode not in ("P", "L", "1", "I;16", "I") else opened
        return torch.from_numpy(np.array(picture).astype(np.int32))


def _files(label: Any) -> str:
    return ", ".join(str(file) for file in label.values()) if isinstance(label, Mapping) else str(label)


def check_structures(
    items: Sequence[Mapping[str, Any]], structures: Sequence[str], progress: bool = True
) -> None:
    """Open every image and all its masks and report everything that is wrong with them at once.

    Args:
        items: items of `training_pairs`.
        structures: names in the order of the channels.
        progress: show a progress bar.

    Raises:
        ValueError: files cannot be read or do not fit; lists up to 20 problems. Or a structure was annotated nowhere.
    """
    load = LoadStructuresd(structures)
    problems: list[str] = []
    annotated = torch.zeros(len(structures), dtype=torch.bool)
    for item in tqdm(items, desc="Checking images", disable=not progress):
        try:
            with Image.open(item["image"]) as image:
                image.load()
                data = {**item, "image": torch.empty(1, image.height, image.width)}
            annotated |= (load(data)["label"] != MISSING).flatten(1).all(1)  # type: ignore[arg-type]
        except Exception as error:  # Pillow and nibabel raise many kinds for broken files
            problems.append(f"{item['image']}: {type(error).__name__}: {error}")
    if not problems:
        problems = [
            f"structure {name!r} is annotated in no image"
            for name, seen in zip(structures, annotated.tolist(), strict=True)
            if not seen
        ]
    if problems:
        shown = "\n".join(f"  - {problem}" for problem in problems[:SHOWN])
        more = f"\n  ... and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise ValueError(f"{len(problems)} problem(s) in {len(items)} images:\n{shown}{more}")
