"""Fills a folder of soft masks: image by image, killed and taken up again, by any number of processes."""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...utils import atomic_path, locked, write_json
from .mask_file import DTYPES, mask_bytes, suffix_of
from .store import (
    FORMAT,
    INDEX,
    SoftMaskError,
    SoftMasks,
    different,
    journals,
    read_mask_file,
    unmerged_entries,
)


class SoftMaskWriter:
    """Writes soft masks into a folder, new or begun.

    What is written stays valid whenever the process is killed; `missing` says what is left. `write` may be called from several
    threads.

    Args:
        folder: the folder; made when absent.
        structures: names of the channels.
        teachers: name of each teacher -> its signature.
        views: dihedral views that every mask is the mean of, see `monai_difom.transforms.VIEWS`.
        dtype: ``"uint8"`` (PNG, of volumes NIfTI) or ``"float16"``.
        rank: number of this process, from 0: each has its own journal.

    Raises:
        SoftMaskError: the folder holds soft masks of something else, or other files.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        structures: Sequence[str],
        teachers: Mapping[str, str],
        views: Sequence[int],
        dtype: str = "uint8",
        rank: int = 0,
    ) -> None:
        if dtype not in DTYPES:
            raise SoftMaskError(f"dtype of soft masks is {dtype!r}; allowed are {', '.join(DTYPES)}.")
        if not structures or not teachers or not views:
            raise SoftMaskError("soft masks need at least one structure, one teacher and one view.")
        self.folder = Path(folder).expanduser()
        self.dtype, self.rank = dtype, int(rank)
        self.structures = list(structures)
        self._thread = threading.Lock()
        self._open(
            {
                "structures": self.structures,
                "teachers": dict(teachers),
                "views": [int(view) for view in views],
                "dtype": dtype,
            }
        )
        self.masks = SoftMasks(self.folder)

    def _open(self, definition: dict[str, Any]) -> None:
        from ... import __version__

        head = {"kind": "soft_masks", "format": FORMAT, "version": __version__, **definition}
        with locked(self.folder / "soft_masks.lock"):
            file = self.folder / INDEX
            if not file.is_file():
                write_json(file, {**head, "entries": {}}, indent=None)
                return
            stored = SoftMasks(self.folder).index
        lines = [
            different(name, stored[name], value)
            for name, value in definition.items()
            if stored[name] != value
        ]
        if lines:
            raise SoftMaskError(
                f"{self.folder} holds soft masks of something else:\n"
                + "\n".join(lines)
                + "\nChoose another folder, remove this one, or go back to what made it."
            )

    def missing(self, keys: Iterable[str], deep: bool = True) -> list[str]:
        """Return those of some images' digests that have no valid soft mask yet, each once and in order.

        Args:
            keys: digests, see `monai_difom.data.image_keys`.
            deep: read the files of the others too; a damaged one is missing.
        """
        self.masks.reload()
        entries = self.masks.entries
        return [
            key
            for key in dict.fromkeys(keys)
            if key not in entries or (deep and not self._valid(entries[key]))
        ]

    def _valid(self, entry: Mapping[str, Any]) -> bool:
        try:
            read_mask_file(self.folder, entry, self.dtype, len(self.structures))
        except SoftMaskError:
            return False
        return True

    def write(
        self,
        key: str,
        name: str,
        probability: torch.Tensor,
        certainty: float,
        disagreement: float,
        teachers: Sequence[str],
        learned: bool = False,
        look: str = "",
        affine: np.ndarray | None = None,
    ) -> None:
        """Write the soft mask of one image.

        Args:
            key: digest of its bytes.
            name: its name for people.
            probability: ``(K, H, W)``, of a volume ``(K, X, Y, Z)``, in [0, 1], at the image's own size.
            certainty: see `certainty`.
            disagreement: see `disagreement`.
            teachers: names of the teachers that said it.
            learned: whether any of them was trained on the image's own mask.
            look: a thumbnail of the image for comparisons, as text.
            affine: ``(4, 4)`` of a volume, from its voxels to the body.

        Raises:
            SoftMaskError: not one channel per structure, or values that are no probabilities.
        """
        if probability.ndim not in (3, 4) or probability.shape[0] != len(self.structures):
            raise SoftMaskError(
                f"the soft mask of {name} has shape {tuple(probability.shape)}; allowed is ({len(self.structures)}, H, W), of a "
                f"volume ({len(self.structures)}, X, Y, Z): a channel each for {', '.join(self.structures)}."
            )
        low, high = (float(value) for value in torch.aminmax(probability))
        if not (low >= 0 and high <= 1):  # also what is not a number
            raise SoftMaskError(f"the soft mask of {name} goes from {low:g} to {high:g}; allowed is [0, 1].")
        content = mask_bytes(probability, self.dtype, affine)
        file = Path("masks") / f"{key}{suffix_of(self.dtype, probability.ndim - 1)}"
        with atomic_path(self.folder / file) as temporary:
            temporary.write_bytes(content)
        entry = {
            "name": name,
            "file": file.as_posix(),
            "size": list(probability.shape[1:]),
            "crc": zlib.crc32(content),
            "range": [round(low, 4), round(high, 4)],
            "certainty": round(certainty, 4),
            "disagreement": round(disagreement, 4),
            "foreground": round(float((probability > 0.5).float().mean()), 4),
            "teachers": list(teachers),
            "learned": bool(learned),
            "look": look,
        }
        line = json.dumps([key, entry]) + "\n"
        with (
            self._thread,
            open(self.folder / f"soft_masks.{self.rank}.jsonl", "a", encoding="utf-8") as stream,
        ):
            # a line that a kill has torn would swallow this one
            stream.write(line if stream.tell() == 0 else "\n" + line)

    def finish(self) -> SoftMasks:
        """Put all entries into the index, once every process has written its own; return a reader."""
        with locked(self.folder / "soft_masks.lock"):
            self.masks.reload()
            index = self.masks.index
            files = journals(self.folder)
            index["entries"].update(unmerged_entries(self.folder))
            write_json(self.folder / INDEX, index, indent=None)
            for file in files:
                file.unlink(missing_ok=True)
        self.masks.reload()
        return self.masks
