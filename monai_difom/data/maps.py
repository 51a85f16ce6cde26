"""Prediction maps of any program, read as they are stored and refused where their meaning is unclear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..transforms.label_file import read_labels, read_mask
from ..transforms.picture_file import open_picture

__all__ = ["read_labels", "read_map", "read_mask", "resize_map"]


def read_map(path: str | Path) -> tuple[np.ndarray, list[str]]:
    """Read one grey-level prediction map.

    Args:
        path: picture of 1, 8 or 16 bits, or a float TIFF in [0, 1], upright by its EXIF orientation. A colour picture is taken
            when its channels are equal.

    Returns:
        The map ``(H, W)``: boolean, uint8, uint16 or float32, whose range stands for [0, 1]; and remarks on it:
        ``"constant"``, ``"16 bits"``, ``"float"``, ``"colour, equal channels"``, ``"transparency dropped"``.

    Raises:
        ValueError: the file cannot be read or has several pages; channels differ; 32-bit integers; floats outside [0, 1];
            16 bits of which no level is above 255, which is an 8-bit map in the wrong type and would be black. Names the file.
    """
    try:
        return _read_map(Path(path))
    except ValueError as error:
        named = str(error).startswith(str(path))
        raise ValueError(str(error) if named else f"{path}: {error}") from error


def _read_map(path: Path) -> tuple[np.ndarray, list[str]]:
    levels, remarks = _read_levels(path)
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


def _read_levels(path: Path) -> tuple[np.ndarray, list[str]]:
    picture = open_picture(path)
    image, remarks = picture.image, []
    mode = image.mode
    if mode == "1":
        return np.asarray(image).astype(bool), []
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16), []
    if mode == "F":
        return np.asarray(image, dtype=np.float32), []
    if mode == "I":
        raise ValueError(
            "32-bit integers, whose range is unknown; allowed are 1, 8 and 16 bits, and float TIFF."
        )
    if picture.facts.bits == 16:
        raise ValueError(
            "16-bit colours, of which 8 bits would be dropped. Save the map as one grey channel."
        )
    if mode in ("L", "LA"):
        levels = np.asarray(image.getchannel(0))
    else:
        channels = np.asarray(image.convert("RGB"))
        if not (channels == channels[..., :1]).all():
            raise ValueError(
                f"a colour picture (Pillow mode {mode}) whose channels differ; allowed is one grey channel, or equal ones."
            )
        levels, remarks = np.ascontiguousarray(channels[..., 0]), ["colour, equal channels"]
    if picture.facts.transparent:
        if levels.min() == levels.max():
            raise ValueError(
                "one grey level everywhere, and all of the map in its transparency. Save it as grey levels."
            )
        remarks.append("transparency dropped")
    return levels, remarks


def resize_map(levels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a map at another ``(height, width)`` as float32 in [0, 1]: bilinear, antialiased where it shrinks."""
    top = 1 if levels.dtype.kind in "bf" else np.iinfo(levels.dtype).max
    shares = Image.fromarray(levels.astype(np.float32) / np.float32(top))
    resized = np.asarray(shares.resize(size[::-1], Image.Resampling.BILINEAR))
    return np.clip(resized, 0, 1)
