"""What a run keeps for the pictures of its report: outlines of mask and prediction of every test image, and a few of the images.

Outlines are kept, not maps: a few kilobytes per image at any size, so that a report shows any image of any run, with the
outlines of several runs on one picture, without the network and without the data set.
"""

from __future__ import annotations

import io
import os
from typing import Any

from PIL import Image

from ...transforms import read_picture_file
from .folder import RunFolder

SIDE = 480


def load_examples(folder: str | os.PathLike) -> dict[str, dict[str, dict[str, Any]]]:
    """Return test set -> path -> entry of a run's `save_examples`; empty where there is none."""
    files = RunFolder(folder)
    return {file.stem: files.read(file)["images"] for file in files.examples()}


def picture(path: str | os.PathLike, side: int = SIDE) -> bytes:
    """Return an image file as a small JPEG, its longest side at most ``side`` pixels."""
    small = Image.fromarray(read_picture_file(path))  # as it was scored: the outlines are drawn on it
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, format="JPEG", quality=82)
    return stream.getvalue()
