"""Images that are in two sets: compared by their bytes, or by their pixels, not by their names."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from ...transforms.picture_file import read_picture_file
from ...utils import file_digest, listed
from ..items import is_volume

SHOWN = 10
Items = Sequence[Mapping[str, Any]]


def shared_images(
    sets: Mapping[str, Items], pixels: bool = False
) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """Find the images of test sets that are also trained or validated on, whatever the names of the two files.

    Images of one colour are all alike and are left out.

    Args:
        sets: name -> items; names that begin with ``test`` are test sets.
        pixels: compare the unpacked pixels too, which finds an image that was saved anew in another format.

    Returns:
        Test set -> other set -> pairs of files; of those that share an image.
    """
    found: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for test, other in product(sets, sets):
        if test.startswith("test") and not other.startswith("test"):
            pairs = _shared(sets[test], sets[other], pixels)
            if pairs:
                found.setdefault(test, {})[other] = pairs
    return found


def shared_text(test: str, other: str, pairs: Sequence[tuple[str, str]]) -> str:
    """Say which images two sets share, and what to do."""
    shown = listed([f"{first} equals {second}" for first, second in pairs], SHOWN)
    return (
        f"{len(pairs)} image(s) of the {test} are also in the {other} set:{shown}\n"
        "What is trained on a test image cannot be tested on it: remove them from one of the two."
    )


def _shared(tests: Items, others: Items, pixels: bool) -> list[tuple[str, str]]:
    found = _equal(tests, others, os.path.getsize, file_digest)
    if pixels:
        found |= _equal(tests, others, lambda path: 0, _pixel_digest)
    return sorted((test, other) for test, other in found.items() if not _one_colour(test))


def _equal(
    tests: Items, others: Items, rough: Callable[[str], int], exact: Callable[[str], str]
) -> dict[str, str]:
    """Test image -> image of the other set that is the same; exact only where a rough measure agrees."""
    by_rough: dict[int, list[str]] = defaultdict(list)
    for item in others:
        by_rough[rough(item["image"])].append(item["image"])
    wanted = [
        (item["image"], by_rough[rough(item["image"])]) for item in tests if rough(item["image"]) in by_rough
    ]
    known: dict[str, str] = {}
    for path in dict.fromkeys(path for _, paths in wanted for path in paths):
        known.setdefault(exact(path), path)
    matches = {image: known.get(exact(image)) for image, _ in wanted}
    return {image: other for image, other in matches.items() if other is not None}


def _pixel_digest(path: str) -> str:
    if is_volume(path):
        return file_digest(path)
    array = read_picture_file(path)
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()


def _one_colour(path: str) -> bool:
    if is_volume(path):
        return False
    array = read_picture_file(path)
    return bool((array == array[:1, :1]).all())
