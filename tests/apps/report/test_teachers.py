"""What several teachers did is on the page of a run that followed them, and on no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_difom.apps.report import write_report
from tests.apps.runs.folders import write_scores, write_training


@pytest.fixture
def followed(tmp_path: Path) -> Path:
    """A run whose history and summary hold the diagnostics of two teachers in its first phase."""
    run = tmp_path / "agglomerated"
    write_scores(run / "synthetic.csv", ["a.png", "b.png"])
    write_training(run, ("sam", "medclip"))
    history = json.loads((run / "history.json").read_text())
    for epoch in history[:4]:
        epoch["balance"] = {"sam": 1.0 + epoch["epoch"] / 10, "medclip": 1.0 - epoch["epoch"] / 10}
        epoch["share"] = {"sam": 0.75, "medclip": 0.25}
        epoch["gradient_cosine"] = {"sam|medclip": -0.125}
    (run / "history.json").write_text(json.dumps(history))
    summary = json.loads((run / "summary.json").read_text())
    summary["balancer"] = {
        "name": "MLPBalancer",
        "sources": {"sam": "sam/stride16", "medclip": "medclip/stride32"},
        "start": {"sam": 0.101, "medclip": 0.102},
        "phases": [
            {"name": "distil", "cka": {"sam": 0.703, "medclip": 0.404}},
            {"name": "refine", "cka": {"sam": 0.605}},
        ],
    }
    (run / "summary.json").write_text(json.dumps(summary))
    return run


def test_curves_and_likeness_are_on_the_page(followed: Path) -> None:
    html = write_report([followed], followed / "report.html").read_text()
    for part in (
        "Teachers side by side",
        "MLPBalancer",
        "Weight by the balancer",
        "Share of the distillation loss",
        "Cosine between the teachers&#39; gradients",
        "sam and medclip",
        "medclip/stride32",
    ):
        assert part in html
    for figure in ("0.101", "0.703", "0.605"):
        assert figure in html


def test_a_run_without_teachers_to_compare_has_no_such_section(tmp_path: Path) -> None:
    write_scores(tmp_path / "synthetic.csv", ["a.png", "b.png"])
    write_training(tmp_path)
    assert "Teachers side by side" not in write_report([tmp_path], tmp_path / "report.html").read_text()
