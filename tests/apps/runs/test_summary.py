"""A summary says of its scores what makes them worth nothing."""

from __future__ import annotations

from pathlib import Path

from monai.bundle import ConfigParser
from PIL import Image

from tests import odd_files as odd


def test_images_that_are_tested_and_trained_on_are_counted(tmp_path: Path) -> None:
    def write(name: str, turned: bool) -> dict[str, str]:
        Image.fromarray(odd.picture()[:: -1 if turned else 1]).save(tmp_path / name)
        return {"image": str(tmp_path / name)}

    parser = ConfigParser(
        {
            "train_data": [write("a.png", turned=False)],
            "val_data": [],
            "test_sets": {"copied": [write("b.png", turned=False)], "new": [write("c.png", turned=True)]},
            "found": "$__import__('importlib').import_module('monai_difom.apps.runs.summary')._trained_on()",
        }
    )
    assert parser.get_parsed_content("found") == {"copied": 1}
