"""A folder of probability maps of any program, read as soft masks: matched with the images by their stems."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ...transforms.picture_file import PICTURE_SUFFIXES, is_picture, picture_facts
from ..maps import read_map
from .certainty import certainty
from .store import INDEX, SoftMaskError, SoftMasks, check_not_constant, check_structures_of, refuse

_ADVICE = "Give one map per image, with the image's stem and size: 8 or 16 bits, or float TIFF in [0, 1]."


class MapFolder:
    """Reads maps that another program wrote, with the methods of `SoftMasks`.

    Args:
        folder: maps ``<stem>.png`` (or TIFF, BMP, JPEG); of several structures a subfolder each, ``<structure>/<stem>.png``.
        structures: names of the structures; None or one name for maps that lie in the folder itself.

    Raises:
        SoftMaskError: there is no such folder, no maps in it, or two maps of one stem.
    """

    def __init__(self, folder: str | os.PathLike, structures: Sequence[str] | None = None) -> None:
        self.folder = Path(folder).expanduser()
        self.structures = list(structures) if structures else ["foreground"]

    @property
    def teachers(self) -> dict[str, str]:
        """Name of the folder -> ``unsigned``: nothing says which teachers made the maps."""
        return {self.folder.name: "unsigned"}

    @cached_property
    def files(self) -> list[dict[str, Path]]:
        """For each structure: stem -> file."""
        if not self.folder.is_dir():
            raise SoftMaskError(f"there is no folder of maps at {self.folder}.")
        own = self.folder / self.structures[0]
        if len(self.structures) == 1 and not own.is_dir():
            return [_maps_in(self.folder)]
        return [_maps_in(self.folder / name) for name in self.structures]

    def has(self, image: str | os.PathLike) -> bool:
        """Return whether there are maps of an image's stem."""
        return all(Path(image).stem in files for files in self.files)

    def said(self, image: str | os.PathLike) -> list[bool]:
        """Return of which structures there is a map of an image: of all or none."""
        return [self.has(image)] * len(self.structures)

    def read(self, image: str | os.PathLike, size: Sequence[int] | None = None) -> torch.Tensor:
        """Return the maps of an image, ``(K, H, W)`` float32 in [0, 1].

        Args:
            image: path of the image; its stem finds the map.
            size: ``(height, width)`` of the image as it was loaded; None reads it from the file.

        Raises:
            SoftMaskError: there is no map, it cannot be read or means something else, or it has another size.
        """
        stem = Path(image).stem
        wanted = tuple(picture_facts(image).size if size is None else size)
        channels = []
        for files in self.files:
            if stem not in files:
                raise SoftMaskError(
                    f"{self.folder} has no map of {os.fspath(image)} (no {stem}.png). {_ADVICE}"
                )
            try:
                levels, _ = read_map(files[stem])
            except ValueError as error:
                raise SoftMaskError(str(error)) from error
            if levels.shape != wanted:
                raise SoftMaskError(
                    f"{files[stem]} is {levels.shape[0]} x {levels.shape[1]} (height x width), but its image "
                    f"{os.fspath(image)} is {wanted[0]} x {wanted[1]}. {_ADVICE}"
                )
            top = 1 if levels.dtype.kind in "bf" else np.iinfo(levels.dtype).max
            channels.append(torch.from_numpy(levels.astype(np.float32) / np.float32(top)))
        return torch.stack(channels)

    def certainty(self, image: str | os.PathLike) -> float:
        """Return the certainty of an image's maps, see `certainty`."""
        return certainty(self.read(image))

    def check(
        self,
        images: Iterable[str | os.PathLike],
        structures: Sequence[str] | None = None,
        teachers: Mapping[str, str] | None = None,
        progress: bool = False,
    ) -> None:
        """Refuse maps that do not fit these images: opens every one of them.

        Args:
            images: paths of the images that will be read; no two of one stem.
            structures: names that the structures must have.
            teachers: must be None: maps of another program carry no signature.
            progress: show a progress bar.

        Raises:
            SoftMaskError: maps that are missing or of another size, or a folder of constant ones.
        """
        if teachers is not None:
            raise SoftMaskError(f"{self.folder} has no {INDEX}: nothing says which teachers made its maps.")
        check_structures_of(self.folder, self.structures, structures)
        paths = [os.fspath(image) for image in images]
        problems: list[str] = []
        ranges: list[tuple[float, float]] = []
        stems: dict[str, str] = {}
        for path in tqdm(paths, "Checking maps", disable=not progress):
            if stems.setdefault(Path(path).stem, path) != path:
                problems.append(f"{path} and {stems[Path(path).stem]} have one stem, so one map")
                continue
            try:
                low, high = torch.aminmax(self.read(path))
                ranges.append((float(low), float(high)))
            except SoftMaskError as error:
                problems.append(str(error).removesuffix(_ADVICE).strip())
        refuse(f"the maps in {self.folder} do not fit {{count}} of {len(paths)} images", problems, _ADVICE)
        check_not_constant(self.folder, ranges)


def open_folder(folder: str | os.PathLike, structures: Sequence[str] | None = None) -> SoftMasks | MapFolder:
    """Return the reader of a folder: of ``autolabel`` where it has an index or is still to be filled, of any program else.

    Args:
        folder: the folder.
        structures: names of the structures in a folder of another program.
    """
    root = Path(folder).expanduser()
    foreign = root.is_dir() and not (root / INDEX).is_file() and any(root.iterdir())
    return MapFolder(root, structures) if foreign else SoftMasks(root)


def _maps_in(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise SoftMaskError(f"there is no folder of maps at {folder}.")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if is_picture(file) and not file.name.startswith("."):
            if file.stem in found:
                raise SoftMaskError(f"{found[file.stem]} and {file} are maps of one stem: keep one.")
            found[file.stem] = file
    if not found:
        raise SoftMaskError(f"{folder} holds no maps. Allowed types: {', '.join(PICTURE_SUFFIXES)}.")
    return found
