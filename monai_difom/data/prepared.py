"""Which files a prepared list was made from, so that it is not believed when they have changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..transforms.picture_file import PICTURE_SUFFIXES
from ..utils import few
from .folder_files import walk
from .items import NIFTI_SUFFIXES

Fingerprint = dict[str, list[int]]
_SEEN = (*PICTURE_SUFFIXES, *NIFTI_SUFFIXES, ".dcm", ".csv", "datalist.json", "structures.json")


def fingerprint_of(root: Path, target: Path) -> Fingerprint:
    """Size and times (nanoseconds) of every file of a data set, by its path; what is prepared inside of it is left out."""
    found: Fingerprint = {}
    for path in walk(root):
        below = path.relative_to(root)
        if target in path.parents or any(part.startswith(".") for part in below.parts) or not path.is_file():
            continue
        if path.name.lower().endswith(_SEEN):
            facts = path.stat()
            found[below.as_posix()] = [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
    return found


def changes(before: Any, seen: Fingerprint) -> str:
    """Return in words what is different between two fingerprints."""
    if not isinstance(before, Mapping):
        return "it does not say from which"
    parts = {
        "new": [name for name in seen if name not in before],
        "gone": [name for name in before if name not in seen],
        "changed": [name for name, facts in seen.items() if name in before and before[name] != facts],
    }
    said = [f"{len(names)} {kind} ({few(sorted(names), 3)})" for kind, names in parts.items() if names]
    return ", ".join(said) or "files that it made are gone"


def files_are_there(content: Mapping[str, Any], file: Path) -> bool:
    """Whether the files of the lists are there: a list may outlive the slices that were written beside it."""
    tests = content.get("test") or []
    lists = [content.get("training") or [], *(tests.values() if isinstance(tests, Mapping) else [tests])]
    return all((file.parent / item["image"]).is_file() for items in lists for item in items)
