"""One label file: its values as they are stored, and which of its pixels are foreground; or refused.

No value of a label passes through the scaling or the colours of images. Foreground is decided once, in `foreground`: 0 and one
other value, whichever it is (1, 255, 65535, true, a place in a palette), are a mask; more values need a threshold or are classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .picture_file import Picture, PictureFacts, Source, alpha_of, open_picture

_SCALED = {2: 85, 4: 17}  # what Pillow multiplies grey levels of few bits with
_NOISE = 32  # JPEG moves the levels of a black area by less


@dataclass(frozen=True)
class Label:
    """What a label file holds.

    Args:
        values: ``(H, W)``, whole numbers as stored: class numbers, places in a palette; or floats.
        levels: ``(H, W)``, the grey scale that a threshold is on; the values where there is no other.
        top: highest level that the type holds: 1, 255 or 65535.
        kind: in words, for messages: ``"8 bits"``, ``"palette of colours"``.
        graded: the levels are a scale from dark to light, on which a threshold says something.
        facts: of the file.
        name: the file.
    """

    values: np.ndarray
    levels: np.ndarray
    top: int
    kind: str
    graded: bool
    facts: PictureFacts
    name: str


def open_label(source: Source) -> Label:
    """Read a label file of any kind, upright, values as stored.

    Raises:
        ValueError: what `open_picture` refuses; colours that differ, levels below 0, a shape in the transparency beside another
            in the colours, or a palette whose places and colours say different things. Names the file.
    """
    picture = open_picture(source)
    try:
        values, levels, top, kind, graded = _read(picture)
    except ValueError as error:
        raise ValueError(f"{picture.name}: {error}") from error
    return Label(values, levels, top, kind, graded, picture.facts, picture.name)


def read_mask(source: Source, threshold: float | None = None) -> np.ndarray:
    """Read the mask of one structure.

    Args:
        source: the file: 0 and one other value, whichever it is; all of one value is allowed. A shape that is drawn in the
            transparency of one colour is taken as what is not transparent.
        threshold: for masks of more values (JPEG leaves some): grey level, on the scale of the file, from which a pixel is
            foreground. A mask of 0 and one other value is that whatever the threshold.

    Returns:
        ``(H, W)``, boolean.

    Raises:
        ValueError: as in `open_label` and `foreground`.
    """
    return mask_of(open_label(source), threshold)


def mask_of(label: Label, threshold: float | None = None) -> np.ndarray:
    """Return the mask of an opened label, ``(H, W)``, boolean; see `read_mask`."""
    try:
        if label.facts.format in ("JPEG", "MPO") and 0 < label.levels.max() < _NOISE:
            return _compressed_noise(label.levels, threshold)
        return foreground(label.levels, threshold, label.top if label.graded else None, label.kind)
    except ValueError as error:
        raise ValueError(f"{label.name}: {error}") from error


def _compressed_noise(levels: np.ndarray, threshold: float | None) -> np.ndarray:
    """A JPEG without any bright level: empty, where a threshold says so; never a mask of 0 and 1, which JPEG cannot keep."""
    if threshold is None or not threshold > levels.max():
        raise ValueError(
            f"a JPEG whose highest level is {levels.max()} of 255: what its compression left of an empty mask, or of 0 and 1. "
            "Save masks as PNG, or set mask_threshold (128 for a mask of 0 to 255)."
        )
    return np.zeros(levels.shape, bool)


def read_labels(source: Source) -> np.ndarray:
    """Read a picture whose values, or palette places, are the numbers of classes: ``(H, W)`` int64, 0 the background.

    Raises:
        ValueError: as in `open_label`; values that are not whole.
    """
    label = open_label(source)
    if label.values.dtype.kind == "f":
        raise ValueError(f"{label.name}: labels are integers; this picture holds floats.")
    return label.values.astype(np.int64)


def foreground(
    levels: np.ndarray, threshold: float | None = None, top: int | None = 255, kind: str = ""
) -> np.ndarray:
    """Decide which pixels of a label are foreground.

    Args:
        levels: stored levels, any shape, any type.
        threshold: level from which a pixel of a label of more than two values is foreground.
        top: highest level of the type; None where the values are no grey scale (a palette of colours).
        kind: what the file is, for messages.

    Returns:
        Boolean, shaped like ``levels``.

    Raises:
        ValueError: more values than 0 and one other and no threshold; a threshold that says nothing on these levels, or
            that leaves none of them.
    """
    lowest, highest = levels.min(), levels.max()
    if lowest >= 0 and bool(((levels == 0) | (levels == highest)).all()):
        return levels > 0
    counted = _counts(levels)
    if threshold is not None and not threshold > 0:
        raise ValueError(
            f"mask_threshold is {threshold:g}, so that every pixel would be foreground; allowed is above 0."
        )
    if threshold is None:
        instances = " 1 takes all that is not 0;" if (top or 0) > 255 or highest <= 10 else ""
        advice = (
            f"set mask_threshold (128 for a mask of 0 to 255;{instances} on the scale of the file)"
            if top is not None
            else "save what is foreground as one value"
        )
        raise ValueError(
            f"the mask is not binary: {counted}{f' ({kind})' if kind else ''}. Allowed are 0 and one other value, not "
            f"{len(np.unique(levels))} different values; {advice}. Values that are classes are structures."
        )
    if top is None:
        raise ValueError(
            f"mask_threshold is {threshold:g}, but this mask is a {kind}, which has no grey levels: {counted}. Save what is "
            "foreground as one value, or name the values as structures."
        )
    if top > 255 and 1 < threshold <= 255 < highest:
        raise ValueError(
            f"mask_threshold is {threshold:g}, but the levels of this mask ({kind}) go up to {highest}: the threshold is on the "
            f"scale of the file. Give {128 * 257} for the middle of 16 bits, or save the mask with 8 bits."
        )
    found = levels >= threshold
    if highest > 0 and not found.any():
        raise ValueError(
            f"mask_threshold {threshold:g} empties this mask: {counted}. Give a threshold on the scale of the file, or save what "
            "is foreground as one value."
        )
    return found


def _counts(levels: np.ndarray, shown: int = 5) -> str:
    values, counts = np.unique(levels, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:shown]
    listed = ", ".join(f"{values[i]:g} ({counts[i]} pixels)" for i in order)
    return f"{len(values)} values, most frequent {listed}"


def _read(picture: Picture) -> tuple[np.ndarray, np.ndarray, int, str, bool]:
    image, facts = picture.image, picture.facts
    alpha = alpha_of(image)
    if image.mode == "P" or image.mode == "PA":
        found = _palette(image)
    elif image.mode == "1":
        bits = np.asarray(image).astype(np.uint8)
        found = (bits, bits, 1, "1 bit", True)
    elif image.mode in ("I", "F"):
        found = _numbers(np.asarray(image))
    elif image.mode.startswith("I;16"):
        deep = np.asarray(image).astype(np.uint16)
        found = (deep, deep, 65535, "16 bits", True)
    else:
        levels = _equal_channels(image)
        values = levels // _SCALED.get(facts.bits, 1)
        found = (values, levels, 255, f"{min(facts.bits, 8)} bits", True)
    if alpha is None or (int(alpha.min()) == 255):
        return found
    return _with_alpha(found, alpha)


def _equal_channels(image: Image.Image) -> np.ndarray:
    if image.mode == "L":
        return np.asarray(image)
    if image.mode in ("LA", "La"):
        return np.asarray(image.getchannel(0))
    channels = np.asarray(image.convert("RGB"))
    if not (channels == channels[..., :1]).all():
        raise ValueError(
            f"the mask is a colour picture (Pillow mode {image.mode!r}) whose channels differ. Allowed is one grey channel, or "
            "equal channels, or a palette: save the mask as an 8-bit grey PNG of 0 and 255."
        )
    return np.ascontiguousarray(channels[..., 0])


def _palette(image: Image.Image) -> tuple[np.ndarray, np.ndarray, int, str, bool]:
    """Places in a palette. A palette of greys is a grey scale too; one of colours must have its background at place 0."""
    places = np.asarray(image if image.mode == "P" else image.getchannel(0))
    colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    if len(colours) <= int(places.max()):
        raise ValueError(
            f"the palette has {len(colours)} colours, but the picture asks for place {places.max()}."
        )
    used = np.unique(places)
    if (colours[used] == colours[used, :1]).all():
        return places, colours[places, 0], 255, "palette of greys", True
    black = [int(place) for place in used if not colours[place].any()]
    if black and 0 not in black:
        raise ValueError(
            f"the palette has black, the usual background, at place {black[0]}, and {tuple(map(int, colours[0]))} at place 0, "
            "which is the background by number. Save the mask as grey values, 0 for the background."
        )
    return places, places, 255, "palette of colours", False


def _numbers(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, str, bool]:
    """32-bit numbers: whole ones are values, others a scale of their own."""
    if not np.isfinite(stored).all() or stored.min() < 0:
        raise ValueError(
            f"the mask holds {'values below 0' if np.isfinite(stored).all() else 'NaN or infinity'}."
        )
    kind = "32-bit integers" if stored.dtype.kind in "iu" else "32-bit floats"
    top = int(max(1, np.ceil(float(stored.max()))))
    return stored, stored, 255 if 1 < top <= 255 else 65535 if top > 255 else 1, kind, True


def _with_alpha(
    found: tuple[np.ndarray, np.ndarray, int, str, bool], alpha: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int, str, bool]:
    """A mask that has transparent pixels: of one colour it is the shape of what is not transparent."""
    levels = found[1]
    one_colour, one_opacity = (bool((x == x[:1, :1]).all()) for x in (levels, alpha))
    if one_opacity and int(alpha.max()) > 0:
        return found
    if one_colour:
        return alpha, alpha, 255, "shape in the transparency", True
    if np.array_equal(levels > 0, (levels > 0) & (alpha > 0)) and np.array_equal(levels > 0, alpha > 0):
        return found
    said = (
        "every pixel is transparent"
        if one_opacity
        else "its transparency shows another shape than its colours"
    )
    raise ValueError(
        f"{said}, and it is not clear which of the two is the mask. Save it without transparency, 0 for the background."
    )
