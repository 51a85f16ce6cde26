"""Soft masks of single structures in folders of their own, read as one: every specialist labels the images of its own task."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from ...utils import unknown_name
from .map_folder import MapFolder, open_folder
from .store import SoftMaskError, SoftMasks, check_structures_of, refuse

logger = logging.getLogger(__name__)


class SoftMasksByStructure:
    """Reads the folders of several structures, with the methods of `SoftMasks`; an image needs to be in one of them.

    What a folder does not say of an image stays unsaid: its channel teaches nothing there, as a structure that nobody drew.

    Args:
        folders: structure -> the folder of its soft masks: of ``autolabel``, or maps of any program.
        structures: names of the student's channels, in order; those without a folder have soft masks of no image.

    Raises:
        SoftMaskError: no folder, or a name that is no structure.

    Example::

        masks = SoftMasksByStructure({"polyp": "runs/polyp_soft", "vessel": "runs/vessel_soft"}, ["polyp", "vessel"])
        masks.said("retina/1.png")  # [False, True]
    """

    def __init__(self, folders: Mapping[str, str | os.PathLike], structures: Sequence[str]) -> None:
        self.structures = list(structures)
        for name in folders:
            if name not in self.structures:
                raise SoftMaskError(f"soft_masks: {unknown_name('structure', name, self.structures)}")
        if not folders:
            raise SoftMaskError(
                "soft_masks names no folder. Give {structure: folder, ...}, or one folder for all."
            )
        self.parts: dict[str, SoftMasks | MapFolder] = {
            name: open_folder(folder, [name]) for name, folder in folders.items()
        }
        self.folder = ", ".join(str(Path(folder)) for folder in folders.values())

    @property
    def teachers(self) -> dict[str, str]:
        """Structure and name of each teacher -> its signature."""
        return {
            f"{name}: {teacher}": signature
            for name, part in self.parts.items()
            for teacher, signature in part.teachers.items()
        }

    def has(self, image: str | os.PathLike) -> bool:
        """Return whether there is a soft mask of any structure of an image."""
        return any(part.has(image) for part in self.parts.values())

    def said(self, image: str | os.PathLike) -> list[bool]:
        """Return of which structures there is a soft mask of an image."""
        return [name in self.parts and self.parts[name].has(image) for name in self.structures]

    def read(self, image: str | os.PathLike, size: Sequence[int] | None = None) -> torch.Tensor:
        """Return the soft masks of an image, ``(K, H, W)`` float32 in [0, 1]; a channel that is not `said` is 0.

        Raises:
            SoftMaskError: there is none of any structure, or one is damaged or of another size.
        """
        found = {
            n: self.parts[self.structures[n]].read(image, size)
            for n, said in enumerate(self.said(image))
            if said
        }
        if not found:
            raise SoftMaskError(
                f"{self.folder}: there is no soft mask of {os.fspath(image)} of any structure."
            )
        first = next(iter(found.values()))
        mask = first.new_zeros(len(self.structures), *first.shape[1:])
        for n, channel in found.items():
            mask[n] = channel[0]
        return mask

    def certainty(self, image: str | os.PathLike) -> float:
        """Return the mean certainty of an image's soft masks, see `certainty`."""
        parts = [part for part in self.parts.values() if part.has(image)]
        return sum(part.certainty(image) for part in parts) / max(1, len(parts))

    def check(
        self,
        images: Iterable[str | os.PathLike],
        structures: Sequence[str] | None = None,
        teachers: Mapping[str, str] | None = None,
        progress: bool = False,
    ) -> None:
        """Refuse images that are in no folder, and in each folder what `SoftMasks.check` refuses; say how many are in each.

        Args:
            images: paths of the images that will be read.
            structures: names that the channels must have, in this order.
            teachers: must be None: each folder has its own.
            progress: show a progress bar.

        Raises:
            SoftMaskError: images without any soft mask, a folder of another structure, or one of constant masks.
        """
        if teachers is not None:
            raise SoftMaskError(
                "soft masks by structure have teachers of their own each: check the folders one by one."
            )
        check_structures_of(self.folder, self.structures, structures)
        paths = [os.fspath(image) for image in images]
        problems = [f"{path} has no soft mask of any structure" for path in paths if not self.has(path)]
        refuse(
            f"the soft masks in {self.folder} do not fit {{count}} of {len(paths)} images",
            problems,
            "Label these images with the teacher of their structure, or leave them out.",
        )
        counts = []
        for name, part in self.parts.items():
            if len(part.structures) != 1:
                raise SoftMaskError(
                    f"the soft masks in {part.folder}, given for {name}, are of {len(part.structures)} structures "
                    f"({', '.join(part.structures)}). Give one folder for all structures, or folders of one each."
                )
            own = [path for path in paths if part.has(path)]
            part.check(own, progress=progress)
            counts.append(f"{name} {len(own)}")
        logger.info("Soft masks by structure, images: %s.", ", ".join(counts))


def open_soft_masks(
    folder: str | os.PathLike | Mapping[str, str | os.PathLike], structures: Sequence[str] | None = None
) -> SoftMasks | MapFolder | SoftMasksByStructure:
    """Return the reader of soft masks.

    Args:
        folder: a folder that ``autolabel`` wrote or will write, or of maps of any program; or structure -> such a folder.
        structures: names of the structures in a folder of another program, or of the student's channels.

    Raises:
        SoftMaskError: folders by structure for something that has no structures, or for others than it has.
    """
    if isinstance(folder, Mapping):
        if not structures:
            raise SoftMaskError(
                "soft masks by structure need a student of several structures: give the folder alone."
            )
        return SoftMasksByStructure(folder, structures)
    return open_folder(folder, structures)
