"""Soft masks of images as a folder: a teacher's probability at every pixel, written once and read by training.

``soft_masks.json`` says what made them (structures, teachers with their signatures, views) and has an entry for each image under
the digest of its bytes; ``masks/`` has one file per image at the image's own size: an 8-bit PNG of the probability (0 is
0, 255 is 1), the channels of several structures below each other; of a volume an 8-bit NIfTI file on its grid; or a float16
``.npy`` ``(K, H, W)`` or ``(K, X, Y, Z)``. While the folder is being filled, entries stand in ``soft_masks.<rank>.jsonl``, a
line per finished image.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ...utils.names import listed
from ..feature_store import image_key, image_keys, image_name
from .mask_file import DTYPES, mask_of

FORMAT = 1
INDEX = "soft_masks.json"
SHOWN = 10
_AGAIN = "Run `python -m monai_difom autolabel` with the same options and these images."


class SoftMaskError(ValueError):
    """Soft masks that are missing, damaged, or of something else than what is asked for."""


class SoftMasks:
    """Reads the soft masks in a folder that ``autolabel`` wrote; any number of processes may.

    Nothing is opened before it is needed: a folder may be named before it is filled.

    Args:
        folder: the folder.

    Example::

        masks = SoftMasks("runs/soft")
        masks.check(images, structures=["polyp"])
        probability = masks.read("data/images/1.png")  # (1, H, W), in [0, 1]
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder).expanduser()
        self._keys: dict[str, tuple[tuple[int, int], str]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_keys": {}}

    @cached_property
    def index(self) -> dict[str, Any]:
        """Content of the index: ``format, version, kind, dtype, structures, teachers, views, entries``."""
        file = self.folder / INDEX
        if not file.is_file():
            raise SoftMaskError(
                f"there are no soft masks at {self.folder} (no {INDEX}). Make them: `python -m monai_difom autolabel "
                f"--teacher RUN --images DIR --output {self.folder}`."
            )
        try:
            index = json.loads(file.read_text(encoding="utf-8"))
            kind, form = index["kind"], index["format"]
            (
                index["entries"],
                index["structures"],
                index["teachers"],
                index["views"],
                DTYPES.index(index["dtype"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise SoftMaskError(
                f"{file} is no index of soft masks: {error!r}. Make them anew in another folder."
            ) from error
        if (kind, form) != ("soft_masks", FORMAT):
            raise SoftMaskError(
                f"{file} is of kind {kind!r}, format {form}; this version reads 'soft_masks' of format {FORMAT}. "
                "Make the soft masks anew in another folder."
            )
        return index

    @cached_property
    def entries(self) -> dict[str, dict[str, Any]]:
        """Digest of an image -> what is known of its soft mask.

        ``name, file, size, crc, range, foreground`` (share of pixels above .5), ``certainty, disagreement, teachers, learned``
        (whether any of these teachers was trained on the image's own mask), ``look`` (a thumbnail).
        """
        return {**self.index["entries"], **unmerged_entries(self.folder)}

    @property
    def structures(self) -> list[str]:
        """Names of the channels."""
        return list(self.index["structures"])

    @property
    def teachers(self) -> dict[str, str]:
        """Name of each teacher -> its signature."""
        return dict(self.index["teachers"])

    def reload(self) -> None:
        """Forget what was read; the next use reads it anew."""
        for name in ("index", "entries"):
            self.__dict__.pop(name, None)

    def key(self, image: str | os.PathLike) -> str:
        """Return the digest of an image's bytes, computed again only when the file has changed."""
        path = os.fspath(image)
        state = os.stat(path)
        seen = (state.st_size, state.st_mtime_ns)
        if self._keys.get(path, (None,))[0] != seen:
            self._keys[path] = (seen, image_key({"image": path}))
        return self._keys[path][1]

    def has(self, image: str | os.PathLike) -> bool:
        """Return whether there is a soft mask of an image, as it is now; none is in a folder that is still to be filled."""
        return (self.folder / INDEX).is_file() and self.key(image) in self.entries

    def said(self, image: str | os.PathLike) -> list[bool]:
        """Return of which structures there is a soft mask of an image: of all or none."""
        return [self.has(image)] * len(self.structures)

    def entry(self, image: str | os.PathLike) -> dict[str, Any]:
        """Return what is known of an image's soft mask.

        Raises:
            SoftMaskError: there is none, or the image has changed since.
        """
        found = self.entries.get(self.key(image))
        if found is None:
            raise SoftMaskError(f"{self.folder}: {self._missing(image)}. {_AGAIN}")
        return found

    def read(self, image: str | os.PathLike, size: Sequence[int] | None = None) -> torch.Tensor:
        """Return the soft mask of an image.

        Args:
            image: path of the image; it is found by its bytes, wherever it lies.
            size: ``(height, width)`` of the image as it was loaded, or the three sides of the volume, to be compared.

        Returns:
            ``(K, H, W)``, of a volume ``(K, X, Y, Z)``, float32 in [0, 1], at the image's own size.

        Raises:
            SoftMaskError: there is none, its file is damaged, or it has another size.
        """
        entry = self.entry(image)
        if size is not None and list(size) != list(entry["size"]):
            raise SoftMaskError(_other_size(self.folder / entry["file"], entry["size"], image, size))
        return read_mask_file(self.folder, entry, self.index["dtype"], len(self.index["structures"]))

    def certainty(self, image: str | os.PathLike) -> float:
        """Return the certainty of an image's soft mask, see `certainty`."""
        return float(self.entry(image)["certainty"])

    def check(
        self,
        images: Iterable[str | os.PathLike],
        structures: Sequence[str] | None = None,
        teachers: Mapping[str, str] | None = None,
        progress: bool = False,
    ) -> None:
        """Refuse soft masks that are not those of these images, or say nothing; before a training starts.

        Args:
            images: paths of the images that will be read.
            structures: names that the channels must have, in this order.
            teachers: name -> signature that the teachers must have.
            progress: show a progress bar.

        Raises:
            SoftMaskError: images without a soft mask, other structures, a changed teacher, or masks that are all constant.
        """
        check_structures_of(self.folder, self.structures, structures)
        if teachers is not None and dict(teachers) != self.teachers:
            lines = different("teachers", self.teachers, dict(teachers))
            raise SoftMaskError(
                f"the soft masks in {self.folder} are of other teachers:\n{lines}\n"
                "Make them anew in another folder, or bring the teachers back."
            )
        paths = [os.fspath(image) for image in images]
        keys = image_keys([{"image": path} for path in paths], progress)
        problems = [self._missing(p) for p, key in zip(paths, keys, strict=True) if key not in self.entries]
        refuse(
            f"the soft masks in {self.folder} do not fit {{count}} of {len(paths)} images", problems, _AGAIN
        )
        check_not_constant(self.folder, [self.entries[key]["range"] for key in keys])

    def verify(self, progress: bool = False) -> dict[str, str]:
        """Read every file; return name of an image -> what is wrong with its soft mask, empty when all is well."""
        damaged = {}
        for entry in tqdm(self.entries.values(), "Checking soft masks", disable=not progress):
            try:
                read_mask_file(self.folder, entry, self.index["dtype"], len(self.index["structures"]))
            except SoftMaskError as error:
                damaged[entry["name"]] = str(error)
        return damaged

    def _missing(self, image: str | os.PathLike) -> str:
        name = image_name({"image": os.fspath(image)})
        if any(entry["name"] == name for entry in self.entries.values()):
            return f"image {name} has changed since its soft mask was made"
        return f"image {name} has no soft mask"


def read_mask_file(folder: Path, entry: Mapping[str, Any], dtype: str, channels: int) -> torch.Tensor:
    """Return ``(K, H, W)``, of a volume ``(K, X, Y, Z)``, float32 in [0, 1] from the file of an entry.

    Raises:
        SoftMaskError: the file is missing, not the one that was written, or of another size.
    """
    file = folder / entry["file"]
    try:
        content = file.read_bytes()
    except OSError as error:
        raise SoftMaskError(f"{file} cannot be read ({error}). {_AGAIN}") from error
    if zlib.crc32(content) != entry["crc"]:
        raise SoftMaskError(f"{file} is not the file that was written. Remove it. {_AGAIN}")
    try:
        mask = mask_of(content, dtype, channels, entry["size"])
    except Exception as error:  # Pillow, nibabel and numpy raise many kinds for broken files
        raise SoftMaskError(f"{file} cannot be read ({type(error).__name__}: {error}). {_AGAIN}") from error
    expected = [channels, *entry["size"]]
    if list(mask.shape) != expected:
        raise SoftMaskError(f"{file} has shape {list(mask.shape)}; its entry says {expected}. {_AGAIN}")
    return mask


def journals(folder: Path) -> list[Path]:
    """Return the files of entries that are not in the index yet."""
    return sorted(folder.glob("soft_masks.*.jsonl"))


def unmerged_entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of finished images that are not in the index yet; a torn last line is passed over."""
    found = {}
    for file in journals(folder):
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                key, entry = json.loads(line)
            except ValueError:
                continue
            found[key] = entry
    return found


def check_structures_of(
    folder: str | os.PathLike, found: Sequence[str], wanted: Sequence[str] | None
) -> None:
    """Refuse soft masks of other structures."""
    if wanted is not None and list(found) != list(wanted):
        raise SoftMaskError(
            f"the soft masks in {folder} are of {', '.join(found)}; wanted is {', '.join(wanted)}, in this order. Label the "
            "images with teachers of the same structures."
        )


def check_not_constant(folder: Path, ranges: Sequence[Sequence[float]]) -> None:
    """Refuse a folder in which no map tells one pixel from another; a few empty ones are images without the structure."""
    if ranges and all(low == high for low, high in ranges):
        empty = sum(high == 0 for _, high in ranges)
        raise SoftMaskError(
            f"all {len(ranges)} soft masks in {folder} are constant ({empty} of them empty): the teacher has learned nothing, "
            "or these are not its maps. Look at a few, and at the teacher's own scores."
        )


def different(name: str, stored: Any, wanted: Any) -> str:
    """Return a line for each field that differs, for messages."""
    if isinstance(stored, Mapping) and isinstance(wanted, Mapping):
        keys = [key for key in {**stored, **wanted} if stored.get(key) != wanted.get(key)]
        return "\n".join(different(f"{name}.{key}", stored.get(key), wanted.get(key)) for key in keys)
    return f"  {name}: {_short(stored)} in the folder, {_short(wanted)} here"


def refuse(what: str, problems: Sequence[str], advice: str) -> None:
    """Raise one error that lists the first problems; does nothing without any."""
    if problems:
        raise SoftMaskError(f"{what.format(count=len(problems))}:{listed(problems, SHOWN)}\n{advice}")


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _other_size(file: Path, found: Sequence[int], image: str | os.PathLike, size: Sequence[int]) -> str:
    own, wanted = (" x ".join(map(str, each)) for each in (found, size))
    words = "height x width" if len(found) == 2 else "voxels"
    return (
        f"{file} is {own} ({words}), but its image {os.fspath(image)} is {wanted}. A soft mask has the size of its image: make "
        "it anew, or bring the image back."
    )
