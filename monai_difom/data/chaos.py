"""CHAOS: abdominal CT and MR, from DICOM series or NIfTI volumes to 8-bit slices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..utils import atomic_path, look_up
from .items import Item

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
    window: Sequence[float] = (-160.0, 240.0),
) -> Mapping[str, Any]:
    """Write every slice that shows an organ as a grey PNG with its mask.

    Args:
        root: folder with ``Train_Sets``, or with ``CT`` or ``MR``.
        target: folder of the slices.
        modality: ``"CT"`` (liver only) or ``"MR"``.
        organ: ``"liver"``, ``"right_kidney"``, ``"left_kidney"`` or ``"spleen"`` for binary masks; ``"all"`` for the four of MR,
            as indexed masks.
        sequences: MR sequences, of ``"T2SPIR"``, ``"T1IN"``, ``"T1OUT"``.
        window: Hounsfield units shown as black and white in CT. MR is scaled between the 0.5 % and 99.5 % quantiles of a series.

    Returns:
        The training list, by patient; CHAOS publishes no masks of its test set.

    Raises:
        ValueError: an unknown name, slices and masks that do not pair up, or no data.
    """
    look_up("CHAOS modality", modality, {"CT": 0, "MR": 0})
    wanted = list(ORGANS.values()) if organ == "all" else [look_up("organ of CHAOS", organ, ORGANS)]
    if modality == "CT" and organ != "liver":
        raise ValueError(f"organ is {organ!r}; the CT of CHAOS shows the liver only.")
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
        low, high = window if modality == "CT" else np.quantile(volume, (0.005, 0.995))
        grey = np.clip((volume - low) / max(high - low, 1e-6), 0, 1)
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
    arrays = {"image": (pixels * 255).round(), "label": mask}
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
    with Image.open(file) as opened:
        grey = np.asarray(opened.convert("L"))
    if modality == "CT":
        return (grey > 0).astype(np.uint8)
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
    """Yield the slices of NIfTI volumes along their last axis, upright."""
    import nibabel

    for label in sorted((base / "labelsTr").glob("*.nii*")):
        stem = label.name.split(".nii")[0]
        image = next(
            (
                f
                for f in sorted((base / "imagesTr").glob(f"{stem}*.nii*"))
                if f.name.split(".nii")[0] in (stem, f"{stem}_0000")
            ),
            None,
        )
        if image is None:
            raise ValueError(
                f"{label} has no image {stem}.nii.gz or {stem}_0000.nii.gz in {base / 'imagesTr'}."
            )
        volumes = [np.asarray(nibabel.load(str(file)).dataobj) for file in (image, label)]  # type: ignore[attr-defined]
        if volumes[0].shape != volumes[1].shape or volumes[0].ndim != 3:
            raise ValueError(
                f"{image} is {volumes[0].shape} and {label} {volumes[1].shape}; both must be the same three-dimensional size."
            )
        # arrays are (column, row, slice)
        slices, labels = (volume.transpose(2, 1, 0) for volume in volumes)
        yield stem, "", slices.astype(np.float32), labels.round().astype(np.uint8)
