"""YAML and JSON of unknown origin as plain data: small, flat, of one meaning, or refused before it costs anything."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SIZE_LIMIT = 4_000_000
DEPTH_LIMIT = 64
NODE_LIMIT = 100_000
# of files that grow with a data set: lists of images, indices, what was measured of each image
LARGE_SIZE, LARGE_COUNT = 1_000_000_000, 50_000_000
_DIGITS = 400
_STANDARD = "tag:yaml.org,2002:"
_SCALARS = ("str", "int", "float", "bool", "null")


def read_yaml(path: str | os.PathLike, size_limit: int = SIZE_LIMIT) -> Any:
    """Read a YAML file as plain data.

    Args:
        path: the file.
        size_limit: largest size in bytes.

    Returns:
        Mappings, lists, texts, numbers, booleans and None; no two places share an object. A date stays the text that it is.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is larger or deeper than the limits, unfolds by aliases to more than `NODE_LIMIT` values, has a tag that
            is no standard one, a key twice, or is no YAML. The message names the file.
    """
    return parse_yaml(_text(Path(path), size_limit), str(path), size_limit)


def read_json(path: str | os.PathLike, size_limit: int = SIZE_LIMIT, node_limit: int = NODE_LIMIT) -> Any:
    """Read a JSON file; see `read_yaml`.

    Args:
        path: the file.
        size_limit: largest size in bytes.
        node_limit: most values.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is larger or deeper than the limits, has a key twice, or is no JSON. The message names the file.
    """
    return parse_json(_text(Path(path), size_limit), str(path), size_limit, node_limit)


def read_large_json(path: str | os.PathLike) -> Any:
    """Read a JSON file that grows with a data set; see `read_json`."""
    return read_json(path, LARGE_SIZE, LARGE_COUNT)


def parse_json(text: str, name: str, size_limit: int = SIZE_LIMIT, node_limit: int = NODE_LIMIT) -> Any:
    """Read a JSON text; see `read_json`.

    Args:
        text: the text.
        name: where it is from, for messages.
        size_limit: largest number of characters.
        node_limit: most values.
    """
    _check_size(len(text), name, size_limit)
    try:
        found = json.loads(text, object_pairs_hook=_without_twins)
    except RecursionError as error:
        raise ValueError(f"{name} is nested deeper than {DEPTH_LIMIT} levels, which is refused.") from error
    except ValueError as error:
        raise ValueError(f"{name} is damaged, or not valid JSON: {error}.") from error
    _check_shape(found, name, node_limit)
    return found


def parse_yaml(text: str, name: str, size_limit: int = SIZE_LIMIT) -> Any:
    """Read a YAML text; see `read_yaml`.

    Args:
        text: the text.
        name: where it is from, for messages.
        size_limit: largest number of characters.
    """
    import yaml

    _check_size(len(text), name, size_limit)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(name).build(yaml.parse(text, Loader=loader))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{name} is damaged, or not valid YAML: {reason}") from error


def _text(file: Path, size_limit: int) -> str:
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}.")
    with open(file, "rb") as stream:  # not the size on the disk: a pipe or device has none
        content = stream.read(size_limit + 1)
    _check_size(len(content), str(file), size_limit)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is damaged: it is no text in UTF-8 ({error.reason}).") from error


def _check_size(size: int, name: str, limit: int) -> None:
    if size > limit:
        raise ValueError(
            f"{name} is larger than {limit / 1e6:g} MB, which no such file needs; it is refused unread."
        )


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [key for key, _ in pairs]
        twin = next(key for key in names if names.count(key) > 1)
        raise ValueError(f"the key {twin!r} is there twice")
    return found


def _check_shape(value: Any, name: str, node_limit: int) -> None:
    """Refuse data that is deeper or more than the limits; without recursion."""
    waiting, count = [(value, 1)], 0
    while waiting:
        item, depth = waiting.pop()
        count += 1
        if depth > DEPTH_LIMIT or count > node_limit:
            what = (
                f"nested deeper than {DEPTH_LIMIT} levels"
                if depth > DEPTH_LIMIT
                else f"more than {node_limit:,} values"
            )
            raise ValueError(f"{name} is {what}, which is refused.")
        if isinstance(item, dict):
            waiting += [(child, depth + 1) for child in item.values()]
        elif isinstance(item, list):
            waiting += [(child, depth + 1) for child in item]


@dataclass
class _Open:
    """A list or mapping whose end has not been read yet."""

    value: Any
    anchor: str | None
    size: int = 1
    key: Any = None
    has_key: bool = False


@dataclass
class _Builder:
    """Make plain data out of YAML's events: nothing is built that the limits forbid, and no tag is asked for its class."""

    name: str
    anchors: dict[str | None, tuple[Any, int]] = field(default_factory=dict)
    stack: list[_Open] = field(default_factory=list)
    root: Any = None
    documents: int = 0
    values: int = 0

    def build(self, events: Iterable[Any]) -> Any:
        import yaml

        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.documents += 1
                if self.documents > 1:
                    self.refuse(event, "it holds several documents; one is allowed")
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in self.anchors:
                    self.refuse(event, f"the alias *{event.anchor} names nothing before it, or itself")
                value, size = self.anchors[event.anchor]
                self.count(event, size)
                self.add(event, copy.deepcopy(value), size)
            elif isinstance(event, yaml.ScalarEvent):
                value = self.scalar(event)
                self.count(event, 1)
                self.keep(event.anchor, value, 1)
                self.add(event, value, 1)
            elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
                self.begin(event, [] if isinstance(event, yaml.SequenceStartEvent) else {})
            elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
                closed = self.stack.pop()
                self.keep(closed.anchor, closed.value, closed.size)
                self.add(event, closed.value, closed.size)
        return self.root

    def begin(self, event: Any, value: Any) -> None:
        kind = "seq" if isinstance(value, list) else "map"
        if event.tag not in (None, "!", _STANDARD + kind):
            self.refuse(event, f"the tag {event.tag} is none of YAML's plain ones, and would make an object")
        if len(self.stack) >= DEPTH_LIMIT:
            self.refuse(event, f"it is nested deeper than {DEPTH_LIMIT} levels")
        if self.stack and isinstance(self.stack[-1].value, dict) and not self.stack[-1].has_key:
            self.refuse(event, "a key is a list or mapping; allowed are texts and numbers")
        self.count(event, 1)
        self.stack.append(_Open(value, event.anchor))

    def add(self, event: Any, value: Any, size: int) -> None:
        """Put a finished value into what it is in."""
        if not self.stack:
            self.root = value
            return
        parent = self.stack[-1]
        parent.size += size
        if isinstance(parent.value, list):
            parent.value.append(value)
        elif parent.has_key:
            parent.value[parent.key] = value
            parent.has_key = False
        else:
            if isinstance(value, list | dict):
                self.refuse(event, "a key is a list or mapping; allowed are texts and numbers")
            if value in parent.value:
                self.refuse(event, f"the key {value!r} is there twice")
            parent.key, parent.has_key = value, True

    def count(self, event: Any, size: int) -> None:
        self.values += size
        if self.values > NODE_LIMIT:
            self.refuse(event, f"it unfolds to more than {NODE_LIMIT:,} values")

    def keep(self, anchor: str | None, value: Any, size: int) -> None:
        if anchor is not None:
            self.anchors[anchor] = (value, size)

    def scalar(self, event: Any) -> Any:
        import yaml

        tag = event.tag
        if tag in (None, "!"):
            tag = _resolver().resolve(yaml.ScalarNode, event.value, event.implicit)
            if tag == f"{_STANDARD}timestamp":
                tag = f"{_STANDARD}str"
        if tag not in [_STANDARD + kind for kind in _SCALARS]:
            what = "merges mappings by <<" if tag.endswith(":merge") else f"has the tag {tag}"
            self.refuse(event, f"it {what}, which is none of YAML's plain values")
        if tag != f"{_STANDARD}str" and len(event.value) > _DIGITS:
            self.refuse(event, f"a number has {len(event.value)} digits")
        try:
            return _resolver().construct(tag, event.value)
        except (ValueError, KeyError) as error:
            self.refuse(event, f"{event.value[:40]!r} is no {tag.removeprefix(_STANDARD)} ({error})")

    def refuse(self, event: Any, reason: str) -> Any:
        raise ValueError(f"{self.name}, line {event.start_mark.line + 1}: {reason}; the file is refused.")


class _Scalars:
    """PyYAML's own rules for what a word means."""

    def __init__(self) -> None:
        import yaml

        self._loader = yaml.SafeLoader("")
        self.resolve = self._loader.resolve

    def construct(self, tag: str, value: str) -> Any:
        import yaml

        return self._loader.yaml_constructors[tag](self._loader, yaml.ScalarNode(tag, value))


_known: list[_Scalars] = []


def _resolver() -> _Scalars:
    if not _known:
        _known.append(_Scalars())
    return _known[0]
