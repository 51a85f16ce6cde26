"""How near the images of a transfer set come to test and training images.

A transfer set that holds a test image, or a model that remembers one, would make every score on that test set worthless.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.fft import dctn
from tqdm import tqdm

from ..transforms import read_picture_file
from ..transforms.volume_file import hanging_of, open_volume, volume_values
from ..utils import atomic_path, few, file_digest, write_json

_SIDE, _HASHED = 16, 32
SHOWN = 20


@dataclass(frozen=True)
class Fingerprint:
    """What images are compared by.

    Args:
        bytes: SHA-256 of the file.
        pixels: SHA-256 of its size and RGB values.
        grey: the 16x16 grey thumbnail, mean 0 and length 1, flat. Smooth enough that a copy of another size or with other noise
            has nearly the same.
        phash: 64 signs of its lowest cosine frequencies (perceptual hash).
    """

    bytes: str
    pixels: str
    grey: np.ndarray
    phash: np.ndarray


def fingerprint(path: str | os.PathLike, view: int = 0) -> Fingerprint:
    """Return the fingerprint of an image file, or of one of its eight dihedral views.

    Args:
        path: image file.
        view: quarter turns (0 to 3), plus 4 for the mirrored image.
    """
    image = Image.fromarray(read_picture_file(path))
    levels = image.convert("L").convert("F")  # floats: rounding is most of what sets two copies apart

    def reduced(side: int) -> np.ndarray:
        small = np.asarray(levels.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float64)
        return np.rot90(small[:, ::-1] if view >= 4 else small, view % 4)

    small = reduced(_SIDE)
    pixels = hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()
    grey = small.ravel() - small.mean()
    grey = grey / max(float(np.linalg.norm(grey)), 1e-9)
    low = dctn(reduced(_HASHED), norm="ortho")[:8, :8].ravel()
    return Fingerprint(file_digest(path), pixels, grey, low > np.median(low[1:]))


def volume_digest(path: str | os.PathLike) -> str:
    """Return the SHA-256 of the values of a NIfTI volume, the same for each storage order and compression.

    Args:
        path: NIfTI file of three axes.

    Raises:
        ValueError: see `monai_difom.transforms.volume_file.open_volume`.
    """
    volume = open_volume(path)
    slices = np.ascontiguousarray(hanging_of(volume).slices(volume_values(volume, path)), np.float32)
    return hashlib.sha256(repr(slices.shape).encode() + slices.tobytes()).hexdigest()


def distances(
    images: Sequence[Fingerprint], references: Sequence[Fingerprint]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances of every image to every reference.

    Returns:
        ``(grey, phash)``, both ``(images, references)``: one minus the correlation of the thumbnails, 0 (the same up to
        brightness and contrast) to 2; and the number of differing hash bits, 0 to 64.
    """
    grey = 1 - np.stack([f.grey for f in images]) @ np.stack([f.grey for f in references]).T
    first, second = (np.stack([f.phash for f in group]) for group in (images, references))
    return np.clip(grey, 0, 2), (first[:, None] != second[None]).sum(-1)


