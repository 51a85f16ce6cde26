"""Files and folders that are written whole or not at all, and tensors that are read without running code."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .checksum import DamagedFileError, add_checksum, check_archive
from .disk import check_space, explained, part_of, remove_leftovers
from .weight_files import MODELS

if TYPE_CHECKING:
    import torch


@contextmanager
def atomic_path(path: str | os.PathLike, needed: int = 0) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place only when the block succeeds.

    Args:
        path: file to write; its folder is made.
        needed: bytes that it will have, where that is known.

    Raises:
        DiskFullError: the disk has no space for it.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    check_space(target, needed)
    temporary = part_of(target)
    try:
        # not tempfile: its files are readable by their owner only, and stay so under their final name
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    except Exception as error:
        size = temporary.stat().st_size if temporary.exists() else 0
        temporary.unlink(missing_ok=True)
        told = explained(error, target, needed, size)
        if told is error:
            raise
        raise told from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, content: Any, indent: int | None = 2) -> None:
    """Write plain data as JSON, beside its place, then rename: a kill never leaves half a file.

    Args:
        path: file to write; its folder is made.
        content: what JSON can hold.
        indent: spaces per level; None puts it on one line.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")


def save_tensors(
    path: str | os.PathLike, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a ``.safetensors`` file beside its place, then rename.

    Args:
        path: file to write; its folder is made.
        tensors: name -> tensor, contiguous and on the CPU.
        metadata: strings that the file carries.
    """
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        mode = temporary.stat().st_mode
        save_file(dict(tensors), str(temporary), metadata=dict(metadata or {}))
        os.chmod(temporary, mode)  # safetensors makes files that only their owner may read


def save_state(path: str | os.PathLike, state: Any, before: str | None = None) -> None:
    """``torch.save`` to a temporary file, then rename: a kill never leaves half a checkpoint.

    Args:
        path: file to write; its folder is made.
        state: tensors and plain data, which `load_state` can read.
        before: name beside ``path`` under which the file that is there now is kept; None for none.

    Raises:
        DiskFullError: the disk has no space for it; what is there stays.
    """
    import torch

    target = Path(path)
    with atomic_path(target, _bytes_of(state)) as temporary:
        torch.save(state, temporary)
        add_checksum(temporary)
        if before is not None and target.is_file():
            _keep(target, target.with_name(before))


def _bytes_of(state: Any) -> int:
    """Bytes that the tensors of a state take on the disk, with a little for the rest."""
    import torch

    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    parts = state.values() if isinstance(state, Mapping) else state if isinstance(state, list | tuple) else ()
    return sum(map(_bytes_of, parts)) + 200


def _keep(file: Path, copy: Path) -> None:
    """Keep a file under a second name too, so that at every moment one of that name is whole."""
    draft = part_of(copy)
    try:
        os.link(file, draft)
    except OSError:  # a disk without links
        shutil.copyfile(file, draft)
    os.replace(draft, copy)


def load_state(path: str | os.PathLike, map_location: str | torch.device = "cpu") -> Any:
    """Read tensors from a ``.safetensors`` file or a ``torch.save`` file without running any code in it.

    Args:
        path: file to read.
        map_location: device of the tensors.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFileError: the file has a wrong bit; names a copy of it that is there.
        ValueError: the file holds pickled code, or is no tensor file at all.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"no weight file at {file}. Give the path of a .safetensors, .pt or .pth file."
        )
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return load_file(str(file), device=str(map_location))
        except Exception as error:
            raise ValueError(f"{file} is not a readable safetensors file: {error}") from error
    with open(file, "rb") as stream:
        head = stream.read(40)
    # a zip archive, or a pickle of protocol 2 and later: torch.save writes nothing else
    if not head.startswith((b"PK", b"\x80")):
        raise ValueError(
            f"{file} is not a readable weight file: it begins with {head!r}. An empty file, an HTML page "
            "or a Git LFS pointer often stands where a download failed: get the file again."
        )
    if head.startswith(b"PK"):
        try:
            check_archive(file)
        except DamagedFileError as error:
            raise DamagedFileError(f"{error} {_other_copies(file)}") from None
    import torch

    try:
        return torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(
            f"{file} is refused: it holds pickled Python objects besides tensors, which could run code"
            f"{f' ({named[1]})' if named else ''}. "
            "Save the plain state dict (torch.save(model.state_dict(), ...)) or a .safetensors file from it."
        ) from error
    # a damaged pickle makes the reader fail in any way at all
    except Exception as error:
        reason = (str(error).splitlines() or ["it ends too early"])[0]
        raise ValueError(f"{file} is not a readable weight file: {type(error).__name__}: {reason}") from error


def _other_copies(file: Path) -> str:
    """Say what there is in place of a damaged file."""
    places = [
        file.with_stem(f"{file.stem}_before"),
        *(p / MODELS / file.name for p in (file.parent.parent / "bundle", file.parent.parent.parent)),
    ]
    found = [str(place) for place in places if place.is_file() and place != file]
    return f"An older copy is {found[0]}." if found else "Take another copy of it, or make it anew."


def file_digest(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file's bytes as a hexadecimal string."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def locked(path: str | os.PathLike, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on a file, between threads, processes and (NFS version 4) machines.

    The system gives the lock back when its holder dies, so that there are no stale locks. On a system without
    `flock` nothing is locked.

    Args:
        path: the lock file; made when absent, and left there.
        wait: wait for the lock; otherwise yield False at once when another holds it.

    Yields:
        Whether the lock is held.
    """
    try:
        import fcntl
    except ImportError:
        yield True
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "a") as stream:
        close_in_forks(stream)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


_closed_in_forks: weakref.WeakSet[IO[str]] = weakref.WeakSet()


def close_in_forks(stream: IO[str]) -> None:
    """Close a file in every process that is forked from now on (those of a loader): a lock on it ends with this process."""
    _closed_in_forks.add(stream)


def _close_own_files() -> None:
    for stream in list(_closed_in_forks):
        stream.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_own_files)


def refuse_other_content(target: Path, *signs: str) -> None:
    """Refuse to replace a folder that holds something else than what is written there.

    Args:
        target: the folder; absent and empty ones are fine.
        signs: files of which one shows that the folder is an older result.

    Raises:
        ValueError: it holds none of them, and something.
    """
    if target.exists() and any(target.iterdir()) and not any((target / sign).is_file() for sign in signs):
        raise ValueError(
            f"{target} holds something that is no bundle and would be lost. Give another folder, or empty it."
        )


@contextmanager
def replaced_folder(target: Path, needed: int = 0) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` that takes its place only when the block succeeds.

    What was there before is put back where the new folder cannot take its place.

    Args:
        target: the folder.
        needed: bytes that it will have, where that is known.

    Raises:
        DiskFullError: the disk has no space for it; what is there stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    check_space(target, needed)
    draft, old = part_of(target), part_of(target, "old")
    draft.mkdir()
    try:
        yield draft
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(draft, target)
        except BaseException:
            if old.exists():
                os.replace(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except Exception as error:
        size = sum(file.stat().st_size for file in draft.rglob("*") if file.is_file())
        told = explained(error, target, needed, size)
        if told is error:
            raise
        raise told from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def with_folder(path: Path) -> Path:
    """Return a path whose folder is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
