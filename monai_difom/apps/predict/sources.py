"""Pictures for a trained student from files, folders, videos and volumes: one at a time, with limits, nothing unpickled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from ...transforms.image import to_gray, to_rgb
from ..deployed.optional import require

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".mpg", ".mpeg", ".wmv", ".webm")
VOLUMES = (".nii", ".nii.gz")
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
    """List what can be read at a path.

    Args:
        given: a file, or a folder that is searched to its depth.
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
    hidden = leave_out.resolve() if leave_out is not None else None
    sources: dict[str, Source] = {}
    for path in sorted(place.rglob("*")):
        kind = _kind(path) if path.is_file() else None
        if (
            kind is None
            or path.name.startswith(".")
            or (hidden is not None and hidden in path.resolve().parents)
        ):
            continue
        name = path.relative_to(place).with_name(_stem(path.name)).as_posix()
        if name in sources:
            raise ValueError(f"{sources[name].path} and {path} would write to one mask. Rename one of them.")
        sources[name] = Source(path, name, kind)
    if not sources:
        raise FileNotFoundError(f"{place} holds nothing to segment; looked for {_allowed()}.")
    return list(sources.values())


def frames(source: Source, channels: int, pixel_limit: int = PIXEL_LIMIT) -> Iterator[Frame]:
    """Yield the pictures of a source, one in memory at a time; those that cannot be read with the problem.

    Args:
        source: of `find_sources`.
        channels: 3 for RGB, 1 for grey.
        pixel_limit: highest height times width.
    """
    reader = {"video": _video, "volume": _volume}.get(source.kind)
    if reader is not None:
        yield from reader(source, channels, pixel_limit)
        return
    try:
        yield Frame(source, None, read_picture(source.path, channels, pixel_limit))
    except BadPictureError as error:
        yield Frame(source, None, None, str(error))


def count_frames(source: Source) -> int:
    """Return how many pictures a source says that it has; 0 where it does not."""
    if source.kind == "picture":
        return 1
    if source.kind == "volume":
        try:
            return int((*_open_volume(source.path).shape, 1)[2])
        except BadPictureError:
            return 0
    return _declared_length(_open_video(source.path))


def read_picture(
    path: str | os.PathLike | IO[bytes], channels: int = 3, pixel_limit: int = PIXEL_LIMIT
) -> np.ndarray:
    """Read one picture as 8 bits ``(H, W, channels)``.

    The size in the file's head is compared with the limit before anything is unpacked.

    Raises:
        BadPictureError: it is too large, cut off, or no picture.
    """
    limit = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit, which warns; ours refuses
        with Image.open(path) as image:
            width, height = image.size
            if width * height > pixel_limit:
                raise BadPictureError(
                    f"{path} is {width} x {height} pixels, above the limit of {pixel_limit:,}. A small file of so many pixels "
                    "may be made to fill the memory; raise the limit with --pixel-limit if it is what it should be."
                )
            array = np.asarray(to_rgb(image) if channels == 3 else to_gray(image))
    except BadPictureError:
        raise
    except Exception as error:  # Pillow has many kinds for broken files
        raise BadPictureError(
            f"{path} cannot be read as an image ({type(error).__name__}: {error})."
        ) from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    return array if array.ndim == 3 else array[..., None]


def _video(source: Source, channels: int, pixel_limit: int) -> Iterator[Frame]:
    cv2 = require("cv2")
    try:
        opened = _open_video(source.path)
    except BadPictureError as error:
        yield Frame(source, 0, None, str(error))
        return
    declared = _declared_length(opened)
    width, height = (int(opened.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > pixel_limit:
        yield Frame(
            source,
            0,
            None,
            f"{source.path}: frames of {width} x {height} are above the limit of {pixel_limit:,}.",
        )
        return
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
        yield Frame(
            source, index, None, f"{source.path} ends early: {index} of {declared} frames could be read."
        )


def _open_video(path: Path) -> Any:
    cv2 = require("cv2")
    opened = cv2.VideoCapture(str(path))
    if not opened.isOpened():
        raise BadPictureError(f"{path} cannot be opened as a video: it is cut off, or of an unknown coding.")
    return opened


def _declared_length(opened: Any) -> int:
    return max(0, int(opened.get(require("cv2").CAP_PROP_FRAME_COUNT)))


def frame_rate(path: Path) -> float:
    """Return a video's frames a second, 25 where it does not say."""
    rate = float(_open_video(path).get(require("cv2").CAP_PROP_FPS))
    return rate if 0 < rate < 1000 else 25.0


def _open_volume(path: Path) -> Any:
    import nibabel

    try:
        opened: Any = nibabel.load(str(path))  # type: ignore[attr-defined]
    except Exception as error:  # nibabel and gzip have many kinds
        raise BadPictureError(f"{path} cannot be read as NIfTI ({type(error).__name__}: {error}).") from error
    if len(opened.shape) not in (2, 3):
        raise BadPictureError(
            f"{path} has the shape {opened.shape}; allowed are (column, row) and (column, row, slice)."
        )
    return opened


def _volume(source: Source, channels: int, pixel_limit: int) -> Iterator[Frame]:
    """Yield slices along the last axis, upright; grey levels from the 0.5th to the 99.5th percentile of the volume."""
    try:
        opened = _open_volume(source.path)
        if opened.shape[0] * opened.shape[1] > pixel_limit:
            raise BadPictureError(
                f"{source.path}: slices of {opened.shape[:2]} are above the limit of {pixel_limit:,}."
            )
        array = np.asanyarray(opened.dataobj)
    except BadPictureError as error:
        yield Frame(source, 0, None, str(error))
        return
    except Exception as error:
        yield Frame(
            source, 0, None, f"{source.path} cannot be read as NIfTI ({type(error).__name__}: {error})."
        )
        return
    array = array if array.ndim == 3 else array[..., None]
    low, high = np.nanpercentile(array[..., :: max(1, array.shape[2] // 32)], (0.5, 99.5))
    for index in range(array.shape[2]):
        levels = np.nan_to_num((array[..., index].T.astype(np.float32) - low) / max(high - low, 1e-6))
        picture = (np.clip(levels, 0, 1) * 255).round().astype(np.uint8)[..., None]
        yield Frame(source, index, np.repeat(picture, channels, 2))


def _kind(path: Path) -> str | None:
    name = path.name.lower()
    for kind, suffixes in (("picture", PICTURES), ("video", VIDEOS), ("volume", VOLUMES)):
        if name.endswith(suffixes):
            return kind
    return None


def _stem(name: str) -> str:
    return name[:-7] if name.lower().endswith(".nii.gz") else Path(name).stem


def _allowed() -> str:
    return ", ".join((*PICTURES, *VIDEOS, *VOLUMES))
