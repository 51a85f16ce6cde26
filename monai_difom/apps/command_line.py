"""Refuse options of a bundle command that name nothing.

`python -m monai.bundle run` takes any `--name value` and adds it to the configuration: a misspelt name changes nothing
and says nothing.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Sequence

from monai.bundle import ConfigParser
from monai.bundle.scripts import run

from ..utils import unknown_name


def check_overrides(arguments: Sequence[str] | None = None) -> None:
    """Check the options of a `monai.bundle run` command against the ids of its configuration files.

    Args:
        arguments: the command's words without the program; those of this process by default. Anything but a
            `monai.bundle run` command is left alone.

    Raises:
        ValueError: an option is no top-level id of the files and no argument of `monai.bundle run`; names the nearest.
    """
    if arguments is None:
        if "monai" not in sys.argv[0] or "bundle" not in sys.argv[0]:
            return
        arguments = sys.argv[1:]
    if not arguments or arguments[0] != "run":
        return
    options = option_values(arguments[1:])
    files = config_files(options.get("config_file", ""))
    if not files:
        return
    known = {
        key.removeprefix("+").replace("#", "::").split("::")[0]
        for file in files
        for key in ConfigParser.load_config_file(file)
    }
    known |= set(inspect.signature(run).parameters)
    for name in options:
        if name.replace("#", "::").split("::")[0] not in known:
            raise ValueError(unknown_name("option of this bundle", name, known - {"override", "imports"}))


def option_values(words: Sequence[str]) -> dict[str, str]:
    """Option name -> value, for ``--name value`` and ``--name=value``."""
    options = {}
    for i, word in enumerate(words):
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            options[name] = value or (words[i + 1] if i + 1 < len(words) else "")
    return options


def config_files(value: str) -> list[str]:
    """The configuration files of a ``--config_file`` value: one path, or a list as a string."""
    if value.startswith("["):
        return [str(file) for file in ast.literal_eval(value)]
    return [value] if value else []
