"""A report about several structures shows each, and the mean in which they weigh the same."""

from __future__ import annotations

from pathlib import Path

from monai_difom.apps.report import write_report

ROWS = [
    "structure,image,dice,hd95",
    "air,/d/a.png,0.5,1",
    "air,/d/b.png,0.7,3",
    "bolus,/d/a.png,0.1,5",
]


def test_each_structure_has_its_rows_and_the_mean_weighs_them_alike(tmp_path: Path) -> None:
    (tmp_path / "swallows.csv").write_text("\n".join(ROWS) + "\n")
    html = write_report([tmp_path], tmp_path / "report.html").read_text()
    part = html.split("<h2>By structure")[1].split("</section>")[0]
    assert "2 images, 2 structures" in html
    for figure in ("air", "bolus", "0.600", "0.100", "0.350", "3.500"):
        assert figure in part or figure.replace("3.500", "3.5") in part


def test_one_structure_needs_no_such_section(tmp_path: Path) -> None:
    (tmp_path / "polyps.csv").write_text("image,dice\n/d/a.png,0.5\n/d/b.png,0.7\n")
    assert "By structure" not in write_report([tmp_path], tmp_path / "report.html").read_text()
