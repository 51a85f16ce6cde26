"""Frames of CVC-ClinicDB: which video sequence an image is from, and whether numbers in a data set are such frames at all."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from ...transforms.picture_file import picture_facts
from ..items import name_of

logger = logging.getLogger(__name__)
# Last frame of each of the 29 video sequences of CVC-ClinicDB; the first frame of a sequence follows the
# last of the one before it. Source: the table in the README.txt that is distributed with CVC-ClinicDB.
CLINICDB_LAST_FRAMES = (
    *(25, 50, 67, 78, 103, 126, 151, 177, 199, 205),
    *(227, 252, 277, 297, 317, 342, 363, 383, 408, 428),
    *(447, 466, 478, 503, 528, 546, 571, 591, 612),
)
_SIZE = (288, 384)  # height and width of every frame
_COUNTS = (550, 612)  # frames in PraNet's training set, and all
_KVASIR = "cju"  # how the names of Kvasir-SEG begin, which PraNet's training set has beside the numbers
_told: set[str] = set()


def clinicdb_sequence(frame: int) -> int:
    """Return the video sequence (1 to 29) of a CVC-ClinicDB frame number (1 to 612).

    Raises:
        ValueError: there is no such frame.
    """
    if frame >= 1:
        for sequence, last in enumerate(CLINICDB_LAST_FRAMES, start=1):
            if frame <= last:
                return sequence
    raise ValueError(
        f"CVC-ClinicDB has no frame {frame}; its frames are numbered 1 to {CLINICDB_LAST_FRAMES[-1]}."
    )


def groups_of(folder: Path, images: Mapping[str, Path]) -> dict[str, str]:
    """Return the group of every image of a set: its video sequence where the set holds frames of CVC-ClinicDB, else its own name.

    Numbers as names prove nothing. They are frames where the folder is named after CVC-ClinicDB; or where all of them have the
    size of its frames, and names of Kvasir-SEG stand beside them (PraNet's training set) or they are as many as were published.

    Args:
        folder: folder of the set, ``TrainDataset`` or ``TestDataset/<set>``.
        images: stem -> image.
    """
    numbered = {stem: file for stem, file in images.items() if _is_frame(stem)}
    named = "clinicdb" in folder.name.lower()
    if not numbered or not (named or _look_like_frames(images, numbered)):
        return {stem: stem for stem in images}
    found = {stem: _sequence(stem) if stem in numbered else stem for stem in images}
    if str(folder) not in _told:
        _told.add(str(folder))
        logger.info(
            "%s: %d images are named by numbers, and are taken for frames of CVC-ClinicDB, %d sequences, each kept together.",
            folder,
            len(numbered),
            len({found[stem] for stem in numbered}),
        )
    return found


def image_group(image: str | Path) -> str:
    """Return the group of an image file by its path: the sequence, in a folder named after CVC-ClinicDB, or its name."""
    file = Path(image)
    stem = name_of(file)
    return _sequence(stem) if "clinicdb" in file.parent.parent.name.lower() and _is_frame(stem) else stem


def _is_frame(stem: str) -> bool:
    return stem.isascii() and stem.isdigit() and 1 <= int(stem) <= CLINICDB_LAST_FRAMES[-1]


def _sequence(stem: str) -> str:
    return f"CVC-ClinicDB/sequence-{clinicdb_sequence(int(stem)):02d}"


def _look_like_frames(images: Mapping[str, Path], numbered: Mapping[str, Path]) -> bool:
    known = any(stem.startswith(_KVASIR) for stem in images) or len(numbered) in _COUNTS
    return known and all(_size(file) == _SIZE for file in numbered.values())


def _size(file: Path) -> tuple[int, int] | None:
    try:
        return picture_facts(file).size
    except ValueError:
        return None  # told when the images are looked at
