"""Charts hold their data, and tell series apart without colour."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from monai_difom.apps.report.charts import STYLES, Dot, Series, interval_chart, line_chart, sample


def svg(figure: str) -> ElementTree.Element:
    return ElementTree.fromstring(re.search(r'<svg class="chart".*?</svg>', figure, re.DOTALL)[0])


def test_a_gap_in_the_epochs_is_a_gap_in_the_line() -> None:
    figure = line_chart("loss", [Series("a", (1, 2, 5, 6), (1, 2, 3, 4))])
    line = next(p for p in svg(figure) if p.get("class", "").startswith("line"))
    assert line.get("d", "").count("M") == 2


def test_phases_have_names_and_borders_between_them() -> None:
    figure = line_chart("loss", [Series("a", (1, 9), (1, 2))], [("align", 3), ("distil", 6), ("refine", 9)])
    assert figure.count('class="border"') == 2
    assert all(name in figure for name in ("align", "distil", "refine"))


def test_every_style_has_its_own_marker_and_dash() -> None:
    markers = {re.search(r' d="([^"]*)"', sample(style))[1] for style in range(STYLES)}
    assert len(markers) == STYLES
    lines = [Series(str(i), (1, 2), (i, i), i) for i in range(STYLES)]
    dashes = re.findall(r"dasharray=\"([^\"]*)\"", line_chart("x", lines))
    assert len(set(dashes)) == STYLES - 1  # the first is drawn through


@pytest.mark.parametrize("values", [(0.0, 0.0), (1e-9, 2e-9), (5, 5), (-3, 1e6), (0.5, math.nan)])
def test_any_range_can_be_drawn(values: tuple[float, float]) -> None:
    figure = line_chart("x", [Series("a", (1, 2), values)])
    assert "nan" not in figure
    svg(figure)


def test_a_chart_without_data_is_nothing() -> None:
    assert line_chart("x", [Series("a", (), ())]) == ""
    assert interval_chart("x", [Dot("heading")]) == ""


def test_whiskers_need_an_interval_and_labels_are_escaped() -> None:
    rows = [Dot("set <1>"), Dot("a", 0.5, 0.4, 0.6), Dot("b", 0.7)]
    figure = interval_chart("x", rows)
    assert figure.count('class="line') == 1
    assert "set &lt;1&gt;" in figure
    svg(figure)
