"""Read a MONAI ``datalist.json``: lists of items that say where their files are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..utils import few
from ..utils.documents import read_large_json
from .items import Item, by_image, name_of


def read_datalist(file: Path, key: str, required: bool = False) -> list[Item]:
    """Return one list of a datalist: items with absolute paths and groups, sorted by image.

    Args:
        file: ``{"training": [...], "validation": [...], "test": [...]}``; paths are relative to its folder.
        key: name of the list, ``training`` or ``validation``; an absent one is empty.
        required: refuse an absent one.

    Raises:
        FileNotFoundError: a file that an item names is absent.
        ValueError: the file is no datalist, or an image stands twice.
    """
    content = _content(file)
    entries = content.get(key) or []
    if required and not entries:
        raise ValueError(
            f"{file} has no {key!r} list. Found: {few(sorted(content)) or 'nothing'}. Allowed: training (needed), "
            "validation, test."
        )
    return _items(file, key, entries)


def read_test_lists(file: Path) -> dict[str, list[Item]]:
    """Return the test sets of a datalist by name: those of an object ``"test": {"Kvasir": [...]}``, or one named "test".

    Raises:
        FileNotFoundError, ValueError: as in `read_datalist`.
    """
    entries = _content(file).get("test") or []
    if not isinstance(entries, dict):
        return {"test": _items(file, "test", entries)} if entries else {}
    return {name: _items(file, f"test/{name}", entries[name]) for name in sorted(entries)}


def _items(file: Path, key: str, entries: Any) -> list[Item]:
    if not isinstance(entries, list):
        raise ValueError(
            f"{file}: {key!r} is a {type(entries).__name__}; it must be a list of image and label pairs."
        )
    items = [_datalist_item(file, key, number, entry) for number, entry in enumerate(entries)]
    files = [file for item in items for file in (item["image"], *_label_files(item["label"]))]
    absent = [file for file in files if not Path(file).exists()]
    if absent:
        raise FileNotFoundError(
            f"{file}: {len(absent)} file(s) of {key!r} do not exist: {few(absent)}. Paths are relative to "
            f"{file.parent} unless absolute."
        )
    names = [item["image"] for item in items]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(
            f"{file}: {len(twice)} image(s) stand twice in {key!r}: {few(twice)}. Remove the copies."
        )
    return by_image(items)


def _content(file: Path) -> dict[str, Any]:
    try:
        content: Any = read_large_json(file)
    except ValueError as error:
        raise ValueError(f"{error} Correct it, or remove it to use the folders.") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{file} holds a {type(content).__name__}; a datalist is an object with a 'training' list."
        )
    return content


def _label_files(label: str | Mapping[str, str | None]) -> list[str]:
    return [file for file in label.values() if file] if isinstance(label, Mapping) else [label]


def _spacing(file: Path, number: int, value: Any) -> list[float]:
    """The size of an item's pixels, checked."""
    steps = value if isinstance(value, list) else [value]
    if len(steps) not in (2, 3) or not all(isinstance(step, int | float) and step > 0 for step in steps):
        raise ValueError(
            f"{file}: the spacing of item {number} is {value}; it must be [height, width] of a pixel in millimetres."
        )
    return [float(step) for step in steps]


def _datalist_item(file: Path, key: str, number: int, entry: Any) -> Item:
    label = entry.get("label") if isinstance(entry, dict) else None
    several = isinstance(label, dict) and all(
        path is None or isinstance(path, str) for path in label.values()
    )
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("image"), str)
        or not (isinstance(label, str) or several)
    ):
        raise ValueError(
            f"{file}: item {number} of {key!r} is {str(entry)[:120]}; it must be "
            '{"image": "path", "label": "path"}, with an optional "group" and "spacing"; for many structures the label may be '
            '{"hyoid": "path", ...}, or an indexed mask with an optional "annotated": ["hyoid", ...].'
        )
    image = entry["image"]
    item: Item = {"image": str(file.parent / image)}
    if isinstance(label, dict):
        item["label"] = {name: str(file.parent / path) for name, path in label.items() if path is not None}
    else:
        item["label"] = str(file.parent / str(label))
    item["group"] = str(entry.get("group", (Path(image).parent / name_of(Path(image))).as_posix()))
    if "spacing" in entry:
        item["spacing"] = _spacing(file, number, entry["spacing"])
    if "annotated" in entry:
        item["annotated"] = list(entry["annotated"])
    return item
