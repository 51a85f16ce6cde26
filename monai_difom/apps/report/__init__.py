"""The report that a person reads: one page, self-contained, about one run or several."""

from .page import conclude, make_report, run_report, write_report

__all__ = ["conclude", "make_report", "run_report", "write_report"]
