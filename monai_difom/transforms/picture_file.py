"""One picture file as every viewer shows it: upright, one page, all of its bits known; or refused.

Everything that reads a picture goes through `open_picture`: training, checks, scores, prediction, the page in the browser and
exports. What a file holds beside its pixels (orientation, pages, transparency, depth) is understood here or refused here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps

#: endings of files that are taken for pictures, wherever a folder is looked through
PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif"),
    *(".tif", ".tiff", ".bmp", ".webp", ".gif"),
)
# what is in a file counts, not its name; Pillow's other readers run programs or are for what no camera writes
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")
_ORIENTATION, _SUBFILE, _PHOTOMETRIC, _SAMPLE_FORMAT, _BITS = 0x0112, 254, 262, 339, 258
# a 16-bit picture whose levels end below this uses 14 bits or fewer: scaled by its type it would be dark or black
_DARK = 1 << 14

Source = str | os.PathLike | IO[bytes]


@dataclass(frozen=True)
class PictureFacts:
    """What a picture file holds beside its pixels.

    Args:
        format: Pillow's name of the format.
        mode: Pillow's name of the pixels, as stored.
        bits: bits of a channel: 1, 2, 4, 8, 16 or 32.
        size: height and width, upright.
        orientation: of EXIF, 1 to 8; 1 is upright as stored.
        pages: pictures in the file; more than one only where the others are previews.
        transparent: some pixels are more transparent than others.
    """

    format: str
    mode: str
    bits: int
    size: tuple[int, int]
    orientation: int = 1
    pages: int = 1
    transparent: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture that was opened.

    Args:
        image: its pixels, upright, unconverted and in memory.
        facts: what the file holds beside them.
        name: the file, for messages.
    """

    image: Image.Image
    facts: PictureFacts
    name: str


def open_picture(source: Source, pixel_limit: int | None = None) -> Picture:
    """Open a picture file completely and turn it upright.

    Args:
        source: the file.
        pixel_limit: highest height times width, compared before anything is unpacked; None takes Pillow's own limit.

    Returns:
        The picture with its stored pixels: no level is scaled, no palette looked up.

    Raises:
        ValueError: it cannot be read, is too large, holds several pages, or grey levels that run backwards in 16 bits;
            names the file and what to do.
    """
    name = _name_of(source)
    try:
        return _opened(source, name, pixel_limit)
    except ValueError:
        raise
    # Pillow raises SyntaxError, EOFError, struct.error and others for broken files, and its own type for bombs
    except Exception as error:
        raise ValueError(f"{name}: cannot be read ({type(error).__name__}: {error}).") from error


def picture_facts(source: Source) -> PictureFacts:
    """Return what a file's head says of it, without unpacking its pixels; transparency is not looked at.

    Raises:
        ValueError: as in `open_picture`, for what the head shows.
    """
    name = _name_of(source)
    try:
        with Image.open(source, formats=_FORMATS) as image:
            return _facts_of(image, name)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{name}: cannot be read ({type(error).__name__}: {error}).") from error


def _name_of(source: Source) -> str:
    """What a source is called in messages; a volume is told apart, which the overlays of volumes read."""
    name = str(os.fspath(source)) if isinstance(source, str | os.PathLike) else "the picture"
    if name.lower().endswith((".nii", ".nii.gz")):
        raise ValueError(
            f"{name}: cannot be read as a picture: it is a NIfTI volume. Volumes are trained with configs/data/nifti_slices.yaml "
            "(slice by slice) or nifti_volumes.yaml (in 3D)."
        )
    return name


def _opened(source: Source, name: str, pixel_limit: int | None) -> Picture:
    limit = Image.MAX_IMAGE_PIXELS
    try:
        if pixel_limit is not None:
            Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit warns before it refuses; this one refuses
        with Image.open(source, formats=_FORMATS) as image:
            if pixel_limit is not None and image.width * image.height > pixel_limit:
                raise ValueError(
                    f"{name} is {image.width} x {image.height} pixels, above the limit of {pixel_limit:,}. A small file of so "
                    "many pixels may be made to fill the memory; raise the limit with --pixel-limit if it is what it should be."
                )
            facts = _facts_of(image, name)
            image.load()
            upright = image if facts.format == "TIFF" else _turned(image, facts.orientation)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    alpha = alpha_of(upright)
    transparent = alpha is not None and int(alpha.min()) != int(alpha.max())
    return Picture(upright, PictureFacts(**{**vars(facts), "transparent": transparent}), name)


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    """Pillow turns a TIFF while it loads it, and no other format."""
    return image if orientation == 1 else ImageOps.exif_transpose(image)


