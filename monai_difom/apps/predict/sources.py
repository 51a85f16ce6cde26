"""Pictures for a trained student from files, folders, videos and volumes: one at a time, with limits, nothing unpickled."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...data.folder_files import files_below
from ...data.items import NIFTI_SUFFIXES
from ...transforms.picture_file import PICTURE_SUFFIXES, read_picture_file
from ...transforms.volume_file import grey_levels, hanging_of, open_volume, volume_values, window_of
from ..deployed.optional import require

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".mpg", ".mpeg", ".wmv", ".webm")
PIXEL_LIMIT = 50_000_000
# what containers say of their length is rounded by some
_LENGTH_ERROR = 2


class BadPictureError(ValueError):
    """A file, frame or slice that cannot be used; the message is for the person who gave it."""


@dataclass(frozen=True)
class Source:
    """One file.

    Args:
        path: the file.
        name: its path below the input folder, without suffix.
        kind: ``"picture"``, ``"video"`` or ``"volume"``.
    """

    path: Path
    name: str
    kind: str


@dataclass(frozen=True)
class Frame:
    """One picture of a source.

    Args:
        source: where it is from.
        index: number of the frame or slice, from 0; None for a picture.
        picture: ``(H, W, C)``, 8 bits; None where it could not be read.
        problem: why not.
    """

    source: Source
    index: int | None
    picture: np.ndarray | None
    problem: str = ""


def find_sources(given: str | os.PathLike, leave_out: Path | None = None) -> list[Source]:
    """List what can be read at a path; what is in a folder and cannot is named in a warning.

    Args:
        given: a file, or a folder that is searched to its depth, links to folders included.
        leave_out: a folder in it that is not looked into: where the results go.

    Raises:
        FileNotFoundError: there is nothing, or nothing of a known kind.
        ValueError: a single file of an unknown kind, or two files whose results would have one name.
    """
    place = Path(given)
    if place.is_file():
        kind = _kind(place)
        if kind is None:
            raise ValueError(f"{place} is of no known kind; allowed are {_allowed()}.")
        return [Source(place, _stem(place.name), kind)]
    if not place.is_dir():
        raise FileNotFoundError(f"no input at {place}: give an image, a video, a volume or a folder of them.")
    sources: dict[str, Source] = {}
    for path in files_below(place, lambda file: _kind(file) is not None, leave_out):
        name = path.relative_to(place).with_name(_stem(path.name)).as_posix()
        if name in sources:
            raise ValueError(f"{sources[name].path} and {path} would write to one mask. Rename one of them.")
        sources[name] = Source(path, name, str(_kind(path)))
    if not sources:
        raise FileNotFoundError(f"{place} holds nothing to segment; looked for {_allowed()}.")
    return list(sources.values())


def frames(
    source: Source,
    channels: int,
    pixel_limit: int = PIXEL_LIMIT,
    plane: str = "axial",
    window: Sequence[float] | None = None,
) -> Iterator[Frame]:
    """Yield the pictures of a source, one in memory at a time; those that cannot be read with the problem.

    Args:
        source: of `find_sources`.
        channels: 3 for RGB, 1 for grey.
        pixel_limit: highest height times width.
        plane: of a volume: how it is sliced, see `monai_difom.transforms.volume_file`.
        window: of a volume: values that are black and white; None takes quantiles of its values.
    """
    if source.kind == "video":
        require("cv2")  # its absence is no fault of the file
    index = None if source.kind == "picture" else 0
    try:
        for frame in _read(source, channels, pixel_limit, plane, window):
            yield frame
            index = None if frame.index is None else frame.index + 1
    except ValueError as error:  # which names the file
        yield Frame(source, index, None, str(error))
    # readers have many kinds of errors for broken files
    except Exception as error:
        yield Frame(source, index, None, f"{source.path} cannot be read ({type(error).__name__}: {error}).")


def _read(
    source: Source, channels: int, pixel_limit: int, plane: str, window: Sequence[float] | None
) -> Iterator[Frame]:
    if source.kind == "volume":
        yield from _volume(source, channels, pixel_limit, plane, window)
    elif source.kind == "video":
        yield from _video(source, channels, pixel_limit)
    else:
        yield Frame(source, None, read_picture(source.path, channels, pixel_limit))


def count_frames(source: Source, plane: str = "axial") -> int:
    """Return how many pictures a source says that it has; 0 where it does not."""
    if source.kind == "picture":
        return 1
    try:
        if source.kind == "video":
            return _declared_length(_open_video(source.path))
        volume = open_volume(source.path)
        return int((*volume.shape, 1)[hanging_of(volume, plane).sliced])
    except Exception:  # of a broken file, which is named when it is read
        return 0


def read_picture(
    path: str | os.PathLike | IO[bytes], channels: int = 3, pixel_limit: int = PIXEL_LIMIT
) -> np.ndarray:
    """Read one picture as 8 bits ``(H, W, channels)``, as training does: see `read_picture_file`.

    The size in the file's head is compared with the limit before anything is unpacked.

    Raises:
        BadPictureError: it is too large, cut off, no picture, or one that is not understood.
    """
    try:
        return read_picture_file(path, channels, pixel_limit)
    except ValueError as error:
        raise BadPictureError(
            str(error).replace(": cannot be read (", " cannot be read as an image (")
        ) from error


def _video(source: Source, channels: int, pixel_limit: int) -> Iterator[Frame]:
    cv2 = require("cv2")
    opened = _open_video(source.path)
    declared = _declared_length(opened)
    width, height = (int(opened.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > pixel_limit:
        raise BadPictureError(
            f"{source.path}: frames of {width} x {height} are above the limit of {pixel_limit:,}."
        )
    index = 0
    try:
        while True:
            good, picture = opened.read()
            if not good:
                break
            code = cv2.COLOR_BGR2RGB if channels == 3 else cv2.COLOR_BGR2GRAY
            picture = cv2.cvtColor(picture, code)
            yield Frame(source, index, picture if channels == 3 else picture[..., None])
            index += 1
    finally:
        opened.release()
    if index == 0 or index < declared - _LENGTH_ERROR:
        raise BadPictureError(f"{source.path} ends early: {index} of {declared} frames could be read.")


def _open_video(path: Path) -> Any:
    cv2 = require("cv2")
    opened = cv2.VideoCapture(str(path))
    if not opened.isOpened():
        raise BadPictureError(f"{path} cannot be opened as a video: it is cut off, or of an unknown coding.")
    return opened


def _declared_length(opened: Any) -> int:
    return max(0, int(opened.get(require("cv2").CAP_PROP_FRAME_COUNT)))


def frame_rate(path: Path) -> float:
    """Return a video's frames per second, 25 where it does not say, or cannot be opened."""
    try:
        rate = float(_open_video(path).get(require("cv2").CAP_PROP_FPS))
    except BadPictureError:
        return 25.0
    return rate if 0 < rate < 1000 else 25.0


