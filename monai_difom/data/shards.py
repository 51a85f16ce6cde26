"""One shard of a feature store: a safetensors file of many images' maps, and a JSON file of its checksums.

The JSON file is written last. A shard without it was never finished.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..utils import save_tensors, write_json

DTYPES = {"float16": torch.float16, "float32": torch.float32}
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

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.file, self.notes = shard_paths(folder, name)
        try:
            content = json.loads(self.notes.read_text(encoding="utf-8"))
            self.size, self.header = int(content["size"]), int(content["header"])
            self.crc: dict[str, list[int]] = content["crc"]
            self.entries: list[Entry] = [(str(key), int(view)) for key, view in content["entries"]]
            found = self.file.stat().st_size
        except FileNotFoundError as error:
            raise self._damaged("is not finished") from error
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"has unreadable checksums ({self.notes.name})") from error
        if found != self.size:
            raise self._damaged(f"is truncated or too long: {found:,} bytes, {self.size:,} were written")
        # one flag a row: its bytes agreed with their checksum in this process
        self._checked = bytearray(len(self.entries))

    def _damaged(self, what: str) -> DamagedShardError:
        return DamagedShardError(
            f"shard {self.file} {what}. `python -m monai_difom features build` repairs this shard alone."
        )

    @cached_property
    def tensors(self) -> dict[str, torch.Tensor]:
        """Name -> ``(rows, ...)``, memory-mapped and private: writing to them changes no file."""
        # torch closes the file once it is mapped, so that a store may have more shards than a process may open files
        data = torch.from_file(str(self.file), shared=False, size=self.size, dtype=torch.uint8)
        length = 8 + int.from_bytes(bytes(data[:8].tolist()), "little")
        if length > self.size or _crc(data[:length]) != self.header:
            raise self._damaged("holds other bytes than were written (header)")
        header = json.loads(bytes(data[8:length].numpy()))
        tensors = {}
        for name, about in header.items():
            if name != "__metadata__":
                begin, end = about["data_offsets"]
                flat = data[length + begin : length + end].view(_SAFETENSORS[about["dtype"]])
                tensors[name] = flat.view(about["shape"])
        return tensors

    def read(self, row: int, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return maps of one row; the row's bytes are checked when this process reads it for the first time.

        Raises:
            DamagedShardError: the bytes are not those that were written.
        """
        if not self._checked[row]:
            self._check_row(row)
        tensors = self.tensors
        return {name: tensors[name][row] for name in names}

    def _check_row(self, row: int) -> None:
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

    def __getstate__(self) -> dict[str, Any]:
        # a worker process maps the file itself
        return {key: value for key, value in self.__dict__.items() if key != "tensors"}


def shard_paths(folder: Path, name: str) -> tuple[Path, Path]:
    """Return the tensor file of a shard and the file of its checksums."""
    return folder / f"{name}.safetensors", folder / f"{name}.json"


def write_shard(
    folder: Path, name: str, entries: Sequence[Entry], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Write a shard; a kill at any moment leaves it finished or absent.

    Args:
        folder: folder of the shards.
        name: name of the shard.
        entries: what the rows are.
        tensors: name -> ``(rows, ...)``, contiguous, on the CPU.
    """
    file, notes = shard_paths(folder, name)
    save_tensors(file, tensors, {"shard": name})
    with open(file, "rb") as stream:
        head = stream.read(8)
        head += stream.read(int.from_bytes(head, "little"))
    crc = {key: [_crc(row) for row in tensor] for key, tensor in tensors.items()}
    content = {"size": file.stat().st_size, "header": zlib.crc32(head), "crc": crc, "entries": list(entries)}
    write_json(notes, content, indent=None)


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
