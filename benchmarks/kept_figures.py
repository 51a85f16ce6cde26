"""Figures of a benchmark that are kept from one call to the next: what a call did not measure stays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_difom.utils import write_json


def keep_figures(file: Path, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the figures of the arms that a call measured into a file: set or task -> arm -> figures."""
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for name, arms in found.items():
        kept.setdefault(name, {}).update(arms)
    write_json(file, kept)
