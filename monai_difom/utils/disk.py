"""A disk that is full, said in one sentence; and what writers that were killed have left on it."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
# what libraries that write by themselves say of it
_SAID = re.compile(r"No space left|Disk quota|unexpected pos|PytorchStreamWriter failed", re.IGNORECASE)
_PART = re.compile(r"\.(?P<host>[0-9a-f]{6})-(?P<process>\d+)-[0-9a-f]{8}\.(part|old)(\.[\w.]+)?")


class DiskFullError(OSError):
    """There is no space for a file; the message says for which, how much, and what is still valid."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.errno = errno.ENOSPC


def check_space(target: Path, needed: int) -> None:
    """Refuse to begin a file that its disk has no space for.

    Args:
        target: file or folder that is to be written; what is there stays until the new one is whole.
        needed: bytes.

    Raises:
        DiskFullError: they are not free.
    """
    if needed > free_space(target):
        raise DiskFullError(_sentence(target, f"{needed:,}"))


def free_space(target: Path) -> int:
    """Return the bytes that are free where a file is to be written."""
    place = target
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def explained(error: BaseException, target: Path, needed: int = 0, written: int = 0) -> BaseException:
    """Return what to raise for an error of a writer: `DiskFullError` where the disk is full, else the error itself.

    Args:
        error: what was raised.
        target: what was to be written.
        needed: bytes, where that is known.
        written: bytes that had been written.
    """
    if isinstance(error, DiskFullError) or not _is_full(error, target, needed):
        return error
    return DiskFullError(_sentence(target, f"{needed:,}" if needed else f"more than {written:,}"))


def _sentence(target: Path, needed: str) -> str:
    kept = "what was there before is whole" if target.exists() else "nothing is written there"
    return (
        f"the disk is full: {target} needs {needed} bytes, {free_space(target):,} are free; {kept}. Free some space, or "
        "give a folder on another disk."
    )


def _is_full(error: BaseException, target: Path, needed: int) -> bool:
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in _FULL:
            return True
        # torch says the same of other troubles
        if _SAID.search(str(found)) and free_space(target) < max(needed, 1_000_000):
            return True
        found = found.__cause__ or found.__context__
    return False


@cache
def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]


def part_of(target: Path, end: str = "part", suffix: str = "") -> Path:
    """Return a name beside a file or folder for a draft of it, that says which process writes it.

    Args:
        target: the file or folder.
        end: ``"part"``, or ``"old"`` for what is being replaced.
        suffix: ending for libraries that take the format from it.
    """
    return target.with_name(f".{target.name}.{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.{end}{suffix}")


def remove_leftovers(target: Path) -> None:
    """Remove drafts of a file or folder whose writers on this machine are dead; what one of them was replacing is put back.

    Args:
        target: the file or folder.
    """
    if target.parent.is_dir():
        for path in target.parent.glob(f".{_escaped(target.name)}.*"):
            _remove(path, target)


def remove_all_leftovers(folder: Path) -> None:
    """Remove the drafts in a folder and below it, whoever wrote them; for who has locked the folder.

    Args:
        folder: the folder; it need not be there.
    """
    for path in list(_drafts(folder)):
        _delete(path)


def _drafts(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        for name in [*files, *folders]:
            if name.startswith(".") and re.search(r"\.part(\.[\w.]+)?$", name):
                yield Path(root, name)


def _remove(path: Path, target: Path) -> None:
    found = _PART.fullmatch(path.name[1 + len(target.name) :])
    if found is None or found["host"] != _host() or is_alive(int(found["process"])):
        return
    if path.suffix == ".old" and not target.exists():
        os.replace(path, target)
    else:
        _delete(path)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def is_alive(process: int) -> bool:
    """True where a process of this machine lives."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another person
        return True
    return True
