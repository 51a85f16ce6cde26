"""Names of a package that are imported when they are first asked for (PEP 562), so that what needs no torch starts without it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, places: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return what a package's ``__init__`` calls ``__getattr__``, ``__dir__`` and ``__all__``.

    Type checkers and editors do not see these names: the ``__init__`` imports them for these, under ``TYPE_CHECKING``. No name
    may be that of a module beside it, which would take its place once it is imported.

    Args:
        package: its ``__name__``.
        places: module, relative to the package -> the names that it gives, with spaces between.
    """
    homes = {name: module for module, names in places.items() for name in names.split()}
    modules = {module.partition(".")[0] for module in places}

    def get(name: str) -> Any:
        if name in homes:
            value = getattr(import_module(f".{homes[name]}", package), name)
            setattr(sys.modules[package], name, value)
            return value
        if name in modules:
            return import_module(f".{name}", package)
        raise AttributeError(f"module {package!r} has no attribute {name!r}.")

    names = sorted(homes)
    return get, lambda: sorted({*vars(sys.modules[package]), *names}), names
