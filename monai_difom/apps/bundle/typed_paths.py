"""Paths reach a bundle as they were typed.

On the way from the command line to a configuration, Fire takes ``2024_01`` for a number, ``a,b`` for two words and ``run#2`` for
``run`` with a comment, and MONAI turns ``#`` into ``::``: a run would be written, and read, somewhere else.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Mapping
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigExpression, ConfigItem, ConfigParser

from ...utils.literals import literal

_ENDS = ("_dir", "_root", "_file", "_weights", "_store", "_bundle")
# the last ones are texts that Fire must not take for anything else either
_NAMES = (
    "resume",
    "deployed",
    "soft_masks",
    "unlabelled",
    "specialists",
    "rad_dino",
    "dinov2",
    "group",
    "mask_suffix",
)
_NOTHING = ("None", "null", "")


def is_path(name: str) -> bool:
    """Return whether a top-level id of a configuration names a file or a folder."""
    return name.endswith(_ENDS) or name in _NAMES


def typed_value(name: str, word: str) -> Any:
    """Return what a word of the command line stands for in a configuration.

    Args:
        name: option, a top-level id; those that are no path are read as Fire reads them.
        word: as it was typed. What begins with ``$``, or is ``@`` and an id, is MONAI's and stays.
    """
    if not is_path(name) or word in _NOTHING or word.startswith("$"):
        return DefaultParseValue(word)
    text = _unquoted(word)
    if isinstance(text, list):
        return [literal(os.path.expanduser(str(part))) for part in text]
    if isinstance(text, dict):
        # a mapping to numbers is no mapping to paths, whatever its name ends with: static_weights
        return {
            key: literal(os.path.expanduser(str(part))) if isinstance(part, str) or name in _NAMES else part
            for key, part in text.items()
        }
    return literal(os.path.expanduser(text))


def _unquoted(word: str) -> Any:
    """A word in quotes of its own, a list of such, or a mapping to such; any other as it is."""
    if word[:1] in "'\"[{":
        try:
            found = ast.literal_eval(word)
        except (ValueError, SyntaxError):
            return word
        return found if isinstance(found, str | list | dict) else word
    return word


def keep_paths(parser: ConfigParser, options: Mapping[str, str]) -> None:
    """Give a configuration that is about to be run the paths that were typed.

    Args:
        parser: the parsed configuration, of which nothing but its imports was evaluated.
        options: name -> word of the command line.

    Raises:
        ValueError: a path of a configuration file in which MONAI has turned ``#`` into ``::``, or one that is no text.
    """
    for name in [name for name in parser.config if is_path(str(name))]:
        stored = parser.config[name]
        word = options.get(name)
        if word is not None and not (word.startswith("@") and word[1:].split("#")[0] in parser.config):
            value = typed_value(name, word)
        elif isinstance(stored, str) and stored.startswith("~"):
            value = literal(os.path.expanduser(stored))
        else:
            value = stored
            _refuse_lost(name, stored)
        if value != stored:
            _set(parser, name, value)


def _refuse_lost(name: str, stored: Any) -> None:
    values = stored if isinstance(stored, list) else [stored]
    if isinstance(stored, dict):
        values = [value for value in stored.values() if isinstance(value, str) or name in _NAMES]
    if any(isinstance(value, str) and "::" in value and value[:1] not in "$@%" for value in values):
        raise ValueError(
            f"{name} is {stored!r}: in a configuration MONAI turns '#' into '::', so that the path is another one. Give it on "
            "the command line, or a path without '#'."
        )
    if any(isinstance(value, bool | int | float) for value in values):
        raise ValueError(
            f"{name} is {stored!r}, a number; it must be a path: put it in quotes, or write ./{stored}."
        )


def _set(parser: ConfigParser, name: str, value: Any) -> None:
    """Replace a top-level id of a configuration that is parsed already."""
    resolver = parser.ref_resolver
    for known in [known for known in resolver.items if known == name or known.startswith(f"{name}::")]:
        del resolver.items[known]
        resolver.resolved_content.pop(known, None)
    parser.config[name] = value
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, list | dict):
        parts = enumerate(value) if isinstance(value, list) else value.items()
    for place, part in [*((f"{name}::{key}", part) for key, part in parts), (name, value)]:
        expression = ConfigExpression.is_expression(part)
        item = ConfigExpression(part, place, parser.globals) if expression else ConfigItem(part, place)
        resolver.add_item(item)
