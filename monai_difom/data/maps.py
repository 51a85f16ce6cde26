"""Prediction maps and masks of any program, read as they are stored and refused where their meaning is unclear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def read_map(path: str | Path) -> tuple[np.ndarray, list[str]]:
    """Read one grey-level prediction map.

    Args:
        path: picture of 1, 8 or 16 bits, or a float TIFF in [0, 1]. A colour picture is taken when its channels are
            equal; transparency is dropped.

    Returns:
        The map ``(H, W)``: boolean, uint8, uint16 or float32, whose range stands for [0, 1]; and remarks on it:
        ``"constant"``, ``"16 bits"``, ``"float"``, ``"colour, equal channels"``.

    Raises:
        ValueError: the file cannot be read; channels differ; 32-bit integers; floats outside [0, 1]; 16 bits of which no
            level is above 255, which is an 8-bit map in the wrong type and would be black.
    """
    levels, remarks = _read_levels(Path(path))
    if levels.dtype == np.uint16:
        remarks.append("16 bits")
        if 0 < levels.max() <= 255:
            raise ValueError(
                f"a 16-bit map whose highest level is {levels.max()} of 65535: these look like 8-bit levels. "
                "Save it with 8 bits, or with levels up to 65535."
            )
    elif levels.dtype == np.float32:
        remarks.append("float")
        if not (levels.min() >= 0 and levels.max() <= 1):
            raise ValueError(
                f"a float map from {levels.min():g} to {levels.max():g}; allowed is [0, 1]. "
                "Apply a sigmoid to logits before saving."
            )
    if levels.min() == levels.max():
        remarks.append("constant")
    return levels, remarks


def read_mask(path: str | Path, threshold: float | None = None) -> np.ndarray:
    """Read one mask of two values.

    Args:
        path: picture of 1, 8 or 16 bits with the values 0 and one other, whichever it is; all of one value is allowed.
        threshold: for masks of more values (JPEG leaves some): the level of the file from which a pixel is foreground.

    Returns:
        ``(H, W)``, boolean.

    Raises:
        ValueError: the file cannot be read; channels differ; more than two values and no threshold.
    """
    levels, _ = _read_levels(Path(path))
    if levels.dtype == bool:
        return levels
    if threshold is not None:
        return levels >= threshold
    foreground = levels > 0
    if np.count_nonzero(levels == levels.max()) not in (np.count_nonzero(foreground), levels.size):
        values, pixels = np.unique(levels, return_counts=True)
        often = np.argsort(-pixels, kind="stable")[:5]
        listed = ", ".join(f"{values[i]} ({pixels[i]} pixels)" for i in often)
        raise ValueError(
            f"the mask is not binary: {len(values)} values, most frequent {listed}. Allowed are 0 and one other; "
            "a mask threshold (128 for levels of 0 to 255) makes it binary, --structures reads it as labels."
        )
    return foreground


def read_labels(path: str | Path) -> np.ndarray:
    """Read a picture whose levels, or palette places, are labels: ``(H, W)`` integers."""
    levels, _ = _read_levels(Path(path), palette_places=True)
    if levels.dtype == np.float32:
        raise ValueError("labels are integers; this picture holds floats.")
    return levels.astype(np.int64)


def _read_levels(path: Path, palette_places: bool = False) -> tuple[np.ndarray, list[str]]:
    try:
        with Image.open(path) as image:
            image.load()
    # Pillow raises SyntaxError, EOFError, struct.error and others for broken files
    except Exception as error:
        raise ValueError(f"cannot be read ({type(error).__name__}: {error})") from error
    mode = image.mode
    if mode == "1":
        return np.asarray(image).astype(bool), []
    if mode == "L" or (mode == "P" and palette_places):
        return np.asarray(image), []
    if mode.startswith("I;16") or (mode == "I" and image.format == "PNG"):
        return np.asarray(image).astype(np.uint16), []
    if mode == "F":
        return np.asarray(image, dtype=np.float32), []
    if mode == "LA":
        return np.asarray(image.convert("L")), []
    if mode == "I":
        raise ValueError(
            "32-bit integers, whose range is unknown; allowed are 1, 8 and 16 bits, and float TIFF."
        )
    channels = np.asarray(image.convert("RGB"))
    if not (channels == channels[..., :1]).all():
        raise ValueError(
            f"a colour picture (Pillow mode {mode}) whose channels differ; allowed is one grey channel, or equal ones."
        )
    return np.ascontiguousarray(channels[..., 0]), ["colour, equal channels"]


def resize_map(levels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a map at another ``(height, width)`` as float32 in [0, 1]: bilinear, antialiased where it shrinks."""
    top = 1 if levels.dtype.kind in "bf" else np.iinfo(levels.dtype).max
    shares = Image.fromarray(levels.astype(np.float32) / np.float32(top))
    resized = np.asarray(shares.resize(size[::-1], Image.Resampling.BILINEAR))
    return np.clip(resized, 0, 1)
