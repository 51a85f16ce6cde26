"""The summary of all measurements says what their own pages say."""

from __future__ import annotations

import re
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
INTERVAL = re.compile(r"([+-])0?(\.\d{3})\W+([+-])0?(\.\d{3}) to ([+-])0?(\.\d{3})")


def figures(text: str) -> set[tuple[str, ...]]:
    """Return every gain with its interval, whether its zero is written or not."""
    return set(INTERVAL.findall(text))


def test_every_gain_of_the_summary_stands_with_its_interval_in_the_page_that_its_row_names() -> None:
    rows = [
        line for line in (BENCHMARKS / "README.md").read_text(encoding="utf-8").splitlines() if figures(line)
    ]
    assert len(rows) >= 10
    for row in rows:
        pages = re.findall(r"\]\(([\w./]+\.md)[)#]", row)
        said = set().union(*(figures((BENCHMARKS / page).read_text(encoding="utf-8")) for page in pages))
        assert figures(row) <= said, row