def _facts_of(image: Image.Image, name: str) -> PictureFacts:
    bits = _bits_of(image)
    orientation = _orientation_of(image)
    tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF" and bits == 16 and tags.get(_PHOTOMETRIC) == 0:
        raise ValueError(
            f"{name}: 16-bit grey levels that run from white to black (TIFF MinIsWhite), which are read in different ways by "
            "different programs. Save it with black as 0."
        )
    height, width = image.height, image.width
    if image.format != "TIFF" and orientation >= 5:
        height, width = width, height
    return PictureFacts(
        str(image.format), image.mode, bits, (height, width), orientation, _pages_of(image, name)
    )


def _orientation_of(image: Image.Image) -> int:
    # Pillow's reader of PNG unpacks all pixels before it looks for EXIF, which may stand behind them
    early = image.format == "PNG" and ("exif" in image.info or not _exif_behind_pixels(image))
    found = Image.Image.getexif(image) if early else image.getexif()
    orientation = int(found.get(_ORIENTATION, 1) or 1)
    return orientation if 1 <= orientation <= 8 else 1


def _exif_behind_pixels(image: Any) -> bool:
    """Whether a PNG has an EXIF chunk that is not read yet; looks at the heads of its chunks alone."""
    stream = image.fp
    place = stream.tell()
    try:
        stream.seek(8)
        while len(head := stream.read(8)) == 8:
            if head[4:] == b"eXIf":
                return True
            stream.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
        return False
    finally:
        stream.seek(place)


def _bits_of(image: Image.Image) -> int:
    """Bits of a channel as they are stored, which Pillow's mode hides for fewer and more than 8."""
    tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF" and _BITS in tags:
        stored = tags[_BITS]
        return int(stored[0] if isinstance(stored, tuple) else stored)
    if image.mode == "1":
        return 1
    tile = getattr(image, "tile", None)
    if image.format == "PNG" and tile:  # as "RGB;16B" or "L;4"
        digits = "".join(c for c in str(tile[0].args).partition(";")[2] if c.isdigit())
        return int(digits or 8)
    return 16 if image.mode.startswith("I;16") else 32 if image.mode in ("I", "F") else 8


def _pages_of(image: Image.Image, name: str) -> int:
    """Number of pictures in a file; several are refused unless all but the first are previews of it."""
    pages = int(getattr(image, "n_frames", 1))
    if pages == 1 or image.format == "MPO":  # phones keep a preview or a gain map behind the photograph
        return pages
    if image.format == "TIFF":
        previews = 0
        for page in range(1, pages):
            image.seek(page)
            previews += int(image.tag_v2.get(_SUBFILE, 0)) & 1  # type: ignore[attr-defined]
        image.seek(0)
        if previews == pages - 1:
            return pages
    kind = "pages" if image.format == "TIFF" else "frames"
    raise ValueError(
        f"{name}: holds {pages} {kind}, of which one would be used and the others dropped. Save each as a file of its own "
        "(a stack of slices as NIfTI, a film as a video), or remove all but one."
    )


