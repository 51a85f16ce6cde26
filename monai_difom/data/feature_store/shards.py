"""One shard of a feature store: a safetensors file of many images' maps, and a JSON file of its checksums.

The JSON file is written last. A shard without it was never finished.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...utils import atomic_path, save_tensors
from ...utils.checksum import checked_json, read_checked_json

DTYPES = {"float16": torch.float16, "float32": torch.float32}
# of POSIX systems; Python names them on open files only
_MADV_RANDOM, _MADV_WILLNEED = 1, 3
_SAFETENSORS = {"F16": torch.float16, "F32": torch.float32, "U8": torch.uint8}
Entry = tuple[str, int]  # digest of an image's bytes, view


class StoreError(ValueError):
    """A feature store cannot be used as it is; says why, and what to do."""


class DamagedShardError(StoreError):
    """A shard is truncated, unfinished or holds other bytes than were written."""


class Shard:
    """A finished shard, mapped into memory when a row of it is first read.

    Args:
        folder: folder of the shards.
        name: name of the shard.

    Raises:
        DamagedShardError: the shard is not finished, or its file has not the size that was written.
    """

    # a large store has thousands, each read once in a while: what a read touches lies together, not in a dict
    __slots__ = (
        "_checked",
        "_tensors",
        "crc",
        "entries",
        "file",
        "header",
        "name",
        "notes",
        "size",
        "targets",
    )

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.file, self.notes = shard_paths(folder, name)
        try:
            content = read_checked_json(self.notes)
            self.size, self.header = int(content.pop("size")), int(content.pop("header"))
            self.crc: dict[str, list[int]] = content.pop("crc")
            self.entries: list[Entry] = [(str(key), int(view)) for key, view in content.pop("entries")]
            self.targets: str | None = content.pop("targets", None)
            if content or any(len(crc) != len(self.entries) for crc in self.crc.values()):
                raise ValueError(f"they hold {', '.join(content) or 'another number of rows'}")
            found = self.file.stat().st_size
        except FileNotFoundError as error:
            raise self._damaged("is not finished") from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._damaged(f"has unreadable checksums ({self.notes.name}: {error})") from error
        if found != self.size:
            raise self._damaged(f"is truncated or too long: {found:,} bytes, {self.size:,} were written")
        # one flag per row: its bytes agreed with their checksum in this process
        self._checked = bytearray(len(self.entries))
        self._tensors: dict[str, torch.Tensor] | None = None

    def _damaged(self, what: str) -> DamagedShardError:
        return DamagedShardError(
            f"shard {self.file} {what}. `python -m monai_difom features build` repairs this shard alone."
        )

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """Name -> ``(rows, ...)``, memory-mapped and private: writing to them changes no file."""
        if self._tensors is None:
            self._tensors = self._map()
        return self._tensors

    def _map(self) -> dict[str, torch.Tensor]:
        # torch closes the file once it is mapped, so that a store may have more shards than a process may open files
        data = torch.from_file(str(self.file), shared=False, size=self.size, dtype=torch.uint8)
        length = 8 + int.from_bytes(bytes(data[:8].tolist()), "little")
        if length > self.size or _crc(data[:length]) != self.header:
            raise self._damaged("holds other bytes than were written (header)")
        # rows are read in random order: without this a row brings in what the device reads ahead, up to the whole shard
        _advise(data, _MADV_RANDOM)
        header = json.loads(bytes(data[8:length].numpy()))
        tensors = {}
        for name, about in header.items():
            if name != "__metadata__":
                begin, end = about["data_offsets"]
                flat = data[length + begin : length + end].view(_SAFETENSORS[about["dtype"]])
                tensors[name] = flat.view(about["shape"])
        if tensors.keys() != self.crc.keys():
            raise self._damaged(f"has checksums of {', '.join(self.crc)} and holds {', '.join(tensors)}")
        return tensors

    def read(self, row: int, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return maps of one row; the row's bytes are checked when this process reads it for the first time.

        Raises:
            DamagedShardError: the bytes are not those that were written.
        """
        if not self._checked[row]:
            self._check_row(row)
        tensors: Any = self._tensors  # checking the row has mapped them
        return {name: tensors[name][row] for name in names}

    def _check_row(self, row: int) -> None:
        for tensor in self.tensors.values():
            _advise(tensor[row], _MADV_WILLNEED)  # the whole row in one request, not page by page
        for name, tensor in self.tensors.items():
            if _crc(tensor[row]) != self.crc[name][row]:
                key, view = self.entries[row]
                raise self._damaged(
                    f"holds other bytes than were written ({name} of image {key}, view {view})"
                )
        self._checked[row] = 1

    def check(self) -> None:
        """Read every byte and compare it with its checksum.

        Raises:
            DamagedShardError: they are not those that were written.
        """
        for row in range(len(self.entries)):
            self._check_row(row)

    def __reduce__(self) -> tuple[Any, ...]:
        # a worker process maps the file itself, and checks what it reads
        return Shard, (self.file.parent, self.name)


def shard_paths(folder: Path, name: str) -> tuple[Path, Path]:
    """Return the tensor file of a shard and the file of its checksums."""
    return folder / f"{name}.safetensors", folder / f"{name}.json"


def write_shard(
    folder: Path,
    name: str,
    entries: Sequence[Entry],
    tensors: Mapping[str, torch.Tensor],
    targets: str | None = None,
) -> None:
    """Write a shard; a kill at any moment leaves it finished or absent.

    Args:
        folder: folder of the shards.
        name: name of the shard.
        entries: what the rows are.
        tensors: name -> ``(rows, ...)``, contiguous, on the CPU.
        targets: digest of what the targets are, by which a shard without an index is known again.
    """
    file, notes = shard_paths(folder, name)
    save_tensors(file, tensors, {"shard": name})
    with open(file, "rb") as stream:
        head = stream.read(8)
        head += stream.read(int.from_bytes(head, "little"))
    crc = {key: [_crc(row) for row in tensor] for key, tensor in tensors.items()}
    content = {"size": file.stat().st_size, "header": zlib.crc32(head), "crc": crc, "entries": list(entries)}
    with atomic_path(notes) as temporary:
        temporary.write_text(checked_json({**content, "targets": targets}), encoding="utf-8")


def remove_shard(folder: Path, name: str) -> None:
    """Remove a shard and what killed writers left of it; the checksums go first, so that it is never half there."""
    file, notes = shard_paths(folder, name)
    for path in (notes, *folder.glob(f".{name}.*.part"), file):
        path.unlink(missing_ok=True)


def row_bytes(shapes: Mapping[str, Sequence[int]], dtypes: Mapping[str, torch.dtype]) -> int:
    """Return the bytes of one row: name -> shape of a row, name -> its number type."""
    return sum(math.prod(shape) * dtypes[name].itemsize for name, shape in shapes.items())


def sync_folder(folder: Path) -> None:
    """Write a folder's list of names to the disk, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _crc(tensor: torch.Tensor) -> int:
    data: Any = tensor.contiguous().view(-1).view(torch.uint8).numpy()
    return zlib.crc32(data)


def _advise(mapped: torch.Tensor, advice: int) -> None:
    """Tell the system how mapped bytes will be read; where it takes no advice, reading is slower and not wrong."""
    if sys.platform not in ("linux", "darwin"):
        return
    page = os.sysconf("SC_PAGE_SIZE")
    begin = mapped.data_ptr() // page * page
    length = mapped.data_ptr() + mapped.nbytes - begin
    ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(length), ctypes.c_int(advice))
