"""A block of code that reads nothing but installed packages, writes nothing, starts nothing and connects to nothing.

A second wall behind the checks of what is built from a file of unknown origin: a library's class may read a path or a hub name in
an argument that no check knows. It is no sandbox for hostile Python code, and need not be: only classes of allowed packages run.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

_closed: ContextVar[bool] = ContextVar("closed", default=False)
_REFUSED = (
    "subprocess.",
    "socket.",
    "urllib.",
    "http.",
    "ftplib.",
    "shutil.",
    "pty.",
    "webbrowser.",
    "pickle.",
)
# what importing a module does
_IMPORTING = (
    "os.listdir",
    "os.scandir",
    "os.walk",
    "os.fwalk",
    "os.putenv",
    "os.unsetenv",
    "os.add_dll_directory",
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class SealedError(PermissionError):
    """What a sealed block may not do."""


@contextmanager
def sealed() -> Iterator[None]:
    """Within the context, opening files other than those of installed packages, processes and connections are errors.

    Raises:
        SealedError: at the place that does it.
    """
    _install()
    token = _closed.set(True)
    try:
        yield
    finally:
        _closed.reset(token)


@cache
def _install() -> None:
    _installed()
    # an audit hook cannot be taken off again; outside of sealed blocks it asks one question
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _closed.get():
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, int) or _is_installed(path, flags or 0):
            return
        raise SealedError(f"it opens {os.fsdecode(path)!r}")
    if event == "ctypes.dlopen":
        # a name without a folder is a library of the system, which only Python code can ask for
        if arguments[0] is not None and os.sep in str(arguments[0]) and not _is_installed(arguments[0], 0):
            raise SealedError(f"it loads {arguments[0]!r}")
        return
    if event.startswith(_REFUSED) or (event.startswith("os.") and event not in _IMPORTING):
        raise SealedError(f"it calls {event}{arguments!r}"[:200])


def _is_installed(path: Any, flags: int) -> bool:
    if flags & _WRITING:
        return False
    return os.path.realpath(os.fsdecode(path)).startswith(_installed())


@cache
def _installed() -> tuple[str, ...]:
    """Folders of Python, of installed packages, and of this one."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    paths = {sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple(sorted({os.path.join(os.path.realpath(path), "") for path in (*paths, here)}))