def alpha_of(image: Image.Image) -> np.ndarray | None:
    """Return the opacity of a picture's pixels ``(H, W)``, 0 to 255; None where it stores none."""
    if image.mode in ("LA", "RGBA", "PA", "La", "RGBa"):
        return np.asarray(image.getchannel(image.getbands()[-1]))
    if "transparency" in image.info and image.mode in ("P", "L", "RGB"):
        return np.asarray(image.convert("RGBA").getchannel("A"))
    return None


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any 8-bit or 16-bit image to 8-bit RGB.

    Grey images get three equal channels, transparency is dropped, 16-bit levels are scaled by 255/65535.

    Raises:
        ValueError: the image holds 32-bit values, or fewer bits than its 16-bit type says.
    """
    return _to_8_bit(image).convert("RGB")


def to_gray(image: Image.Image) -> Image.Image:
    """Convert a grey image to one 8-bit channel. Not for masks: `monai_difom.transforms.read_mask` keeps their values.

    One-bit and palette images are looked up, transparency is dropped, and a colour image is taken only when its
    channels are equal (a mix of different channels would invent values that are in no channel).

    Raises:
        ValueError: the channels of a colour image differ; as in `to_rgb`.
    """
    image = _to_8_bit(image)
    if image.mode in ("1", "L", "LA"):
        return image.convert("L")
    channels = np.asarray(image.convert("RGB"))
    if not (channels == channels[..., :1]).all():
        raise ValueError(
            f"a colour picture (Pillow mode {image.mode!r}) whose channels differ. Allowed is one grey channel, or equal "
            "channels: save it as 8-bit grey."
        )
    return Image.fromarray(np.ascontiguousarray(channels[..., 0]))


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey levels by the range of their type; Pillow's own conversion would clip them at 255."""
    if image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.uint32)
        _refuse_dark(int(levels.max()))
        return Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        bits = "32-bit integers" if image.mode == "I" else "32-bit floats"
        raise ValueError(
            f"the image holds {bits} (Pillow mode {image.mode!r}), whose range of grey levels is unknown. Allowed are "
            "8-bit and 16-bit images: convert the file to one of them."
        )
    return image


def _refuse_dark(highest: int) -> None:
    if 0 < highest < _DARK:
        bits = next(n for n in (8, 10, 12, 14) if highest < 1 << n)
        raise ValueError(
            f"a 16-bit picture whose highest level is {highest} of 65535: these look like {bits} bits in a 16-bit file, and "
            f"would be almost black. Save it with 8 bits, or with its levels multiplied by {65535 // ((1 << bits) - 1)}."
        )


def read_picture_file(source: Source, channels: int = 3, pixel_limit: int | None = None) -> np.ndarray:
    """Read one picture as 8 bits ``(H, W, channels)``, upright.

    Args:
        source: the file.
        channels: 3 for RGB, 1 for grey.
        pixel_limit: of `open_picture`.

    Raises:
        ValueError: what `open_picture`, `to_rgb` and `to_gray` refuse, and a picture that lies in its transparency alone;
            names the file.
    """
    picture = open_picture(source, pixel_limit)
    try:
        _refuse_deep_colour(source, picture)
        array = np.asarray(to_rgb(picture.image) if channels == 3 else to_gray(picture.image))
    except ValueError as error:
        raise ValueError(f"{picture.name}: {error}") from error
    array = array if array.ndim == 3 else array[..., None]
    if picture.facts.transparent and (array == array[:1, :1]).all():
        raise ValueError(
            f"{picture.name}: one colour everywhere, and all of the picture in its transparency, which is not used. Save it "
            "without transparency on a background."
        )
    return array


def _refuse_deep_colour(source: Source, picture: Picture) -> None:
    """Of 16-bit colours Pillow keeps the upper 8 bits: refuse what has next to nothing in them."""
    if picture.facts.bits != 16 or picture.image.mode.startswith("I;16") or picture.image.mode in ("I", "F"):
        return
    bands = picture.image.split()
    colours = bands[:-1] if picture.image.mode in ("LA", "RGBA") else bands
    highest = max(int(np.asarray(band).max()) for band in colours)
    if highest < _DARK >> 8:
        _refuse_dark(256 * highest + 255 if highest else _lower_bits(source))


def _lower_bits(source: Source) -> int:
    """Highest value of the lower 8 bits of 16-bit colours, which Pillow reads as the upper ones of the other byte order."""
    if not isinstance(source, str | os.PathLike):
        source.seek(0)
    with Image.open(source, formats=_FORMATS) as opened:
        image: Any = opened
        little = "16L" in str(image.tile[0].args) or "16N" in str(image.tile[0].args)
        turn = {"16L": "16B", "16N": "16B"} if little else {"16B": "16L"}
        image.tile = [tile._replace(args=_renamed(tile.args, turn)) for tile in image.tile]
        return max(int(np.asarray(band).max()) for band in image.split()[:3])


def _renamed(arguments: Any, names: dict[str, str]) -> Any:
    if isinstance(arguments, tuple):
        return (_renamed(arguments[0], names), *arguments[1:])
    text = str(arguments)
    for old, new in names.items():
        text = text.replace(old, new)
    return text


def is_picture(path: str | os.PathLike) -> bool:
    """Return whether a file is taken for a picture, by its name."""
    return Path(path).name.lower().endswith(PICTURE_SUFFIXES)
