"""Times as people say them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return seconds as ``140 ms``, ``12 s``, ``3 min`` or ``1.5 h``."""
    if 0 < seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