def check_transfer(
    transfer: Sequence[str | os.PathLike],
    test: Sequence[str | os.PathLike],
    train: Sequence[str | os.PathLike] = (),
    output_dir: str | os.PathLike | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Measure how near every transfer image comes to test and training images, and refuse equal ones.

    References are compared in all eight dihedral views. As a measure for what is near in this kind of image, the
    distances of the training images to the test images (which are different by design) are reported beside.

    Args:
        transfer: images of the transfer set.
        test: test images; a transfer image that equals one, byte for byte or pixel for pixel, is refused.
        train: labelled training images; equal ones are reported, not refused.
        output_dir: folder for ``duplicates.json`` and ``duplicates.png`` (a histogram); None writes nothing.
        progress: show a progress bar.

    Returns:
        ``{"images", "to_test", "to_train", "real_to_test", "equal_to_train", "nearer_than_real"}``: for each pair of sets
        the smallest, 5 % and median distance to the nearest; the transfer images that are nearer to a test image than any
        training image is; and under ``"nearest"`` one row per image.

    Raises:
        ValueError: no images, or transfer images equal test images; they are named.
    """
    if not transfer or not test:
        raise ValueError(f"{len(transfer)} transfer and {len(test)} test images: give at least one of each.")
    prints = [fingerprint(p) for p in tqdm(transfer, desc="Comparing images", disable=not progress)]
    references = {"test": [*test], "train": [*train]}
    seen = {name: [fingerprint(p) for p in paths] for name, paths in references.items()}
    _refuse_equal(transfer, prints, test, seen["test"])
    rows: list[dict[str, Any]] = [{"image": os.fspath(path)} for path in transfer]
    for name, paths in references.items():
        if paths:
            found = _nearest(prints, _views(paths))
            for row, (grey, phash, index) in zip(rows, found, strict=True):
                row[name] = {"nearest": os.fspath(paths[index]), "grey": round(grey, 5), "phash": phash}
    known = {f.pixels: os.fspath(p) for p, f in zip(train, seen["train"], strict=True)}
    report: dict[str, Any] = {
        "images": len(transfer),
        "to_test": _summary([row["test"]["grey"] for row in rows]),
        "to_train": _summary([row["train"]["grey"] for row in rows]) if train else None,
        "equal_to_train": [os.fspath(p) for p, f in zip(transfer, prints, strict=True) if f.pixels in known],
    }
    if train:
        real = [grey for grey, _, _ in _nearest(seen["train"], _views(references["test"]))]
        report["real_to_test"] = _summary(real)
        report["nearer_than_real"] = [row["image"] for row in rows if row["test"]["grey"] < min(real)]
    report["nearest"] = rows
    if output_dir is not None:
        write_json(Path(output_dir) / "duplicates.json", report)
        groups = {
            f"to {name}": [row[name]["grey"] for row in rows] for name, paths in references.items() if paths
        }
        if train:
            groups["training to test"] = real
        with atomic_path(Path(output_dir) / "duplicates.png") as temporary:
            histogram(groups).save(temporary, format="PNG")
    return report


def _refuse_equal(
    transfer: Sequence[str | os.PathLike],
    prints: Sequence[Fingerprint],
    test: Sequence[str | os.PathLike],
    seen: Sequence[Fingerprint],
) -> None:
    known = {digest: os.fspath(p) for p, f in zip(test, seen, strict=True) for digest in (f.bytes, f.pixels)}
    equal = [
        f"{os.fspath(path)} equals the test image {known.get(f.bytes) or known[f.pixels]}"
        for path, f in zip(transfer, prints, strict=True)
        if f.bytes in known or f.pixels in known
    ]
    if equal:
        raise ValueError(
            f"{len(equal)} transfer image(s) are test images: {few(equal, SHOWN, '; ')}. Remove them from the "
            "transfer set: what is trained on a test image cannot be tested on it."
        )


def _views(paths: Sequence[str | os.PathLike]) -> list[list[Fingerprint]]:
    """Fingerprints of every path in its eight views."""
    return [[fingerprint(path, view) for view in range(8)] for path in paths]


def _nearest(
    images: Sequence[Fingerprint], references: list[list[Fingerprint]]
) -> list[tuple[float, int, int]]:
    """Return for every image the grey distance and the hash bits to its nearest reference, and which that is."""
    flat = [view for views in references for view in views]
    grey, phash = distances(images, flat)
    best = grey.argmin(1)
    return [(float(grey[i, j]), int(phash[i, j]), int(j) // 8) for i, j in enumerate(best)]


def _summary(values: Sequence[float]) -> dict[str, float]:
    found = np.asarray(values)
    return {
        "min": float(found.min()),
        "p05": float(np.quantile(found, 0.05)),
        "median": float(np.median(found)),
    }


def histogram(
    groups: Mapping[str, Sequence[float]], bins: int = 40, size: tuple[int, int] = (720, 160)
) -> Image.Image:
    """Draw one row of bars per group, over a common axis from 0 to the largest value.

    Args:
        groups: title -> values >= 0.
        bins: number of bars.
        size: width and height of a row in pixels.
    """
    width, height = size
    top = max(max(values) for values in groups.values()) or 1.0
    sheet = Image.new("RGB", (width, height * len(groups)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for row, (title, values) in enumerate(groups.items()):
        counts, _ = np.histogram(values, bins=bins, range=(0, top))
        base = (row + 1) * height - 24
        step = (width - 20) / bins
        for i, count in enumerate(counts):
            high = (height - 56) * count / max(counts.max(), 1)
            draw.rectangle([10 + i * step, base - high, 10 + (i + 0.85) * step, base], fill="#30638e")
        text = f"distance of each image to the nearest, {title}: {len(values)} images, smallest {min(values):.4f}"
        draw.text((10, row * height + 6), text, fill="black", font=font)
        draw.text((10, base + 4), "0", fill="black", font=font)
        draw.text((width - 60, base + 4), f"{top:.3f}", fill="black", font=font)
    return sheet
