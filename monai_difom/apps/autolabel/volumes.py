"""Soft masks of NIfTI volumes: the mean over teachers and flips, on the grid of each file; one volume at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from ...data import SoftMaskWriter
from ...data.soft_masks import certainty, disagreement
from ...transforms.volume_file import grey_levels, hanging_of, open_volume, volume_values, window_of
from ..predict.sources import BadPictureError
from .images import ToLabel
from .ranking import look_of
from .teachers import MaskTeacher, heard

logger = logging.getLogger(__name__)
_COMPARED = 64  # voxels of the longest side on which teachers are compared: whole maps of all views would fill the memory


def label_volumes(
    teachers: Sequence[MaskTeacher],
    writer: SoftMaskWriter,
    volumes: Sequence[ToLabel],
    views: Sequence[int],
    skip_bad: bool = False,
    progress: bool = True,
) -> tuple[int, list[str]]:
    """Write the soft mask of each volume.

    Args:
        teachers: networks of volumes.
        writer: where to.
        volumes: key, name and path of each.
        views: dihedral views (flips) that every teacher sees.
        skip_bad: report volumes that cannot be read and go on.
        progress: show a progress bar.

    Returns:
        Number of volumes written, and what was wrong with the others.

    Raises:
        BadPictureError: a volume cannot be read.
    """
    written, skipped = 0, []
    for volume in tqdm(volumes, "Labelling", unit="volume", disable=not progress):
        try:
            look, affine = _opened(volume.path)
        except ValueError as error:
            if not skip_bad:
                raise BadPictureError(f"{error} Leave it out with --skip-bad.") from error
            skipped.append(str(error))
            logger.warning("Skipped: %s", error)
            continue
        names = heard(teachers, volume.key)
        heard_of = [teacher for teacher in teachers if teacher.name in names]
        total, members = _said(heard_of, volume.path, views)
        writer.write(
            volume.key,
            volume.name,
            total,
            certainty(total),
            disagreement(members),
            names,
            any(volume.key in teacher.trained_on for teacher in heard_of),
            look,
            affine,
        )
        written += 1
    return written, skipped


def axial_slice(path: str, number: int | None = None) -> np.ndarray:
    """Return an axial slice of a volume as a radiologist hangs it, ``(H, W, 1)``, 8 bits; the middle one by default."""
    volume = open_volume(path)
    slices = hanging_of(volume).slices(volume_values(volume, path))
    chosen = slices[len(slices) // 2 if number is None else number]
    return grey_levels(chosen, window_of(slices))[..., None]


def _opened(path: str) -> tuple[str, np.ndarray]:
    """A thumbnail of a volume, and its affine."""
    volume = open_volume(path)
    if len(volume.shape) != 3:
        raise BadPictureError(f"{path} has {len(volume.shape)} axes; a volume to label has three.")
    return look_of(axial_slice(path)), volume.affine


def _said(
    teachers: Sequence[MaskTeacher], path: str, views: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean probability ``(K, X, Y, Z)``, and small maps of the teachers, of a single one of its views, for comparison."""
    total = torch.zeros(())
    members = []
    for teacher in teachers:
        assert teacher.volumes is not None
        assert teacher.predict is not None
        found = teacher.volumes.probabilities(teacher.predict, path, views)
        total = total + found.mean(0)
        members.append(_small(found if len(teachers) == 1 else found.mean(0, keepdim=True)))
    return (total / len(teachers)).clamp(0, 1), torch.cat(members)


def _small(maps: torch.Tensor) -> torch.Tensor:
    """Maps ``(M, K, X, Y, Z)`` with at most `_COMPARED` voxels along a side."""
    return F.interpolate(maps, [min(side, _COMPARED) for side in maps.shape[2:]], mode="area")
