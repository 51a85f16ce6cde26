"""Refuse options of a bundle command that name nothing, and end a failed one with what went wrong.

`python -m monai.bundle run` takes any `--name value` and adds it to the configuration: a misspelt name changes nothing
and says nothing. What a configuration raises it wraps, so that the last lines show an expression and not the reason.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from monai.bundle import ConfigParser
from monai.bundle.scripts import run

from ...data.folder_files import tell_not_taken
from ...data.items import name_of
from ...utils import unknown_name
from ..runs.claim import close_records, interrupted
from .current_config import running_parser
from .option_checks import check_values
from .options import config_files, option_values
from .typed_paths import keep_paths


def check_overrides(arguments: Sequence[str] | None = None) -> None:
    """Check the options of a `monai.bundle run` command against the ids of its configuration files, and keep paths as typed.

    When the process is such a command, whatever stops it later is said once more in the last lines, without wrappers.

    Args:
        arguments: the command's words without the program; those of this process by default. Anything but a
            `monai.bundle run` command is left alone.

    Raises:
        ValueError: an option is no top-level id of the files and no argument of `monai.bundle run`; names the nearest. Or a
            path that cannot be kept, see `keep_paths`, or a value that is not allowed, see `check_values`.
    """
    if arguments is None:
        parser = running_parser()
        command = "monai" in sys.argv[0] and "bundle" in sys.argv[0] and sys.argv[1:2] == ["run"]
        if command:
            sys.excepthook = end_with_cause
        if parser is not None:
            options = option_values(sys.argv[2:]) if command else {}
            keep_paths(parser, options)
            check_values(parser, options)
        if not command:
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
    known |= {*inspect.signature(run).parameters, "traceback"}
    for name in options:
        if name.replace("#", "::").split("::")[0] not in known:
            raise ValueError(unknown_name("option of this bundle", name, known - {"override", "imports"}))


def check_images(items: Sequence[Mapping[str, str]], folder: str) -> None:
    """Refuse a folder that gave no images to segment, or two that would write one mask; name in a warning what is not taken.

    Args:
        items: ``{"image": path}``, what was found in it.
        folder: its path.

    Raises:
        ValueError: the list is empty; says what is in the folder. Or two images have one name up to the ending.
    """
    if items:
        names: dict[str, str] = {}
        for path in (item["image"] for item in items):
            first = names.setdefault(name_of(Path(path)), path)
            if first != path:
                raise ValueError(f"{first} and {path} would write to one mask. Rename one of them.")
        taken = {os.path.basename(item["image"]) for item in items}
        others = (
            sorted(name for name in os.listdir(folder) if name not in taken) if os.path.isdir(folder) else []
        )
        tell_not_taken(Path(folder), dict.fromkeys(others, "no image in the folder itself, or hidden"))
        return
    if not os.path.isdir(folder):
        raise ValueError(f"there is no folder {folder!r}. Give the folder of the images as dataset_dir.")
    there = ", ".join(sorted(os.listdir(folder))[:5]) or "nothing"
    raise ValueError(
        f"{folder!r} holds no images but {there}. Give the folder that holds the files themselves, pictures or NIfTI, "
        "as dataset_dir."
    )


def cause_of(error: BaseException) -> BaseException:
    """Return what a person must read: the error below those that MONAI wraps around what a configuration raises."""
    while error.__cause__ is not None and _raised_by_monai(error):
        error = error.__cause__
    return error


def _raised_by_monai(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] == "monai"


def end_with_cause(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say what ended a command: in one line where a person stopped it or can put it right, else with the traceback above.

    The record of a training that had begun says it too. ``--traceback True`` shows every traceback.
    """
    if isinstance(error, KeyboardInterrupt):
        print(f"\n{interrupted()}", file=sys.stderr)
        return
    cause = cause_of(error)
    told = f"{type(cause).__name__}: {cause}"
    close_records("failed", told)
    if not isinstance(cause, (ValueError, OSError, ArithmeticError)) or is_asked_for_tracebacks():
        sys.__excepthook__(kind, error, trace)
        if cause is error:
            return
    print(f"\n{told}", file=sys.stderr)


def is_asked_for_tracebacks() -> bool:
    """True where the command has ``--traceback``."""
    return option_values(sys.argv[1:]).get("traceback", "False").lower() not in ("false", "0")
