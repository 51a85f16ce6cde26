"""Configuration as JSON and YAML can hold it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain_data(value: Any) -> Any:
    """Return a configuration value made of numbers, texts, lists and mappings; anything else becomes its own text."""
    if isinstance(value, Mapping):
        return {str(key): plain_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
