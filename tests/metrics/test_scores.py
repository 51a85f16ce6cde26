"""One table says what every score is called, which way it is better and how it is written."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from monai_difom.metrics import (
    COLUMNS,
    MARKS,
    SCORES,
    map_scores,
    mean_scores,
    score_columns,
    score_of,
    unit_of_length,
)

PACKAGE = Path(__file__).parents[2] / "monai_difom"
MASK = np.zeros((12, 16), bool)
MASK[3:9, 4:12] = True


def test_every_score_of_an_image_is_in_the_table_and_every_entry_is_scored() -> None:
    row = map_scores(MASK, MASK)
    assert tuple(key for key in row if key != "e_curve") == COLUMNS[1:]
    assert set(mean_scores([row])) == {"n", *SCORES, *(mark.total for mark in MARKS.values())}
    assert all(name == entry.name for table in (SCORES, MARKS) for name, entry in table.items())


def test_a_score_is_better_in_the_direction_that_the_table_says() -> None:
    worse = map_scores(np.roll(MASK, 3, 1), MASK)
    for name, best in map_scores(MASK, MASK).items():
        if name in SCORES:
            assert (best > worse[name]) == SCORES[name].higher_is_better, name


@pytest.mark.parametrize(
    ("column", "title", "up", "shown"),
    [
        ("weighted_f", "Weighted F", True, "+1.234"),
        ("hd95", "HD95", False, "+1.2"),
        ("hd95/lung", "HD95, lung", False, "+1.2"),
        ("dice/lung", "Dice, lung", True, "+1.234"),
        ("novel", "novel", True, "+1.234"),
    ],
)
def test_a_column_has_a_name_a_direction_and_digits(column: str, title: str, up: bool, shown: str) -> None:
    score = score_of(column)
    assert (score.name, score.title, score.higher_is_better) == (column, title, up)
    assert score.show(1.2344, "+") == shown
    assert len(score.show(1.2344, more=1)) == len(shown)


def test_only_lengths_have_a_unit_which_the_columns_tell() -> None:
    assert [name for name, score in SCORES.items() if score.heading("mm") != score.title] == ["hd95"]
    assert score_of("hd95/lung").heading("mm") == "HD95, lung (mm)"
    assert unit_of_length(COLUMNS) == "px"
    assert unit_of_length([*COLUMNS, "spacing_1", "spacing_2"]) == "mm"


def test_facts_of_an_image_are_no_scores() -> None:
    columns = ["novel", "height", "spacing_1", "nsd", "empty_mask", "dice"]
    assert score_columns(columns) == ["dice", "nsd", "novel"]


def test_nothing_else_in_the_package_lists_the_names_of_scores() -> None:
    titles = {score.title for score in SCORES.values()} | {score.short for score in SCORES.values()}
    lists = {}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Dict) and file.name != "scores.py":
                pairs = zip(node.keys, node.values, strict=True)
                named = {getattr(v, "value", None) for k, v in pairs if getattr(k, "value", None) in SCORES}
                if named & titles:
                    lists[file.name] = named
    assert not lists
