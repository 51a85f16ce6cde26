"""The configuration that is being run, for expressions in it that pass a part of it on as text."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, TypeVar

from monai.bundle import ConfigParser, ConfigWorkflow

Kind = TypeVar("Kind")


def running_settings(*ids: str) -> dict[str, Any]:
    """Return definitions of the running configuration, overlays and command line included.

    MONAI hands an expression the objects that other ids were resolved to, and not how they were defined. This looks up
    the parser that evaluates the expression instead. References inside a definition are replaced by their values, so
    that it stands alone; expressions without references stay as they are.

    Args:
        ids: top-level ids, such as ``"network_def"``.

    Returns:
        Id -> its definition, plain data; ids that the configuration has not are left out.

    Raises:
        RuntimeError: the call is not in a ``$`` expression of a configuration.
        ValueError: a definition refers to something that is no plain value.

    Example::

        run: ["$write_something(monai_difom.apps.running_settings('network_def'))"]
    """
    parser = running_parser()
    if parser is None:
        raise RuntimeError(
            "running_settings is for `$` expressions of a configuration; no configuration is being run."
        )
    return {i: _plain(parser, i, deepcopy(parser[i])) for i in ids if i in parser.config}


def running_config() -> dict[str, Any] | None:
    """Return the raw configuration whose expression is being evaluated, overlays and command line included; None outside one."""
    parser = running_parser()
    if parser is None:
        return None
    return {key: value for key, value in deepcopy(parser.get()).items() if key != "_meta_"}


def running_parser() -> ConfigParser | None:
    """Return the parser among the callers: alike under ``monai.bundle run`` and in a `ConfigWorkflow`."""
    return _caller(ConfigParser)


def name_empty_run() -> None:
    """Make a run id that was given empty the default one; for the first line of ``initialize``.

    Some panels of MONAI Label send ``"run_id": ""``, which MONAI takes for the whole configuration: it would build and run
    everything in it.
    """
    workflow = _caller(ConfigWorkflow)
    if workflow is not None and not workflow.run_id:
        workflow.run_id = "run"


def _caller(kind: type[Kind]) -> Kind | None:
    """Return the nearest caller's ``self`` of a class."""
    frame = inspect.currentframe()
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, kind):
            return found
        frame = frame.f_back
    return None


def _plain(parser: ConfigParser, place: str, value: Any) -> Any:
    """Return a definition with the references in it resolved, at every depth."""
    if isinstance(value, Mapping):
        return {key: _plain(parser, f"{place}::{key}", child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(parser, f"{place}::{number}", child) for number, child in enumerate(value)]
    if not isinstance(value, str) or not (value.startswith("@") or (value.startswith("$") and "@" in value)):
        return value
    found = parser.get_parsed_content(place)
    if not _is_plain(found):
        raise ValueError(
            f"{place} is {value!r}, a {type(found).__name__}: a definition that is passed on can only refer to numbers, "
            "texts and lists of them. Write it out in the configuration."
        )
    return found


def _is_plain(value: Any) -> bool:
    """True for what YAML can hold without code."""
    if isinstance(value, (list, tuple)):
        return all(_is_plain(child) for child in value)
    return value is None or isinstance(value, (bool, int, float, str))
