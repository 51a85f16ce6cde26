"""One NIfTI file: its values, and its slices as a radiologist hangs them, and back: one code for training and for prediction.

The volume is turned to the nearest anatomical axes, whatever its storage order. Axial and coronal slices have the patient's right
on the left; anterior, or superior, is up.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..utils import look_up

#: plane -> axes of the turned array (where its indices run to) and the order that makes them (slice, row, column)
PLANES: dict[str, tuple[str, tuple[int, int, int]]] = {
    "axial": ("LPS", (2, 1, 0)),
    "coronal": ("LAI", (1, 2, 0)),
    "sagittal": ("RPI", (0, 2, 1)),
}
#: shares of a volume's values that are black and white where no window is given
QUANTILES = (0.005, 0.995)
_WHOLE = 1e-3  # a header's scale may leave whole numbers by a rounding error


@dataclass(frozen=True)
class Hanging:
    """How the stored array of a volume becomes slices.

    Args:
        axes: orientation of the stored array, as nibabel's ``io_orientation`` gives it.
        plane: ``"axial"``, ``"coronal"`` or ``"sagittal"``.
    """

    axes: np.ndarray
    plane: str = "axial"

    def slices(self, stored: np.ndarray) -> np.ndarray:
        """Return the slices ``(slices, rows, columns)`` of a stored array, from inferior, posterior or left on."""
        from nibabel.orientations import apply_orientation

        turned = apply_orientation(stored, self._turn())
        return turned.transpose(look_up("plane", self.plane, PLANES)[1])

    def stored(self, slices: np.ndarray) -> np.ndarray:
        """Return the stored array of slices: the inverse of `slices`."""
        from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

        codes, order = look_up("plane", self.plane, PLANES)
        back = ornt_transform(axcodes2ornt(codes), self.axes)
        return apply_orientation(slices.transpose(np.argsort(order)), back)

    @property
    def sliced(self) -> int:
        """The axis of the stored array that slices are taken along."""
        return int(np.flatnonzero(self._turn()[:, 0] == look_up("plane", self.plane, PLANES)[1][0])[0])

    def pixel(self, steps: Sequence[float]) -> tuple[float, float]:
        """Return height and width of a pixel (millimetres) from the size of a voxel along the stored axes."""
        order = look_up("plane", self.plane, PLANES)[1]
        turned = [0.0] * 3
        for axis, step in zip(self._turn()[:, 0], (*steps, 1.0, 1.0), strict=False):
            turned[int(axis)] = float(step)
        return turned[order[1]], turned[order[2]]

    def _turn(self) -> np.ndarray:
        from nibabel.orientations import axcodes2ornt, ornt_transform

        return ornt_transform(self.axes, axcodes2ornt(look_up("plane", self.plane, PLANES)[0]))


def window_of(values: np.ndarray, window: Sequence[float] | None = None) -> tuple[float, float]:
    """Return the values of a volume that are black and white: the window that is given, or the `QUANTILES` of all its values."""
    low, high = np.quantile(_precise(values), QUANTILES) if window is None else window
    return float(low), float(high)


def grey_levels(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Return values as 8-bit grey levels, any shape, between those that are black and white."""
    low, high = window
    return (np.clip((_precise(values) - low) / max(high - low, 1e-6), 0, 1) * 255).round().astype(np.uint8)


def _precise(values: np.ndarray) -> np.ndarray:
    """Floats of fewer than 64 bits are widened: a level must not depend on how a file stores its numbers."""
    return values if values.dtype.kind in "iu" else values.astype(np.float64)


def open_volume(path: str | os.PathLike) -> Any:
    """Open a NIfTI file of real numbers; its values are read by `volume_values`.

    Raises:
        ValueError: it cannot be read, has other than three axes (two count as one slice), or an empty one, holds colours or
            complex numbers, or an affine that says nothing of its axes; names the file.
    """
    volume, kind = _loaded(path)
    shape = tuple(volume.shape)
    if len(shape) not in (2, 3) and set(shape[3:]) != {1}:
        raise ValueError(
            f"{path} has {len(shape)} axes {shape}; a volume has three. Split a series of volumes into one file each."
        )
    if 0 in shape:
        raise ValueError(f"{path} has the shape {shape}: there is nothing in it.")
    if kind.kind not in "iuf":
        said = "complex numbers" if kind.kind == "c" else f"colours or records ({kind})"
        raise ValueError(f"{path} holds {said}; allowed are real numbers. Save one grey level per voxel.")
    return volume


def _loaded(path: str | os.PathLike) -> tuple[Any, np.dtype]:
    import nibabel

    try:
        volume: Any = nibabel.load(os.fspath(path))  # type: ignore[attr-defined]
        kind, axes = np.dtype(volume.get_data_dtype()), nibabel.orientations.io_orientation(volume.affine)
    except Exception as error:  # nibabel, gzip and numpy have many kinds for broken files
        raise ValueError(f"{path}: cannot be read as NIfTI ({type(error).__name__}: {error}).") from error
    if not np.isfinite(volume.affine).all() or not np.isfinite(axes).all():
        raise ValueError(
            f"{path}: its affine does not say where its axes run. Correct the header (sform, qform)."
        )
    return volume, kind


def volume_values(volume: Any, path: str | os.PathLike) -> np.ndarray:
    """Return the values of an opened volume along three axes, scaled as its header says.

    Raises:
        ValueError: they cannot be read, or are not all finite; names the file.
    """
    return _values(volume, path).reshape((*volume.shape, 1)[:3])


def _values(volume: Any, path: str | os.PathLike) -> np.ndarray:
    try:
        values = np.asarray(volume.dataobj)
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as NIfTI ({type(error).__name__}: {error}).") from error
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"{path} holds NaN or infinity.")
    return values


def read_volume_labels(path: str | os.PathLike) -> np.ndarray:
    """Return the labels of a NIfTI file, int32, in the shape of the file.

    Raises:
        ValueError: it cannot be read, or holds values below 0 or between whole numbers (a mask that was resampled like an
            image, or probabilities); names the file.
    """
    volume, kind = _loaded(path)
    if kind.kind not in "iufb":
        raise ValueError(f"{path} holds {kind}; a label holds whole numbers.")
    values = _values(volume, path)
    whole = np.round(values)
    if values.size and (np.abs(values - whole).max() > _WHOLE or whole.min() < 0):
        between = values[np.abs(values - whole) > _WHOLE]
        said = f"{between[0]:g}, between whole numbers" if between.size else f"{whole.min():g}, below 0"
        raise ValueError(
            f"{path} holds {said}; a label holds whole numbers from 0. Resample masks with the nearest neighbour, and put a "
            "threshold on probabilities before."
        )
    return whole.astype(np.int32)


def hanging_of(volume: Any, plane: str = "axial") -> Hanging:
    """Return how an opened volume is hung.

    Raises:
        ValueError: no such plane.
    """
    from nibabel.orientations import io_orientation

    look_up("plane", plane, PLANES)
    return Hanging(io_orientation(volume.affine), plane)
