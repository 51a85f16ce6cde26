"""The words of a bundle command, as they stand there."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from .shipped import config_file


def option_values(words: Sequence[str]) -> dict[str, str]:
    """Option name -> value, for ``--name value`` and ``--name=value``."""
    options = {}
    for i, word in enumerate(words):
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            options[name] = value or (words[i + 1] if i + 1 < len(words) else "")
    return options


def config_files(value: str) -> list[str]:
    """The configuration files of a ``--config_file`` value: one path or name, or a list as a string; see `config_file`."""
    names = ast.literal_eval(value) if value.startswith("[") else [value] if value else []
    return [str(config_file(str(name))) for name in names]