def _volume(
    source: Source, channels: int, pixel_limit: int, plane: str, window: Sequence[float] | None
) -> Iterator[Frame]:
    """Yield the slices of a volume as training has them."""
    volume = open_volume(source.path)
    hanging = hanging_of(volume, plane)
    sides = [n for axis, n in enumerate((*volume.shape, 1)[:3]) if axis != hanging.sliced]
    if sides[0] * sides[1] > pixel_limit:
        raise BadPictureError(f"{source.path}: slices of {sides} are above the limit of {pixel_limit:,}.")
    if not all(volume.shape):
        raise BadPictureError(f"{source.path} is empty: its size is {volume.shape}.")
    slices = hanging.slices(volume_values(volume, source.path))
    levels = window_of(slices, window)
    for index, values in enumerate(slices):
        yield Frame(source, index, np.repeat(grey_levels(values, levels)[..., None], channels, 2))


def _kind(path: Path) -> str | None:
    name = path.name.lower()
    for kind, suffixes in (("picture", PICTURE_SUFFIXES), ("video", VIDEOS), ("volume", NIFTI_SUFFIXES)):
        if name.endswith(suffixes):
            return kind
    return None


def _stem(name: str) -> str:
    return name[:-7] if name.lower().endswith(".nii.gz") else Path(name).stem


def _allowed() -> str:
    return ", ".join((*PICTURE_SUFFIXES, *VIDEOS, *NIFTI_SUFFIXES))
