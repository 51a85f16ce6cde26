"""CHAOS: abdominal CT and MR, from DICOM series or NIfTI volumes to 8-bit slices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...transforms.label_file import read_labels, read_mask
from ...transforms.volume_file import (
    grey_levels,
    hanging_of,
    open_volume,
    read_volume_labels,
    volume_values,
    window_of,
)
from ...utils import atomic_path, look_up
from ..items import Item, is_volume, name_of
from ..volume_grids import volume_problems

ORGANS = {"liver": 1, "right_kidney": 2, "left_kidney": 3, "spleen": 4}
# grey values of the MR masks; files deviate by a few levels
_GREY = {63: 1, 126: 2, 189: 3, 252: 4}
_TOLERANCE = 15
SEQUENCES = {"T2SPIR": ("T2SPIR", ""), "T1IN": ("T1DUAL", "InPhase"), "T1OUT": ("T1DUAL", "OutPhase")}


def chaos(
    root: Path,
    target: Path,
    modality: str = "CT",
    organ: str = "liver",
    sequences: Sequence[str] = ("T2SPIR",),
    window: Sequence[float] | None = None,
) -> Mapping[str, Any]:
    """Write every slice that shows an organ as a grey PNG with its mask.

    Args:
        root: folder with ``Train_Sets``, or with ``CT`` or ``MR``.
        target: folder of the slices.
        modality: ``"CT"`` (liver only) or ``"MR"``.
        organ: ``"liver"``, ``"right_kidney"``, ``"left_kidney"`` or ``"spleen"`` for binary masks; ``"all"`` for the four of MR,
            as indexed masks.
        sequences: MR sequences, of ``"T2SPIR"``, ``"T1IN"``, ``"T1OUT"``.
        window: values shown as black and white; None takes -160 to 240 Hounsfield units of CT, and of MR the quantiles 0.5 % and
            99.5 % of a series.

    Returns:
        The training list, by patient; CHAOS publishes no masks of its test set.

    Raises:
        ValueError: an unknown name, slices and masks that do not pair up, or no data.
    """
    look_up("CHAOS modality", modality, {"CT": 0, "MR": 0})
    wanted = list(ORGANS.values()) if organ == "all" else [look_up("organ of CHAOS", organ, ORGANS)]
    if modality == "CT" and organ != "liver":
        raise ValueError(f"organ is {organ!r}; the CT of CHAOS shows the liver only.")
    if modality == "CT" and window is None:
        window = (-160.0, 240.0)
    for name in sequences:
        look_up("MR sequence of CHAOS", name, SEQUENCES)
    base = next((f for f in (root / "Train_Sets" / modality, root / modality) if f.is_dir()), None)
    if base is None:
        raise ValueError(
            f"{root} holds neither Train_Sets/{modality} nor {modality}. Unpack CHAOS_Train_Sets.zip there."
        )
    items: list[Item] = []
    series = _nifti(base) if (base / "imagesTr").is_dir() else _dicom(base, modality, sequences)
    for patient, name, volume, labels in series:
        if labels.max() > len(ORGANS):
            raise ValueError(
                f"{base}, patient {patient}: a mask holds class {labels.max()}; CHAOS has {len(ORGANS)}."
            )
        grey = grey_levels(volume, window_of(volume, window))
        for number, (pixels, mask) in enumerate(zip(grey, labels, strict=True)):
            if np.isin(mask, wanted).any():
                shown = mask if organ == "all" else np.where(mask == wanted[0], 255, 0)
                items.append(
                    _write(
                        target,
                        f"{modality}_{patient}_{name}{number:03d}",
                        pixels,
                        shown,
                        f"{modality}_{patient}",
                    )
                )
    if not items:
        raise ValueError(
            f"{base} holds no slice with {organ}. Expected <patient>/DICOM_anon and Ground, or imagesTr and labelsTr."
        )
    return {"training": items, **({"structures": list(ORGANS)} if organ == "all" else {})}


def _write(target: Path, name: str, pixels: np.ndarray, mask: np.ndarray, group: str) -> Item:
    paths = {"image": target / "image" / f"{name}.png", "label": target / "mask" / f"{name}.png"}
    arrays = {"image": pixels, "label": mask}
    for key, path in paths.items():
        with atomic_path(path) as temporary:
            Image.fromarray(arrays[key].astype(np.uint8)).save(temporary, format="PNG", compress_level=1)
    return {**{key: str(path) for key, path in paths.items()}, "group": group}


Series = Iterator[tuple[str, str, np.ndarray, np.ndarray]]


def _dicom(base: Path, modality: str, sequences: Sequence[str]) -> Series:
    """Yield patient, prefix, slices and class masks of every series with masks."""
    for patient in sorted((f for f in base.iterdir() if f.is_dir()), key=lambda f: f.name.zfill(4)):
        parts = (
            [("", patient, "")]
            if modality == "CT"
            else [(f"{s}_", patient / SEQUENCES[s][0], SEQUENCES[s][1]) for s in sequences]
        )
        for prefix, folder, phase in parts:
            files = sorted((folder / "DICOM_anon" / phase).glob("*.dcm"))
            masks = sorted((folder / "Ground").glob("*.png"))
            if len(files) != len(masks) or not files:
                raise ValueError(
                    f"{folder}: {len(files)} DICOM files and {len(masks)} masks in Ground; slices and masks are paired in the "
                    "order of their names, so there must be as many."
                )
            slices = np.stack([_read_slice(file) for file in files])
            labels = np.stack([_read_mask(file, modality) for file in masks])
            if slices.shape != labels.shape:
                raise ValueError(f"{folder}: slices are {slices.shape[1:]}, masks {labels.shape[1:]}.")
            yield patient.name, prefix, slices, labels


def _read_slice(file: Path) -> np.ndarray:
    try:
        import pydicom
    except ImportError as error:
        raise ImportError(
            "DICOM files need pydicom: pip install pydicom, or convert the series to NIfTI."
        ) from error
    found = pydicom.dcmread(str(file))
    scale, shift = (
        float(getattr(found, "RescaleSlope", 1) or 1),
        float(getattr(found, "RescaleIntercept", 0) or 0),
    )
    return found.pixel_array.astype(np.float32) * scale + shift


def _read_mask(file: Path, modality: str) -> np.ndarray:
    if modality == "CT":
        return read_mask(file).astype(np.uint8)
    grey = read_labels(file)
    classes = np.zeros(grey.shape, np.uint8)
    known = grey == 0
    for value, organ in _GREY.items():
        near = np.abs(grey.astype(int) - value) <= _TOLERANCE
        classes[near] = organ
        known |= near
    if not known.all():
        raise ValueError(
            f"{file} holds grey values {np.unique(grey[~known])[:8].tolist()}; MR masks of CHAOS have 0, 63, 126, 189, 252."
        )
    return classes


def _nifti(base: Path) -> Series:
    """Yield the axial slices of NIfTI volumes, hung as in `monai_difom.transforms.volume_file`."""
    images = {name_of(file).removesuffix("_0000"): file for file in _volumes(base / "imagesTr")}
    for label in _volumes(base / "labelsTr"):
        stem = name_of(label)
        if stem not in images:
            raise ValueError(
                f"{label} has no image {stem}.nii.gz or {stem}_0000.nii.gz in {base / 'imagesTr'}."
            )
        problems = volume_problems({"image": images[stem], "label": label})
        if problems:
            raise ValueError(problems[0])
        volume = open_volume(images[stem])
        values = hanging_of(volume).slices(volume_values(volume, images[stem]))
        labels = hanging_of(open_volume(label)).slices(
            read_volume_labels(label).reshape((*volume.shape, 1)[:3])
        )
        yield stem, "", values, labels


def _volumes(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if is_volume(file)) if folder.is_dir() else []
