"""What is in a folder: the files that are taken, and a warning about everything that is not."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ..transforms.picture_file import PICTURE_SUFFIXES
from ..utils import few
from .items import NIFTI_SUFFIXES, name_of

logger = logging.getLogger(__name__)
# names of the folders of a data set; the last ones are of the Medical Segmentation Decathlon and nnU-Net
IMAGE_FOLDERS = ("images", "image", "imagestr")
MASK_FOLDERS = ("masks", "mask", "labels", "labelstr")
# folders and files that operating systems and network drives leave in any folder
_SYSTEM_FOLDERS = {
    "__macosx",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "lost+found",
    "system volume information",
}
_SYSTEM_FILES = {".ds_store", "thumbs.db", "desktop.ini"}
_told: set[tuple[str, str]] = set()


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder by name, links followed, without hidden ones and those of the system."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_system(entry))


def child(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the first subfolder with one of these names, in the order of the names, upper or lower case."""
    if not folder.is_dir():
        return None
    by_name = {entry.name.lower(): entry for entry in subfolders(folder)}
    return next((by_name[name] for name in names if name in by_name), None)


def is_system(entry: Path) -> bool:
    """Return whether a folder is hidden, or one that no person has made."""
    return entry.name.startswith(".") or entry.name.lower() in _SYSTEM_FOLDERS


def walk(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder, sorted, hidden ones too; links to folders are followed, and no folder is entered twice."""
    entered: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in entered:
            folders[:] = []
            continue
        entered.add(real)
        folders.sort()
        yield from (Path(place, name) for name in sorted(files))


def files_by_stem(folder: Path, suffixes: Sequence[str] = PICTURE_SUFFIXES) -> dict[str, Path]:
    """Return the files of a folder by their name without extension; what is not taken is named in a warning.

    Args:
        folder: the folder; what is below it in other folders is not taken.
        suffixes: endings of the files that are.

    Raises:
        ValueError: two files have one stem.
    """
    files: dict[str, Path] = {}
    left: dict[str, str] = {}
    for entry in sorted(folder.iterdir()):
        reason = _reason(entry, suffixes)
        if reason:
            left[entry.name] = reason
            continue
        stem = name_of(entry)
        if stem in files:
            raise ValueError(
                f"{folder} holds two files named {stem!r}: {files[stem].name} and "
                f"{entry.name}. Files are paired by their name without extension, so it must be unique: rename or remove one."
            )
        files[stem] = entry
    tell_not_taken(folder, left)
    return files


def files_below(folder: Path, taken: Callable[[Path], bool], leave_out: Path | None = None) -> list[Path]:
    """Return the files below a folder, at any depth, that are of a kind; the others are named in a warning.

    Args:
        folder: the folder; links to folders are followed.
        taken: says of a file by its name whether it is of the kind.
        leave_out: a folder in it that is not looked into.
    """
    hidden = leave_out.resolve() if leave_out is not None else None
    found, left = [], {}
    for path in walk(folder):
        below = path.relative_to(folder)
        if hidden is not None and hidden in path.resolve().parents:
            continue
        if any(part.startswith(".") or part.lower() in _SYSTEM_FOLDERS for part in below.parts):
            left[below.as_posix()] = "hidden"
        elif not path.is_file():
            left[below.as_posix()] = "a link that leads nowhere"
        elif taken(path):
            found.append(path)
        else:
            left[below.as_posix()] = f"of no known kind ({path.suffix or 'no ending'})"
    tell_not_taken(folder, left)
    return found


def _reason(entry: Path, suffixes: Sequence[str]) -> str:
    """Why an entry of a folder is not taken; empty where it is."""
    if entry.name.startswith("."):
        return "hidden"
    if entry.is_dir():
        return "a folder"
    if not entry.exists():
        return "a link that leads nowhere"
    if not entry.name.lower().endswith(tuple(suffixes)):
        kind = "volume" if tuple(suffixes) == NIFTI_SUFFIXES else "picture"
        return f"no {kind} of an allowed type ({entry.suffix or 'no ending'})"
    return ""


def tell_not_taken(folder: Path, reasons: Mapping[str, str]) -> None:
    """Warn, once in a process, of entries of a folder that are not used.

    Args:
        folder: the folder.
        reasons: name -> why; files of the system are passed over.
    """
    shown = {
        name: reason
        for name, reason in reasons.items()
        if Path(name).name.lower() not in _SYSTEM_FILES and (str(folder), name) not in _told
    }
    _told.update((str(folder), name) for name in shown)
    if shown:
        listed = few([f"{name} ({reason})" for name, reason in shown.items()], 20)
        logger.warning("%s: %d not taken: %s.", folder, len(shown), listed)
