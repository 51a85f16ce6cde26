"""What CONTRIBUTING says to touch for an extension is there, and is little."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECTIONS = {
    title: text
    for title, _, text in (
        part.partition("\n") for part in (ROOT / "CONTRIBUTING.md").read_text().split("\n## ")
    )
    if title.startswith("Add ")
}


@pytest.mark.parametrize("title", SECTIONS)
def test_an_extension_touches_few_places_and_all_of_them_are_there(title: str) -> None:
    steps = SECTIONS[title].count("- [ ]")
    assert 1 <= steps <= (5 if title == "Add a teacher" else 4)
    named = re.findall(r"`((?:monai_difom|tests|configs|docs|bundles)/[^`]*)`", SECTIONS[title])
    assert named
    for place in named:
        path = ROOT / place.partition("<")[0]
        assert path.exists() or path.parent.is_dir(), place
