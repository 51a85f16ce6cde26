"""Pictures, masks and volumes as programs really write them, and damaged ones: tiny, and of known content."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

HEIGHT, WIDTH = 10, 14  # not square, so that a turned picture shows


def shape() -> np.ndarray:
    """A mask that no turn or mirror leaves as it is."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[2:5, 3:9] = mask[5:8, 3] = True
    return mask


def picture() -> np.ndarray:
    """A colour picture of the shape, brighter to the right."""
    levels = np.repeat(np.linspace(40, 120, WIDTH)[None, :, None], HEIGHT, 0).repeat(3, 2)
    levels[shape()] = (230, 90, 60)
    return levels.round().astype(np.uint8)


def save(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    """Write an array by Pillow; booleans become 0 and 1."""
    image = Image.fromarray(array.astype(np.uint8) if array.dtype == bool else array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def save_palette(path: Path, places: np.ndarray, colours: list[int], **options: object) -> Path:
    image = Image.fromarray(places.astype(np.uint8)).convert("L")
    out = Image.new("P", image.size)
    out.putdata(image.tobytes())
    out.putpalette(colours)
    out.save(path, **options)
    return path


def exif(orientation: int) -> bytes:
    found = Image.Exif()
    found[0x0112] = orientation
    return found.tobytes()


def stored_for(array: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels that a camera stores so that a viewer, who turns them by EXIF, shows the array."""
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(turns[orientation](array))


def exif_at_the_end(array: np.ndarray, orientation: int) -> bytes:
    """A PNG whose EXIF stands behind its pixels, as exiftool writes it."""
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format="PNG")
    content = exif(orientation).removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(content)) + b"eXIf" + content
    chunk += struct.pack(">I", zlib.crc32(b"eXIf" + content))
    whole = stream.getvalue()
    return whole[:-12] + chunk + whole[-12:]


def png(depth: int, kind: int, rows: np.ndarray, width: int, height: int) -> bytes:
    """A PNG of raw rows (bytes, one row per line), for depths that Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def deep_colour(levels: np.ndarray) -> bytes:
    """A PNG of 16-bit colours."""
    return png(16, 2, levels.astype(">u2"), levels.shape[1], levels.shape[0])


def few_bits(values: np.ndarray, depth: int) -> bytes:
    """A grey PNG of 2 or 4 bits."""
    bits = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
    rows = np.packbits(bits.reshape(len(values), -1), axis=1)
    return png(depth, 0, rows, values.shape[1], values.shape[0])


def pages(path: Path, *arrays: np.ndarray, **options: object) -> Path:
    first, *others = [Image.fromarray(array) for array in arrays]
    first.save(path, save_all=True, append_images=others, **options)
    return path


def volume(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


def jpeg(array: np.ndarray, quality: int = 90) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format="JPEG", quality=quality)
    return stream.getvalue()
