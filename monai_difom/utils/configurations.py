"""MONAI configurations as plain data: references filled in, nothing run, imported or read besides the file itself."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from .documents import NODE_LIMIT, read_json, read_yaml
from .literals import literal_text

_REFERENCE = re.compile(r"@(\w+(?:(?:::|#)\w+)*)")
_DEPTH = 64


def resolved(config: str | os.PathLike, name: str) -> Any:
    """Return one id of a configuration as plain data, references filled in.

    An expression (``$``) or a macro (``%``) stays the text that it is; one that is nothing but a text in quotes is that text.

    Args:
        config: YAML or JSON file.
        name: id, with ``::`` or ``#`` between levels.

    Returns:
        The data; None where the file has no such id.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is refused (see `read_yaml`), or a reference in what is asked for names nothing, itself, or unfolds
            without end.
    """
    document = read_configuration(config)
    try:
        value = _look_up(document, name)
    except KeyError:
        return None
    return _Filler(document, str(config)).fill(value, name, ())


def read_configuration(config: str | os.PathLike) -> dict[str, Any]:
    """Return a configuration as it is written.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is refused, or is no mapping.
    """
    # JSON may have tabs, which YAML has not
    found = read_json(config) if str(config).endswith(".json") else read_yaml(config)
    if not isinstance(found, dict):
        raise ValueError(f"{config} is no configuration: it holds a {type(found).__name__}, not a mapping.")
    return found


def _look_up(document: Mapping[str, Any], name: str) -> Any:
    """Return what an id names, as it is written; KeyError where there is nothing."""
    value: Any = document
    for part in name.replace("#", "::").split("::"):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise KeyError(name)
    return value


class _Filler:
    """Replace references by what they name; counts what it makes, so that references to references cannot grow without end."""

    def __init__(self, document: Mapping[str, Any], file: str) -> None:
        self.document = document
        self.file = file
        self.made = 0

    def fill(self, value: Any, place: str, within: tuple[str, ...]) -> Any:
        self.made += 1
        if self.made > NODE_LIMIT or place.count("::") + len(within) > _DEPTH:
            raise ValueError(
                f"{self.file}: the references in {place[:80]} unfold without end; it is refused."
            )
        if isinstance(value, Mapping):
            return {str(key): self.fill(child, f"{place}::{key}", within) for key, child in value.items()}
        if isinstance(value, list):
            return [self.fill(child, f"{place}::{i}", within) for i, child in enumerate(value)]
        if not isinstance(value, str):
            return value
        found = _REFERENCE.fullmatch(value)
        if found is None:
            text = literal_text(value)
            return value if text is None else text
        if found[1] in within:
            raise ValueError(f"{self.file}: {place} refers to itself by {value}.")
        try:
            named = _look_up(self.document, found[1])
        except KeyError:
            raise ValueError(
                f"{self.file}: {place} refers to {value}, which the file does not have."
            ) from None
        return self.fill(named, place, (*within, found[1]))
