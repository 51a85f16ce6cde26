"""The report that a person reads: one page, self-contained, about one run or several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...utils.lazy import lazy_names

if TYPE_CHECKING:
    from .after_training import conclude
    from .page import make_report, run_report, write_report
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "after_training": "conclude",
            "page": "make_report run_report write_report",
        },
    )
