"""The page says what the runs say, needs nothing from outside, and a real browser shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from monai_difom.__main__ import main
from monai_difom.apps.report import after_training, conclude, write_report
from monai_difom.apps.report.columns import make_columns
from monai_difom.apps.runs.examples import load_examples
from monai_difom.apps.runs.run import RunError, read_run
from tests.apps.runs.folders import OLD, write_pair, write_scores, write_training
from tests.browser import open_browser


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return write_pair(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def written(pair: tuple[Path, Path, Path]) -> Path:
    alone, distilled, _ = pair
    return write_report([alone, distilled], alone.parent / "report.html")


def sections(html: str) -> list[str]:
    return re.findall(r"<h2>([^<]*)</h2>", html)


def test_every_section_is_there_and_the_undistilled_run_is_the_baseline(written: Path) -> None:
    html = written.read_text()
    assert sections(html) == [
        "Results",
        "Paired comparison",
        "Pictures",
        "By size of the structure",
        "Training, by phase",
        "Collapse monitor",
        "What the student takes over",
        "Cost",
        "What was trained with what",
    ]
    assert "<b>+0.200</b> (+0.200 to +0.200) against alone: better" in html
    assert "Apache-2.0" in html
    assert "a &lt;b&gt;file&lt;/b&gt;" in html  # what comes from outside is no markup


def test_the_maximum_e_measure_of_a_set_is_that_of_its_evaluation(tmp_path: Path) -> None:
    write_scores(tmp_path / "run" / "set.csv", ["a.png", "b.png"])
    summary = {"test_sets": {"set": {"e_measure_max": 0.4321}}}
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps(summary))
    html = write_report([tmp_path / "run"], tmp_path / "report.html").read_text()
    assert "max of each image" in html
    row = html[html.index("as published") :]
    assert "<td>0.432</td>" in row[: row.index("</tr>")]


def test_the_page_needs_no_network(written: Path) -> None:
    html = written.read_text()
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", html)
    assert "url(" not in html
    assert "import" not in html[html.index("<script>") :]
    assert written.stat().st_size < 3e6


def test_the_contents_lead_to_every_section(written: Path) -> None:
    html = written.read_text()
    listed = re.findall(r'<li><a href="#([^"]*)">([^<]*)</a>', html)
    assert [title for _, title in listed] == sections(html)
    assert all(f'<section id="{name}">' in html for name, _ in listed)


HOSTILE = '<img src=x onerror="document.title=1">&\'"{{ 7*7 }}</script><script>document.title=1</script>'


def test_what_files_say_is_text_wherever_it_is_shown(tmp_path: Path, browser: Any) -> None:
    name = "a<b>'&{{7*7}}_<script>document.title=1<\u2215script>"
    images = [f"/d/t/{number} {HOSTILE.replace('/', '_')}.png" for number in range(6)]
    alone, run = tmp_path / f"{name}_alone", tmp_path / name
    write_training(alone)
    write_training(run, (HOSTILE, "low"), collapsed=True)
    for folder in (alone, run):
        write_scores(folder / f"set{name}.csv", images, 0.1 * (folder == run))
        file = folder / "summary.json"
        summary = json.loads(file.read_text()) | {"about": {"task": HOSTILE, "data_source": HOSTILE}}
        summary["student"]["network"] = HOSTILE
        summary["versions"] = {HOSTILE: HOSTILE}
        summary["balancer"] = {"name": HOSTILE, "start": {HOSTILE: 0.5}, "sources": {HOSTILE: HOSTILE}}
        for teacher in summary["teachers"].values():
            teacher |= {"source": HOSTILE, "licence": HOSTILE}
        file.write_text(json.dumps(summary))
        entry = {"height": 9, "width": 9, "dice": 0.5, "truth": '"/><script>', "prediction": HOSTILE}
        entry |= {"foreground": 3, "kind": "worst", "jpeg": ""}
        (folder / "examples").mkdir()
        (folder / "examples" / f"set{name}.json").write_text(json.dumps({"images": {images[0]: entry}}))
        record = {"sessions": [{"started": "2026-01-01T00:00:00", "command": HOSTILE, "device": HOSTILE}]}
        (folder / "run.json").write_text(json.dumps({**record, "seed": HOSTILE}))
        (folder / "config.yaml").write_text(
            json.dumps({"dataset_dir": HOSTILE, "image_size": HOSTILE, "d": folder.name})
        )
    html = write_report([run], tmp_path / "r.html", [alone]).read_text()
    assert html.count("<script") == 1
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", html)[0]
    show(browser, tmp_path / "r.html", 1280)
    assert browser.title.startswith("Report: a<b>")
    assert browser.execute_script("return document.querySelectorAll('[onerror], img[src=x]').length") == 0


def test_a_run_has_the_same_colour_on_its_own_page_and_beside_its_control(
    pair: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    alone, distilled, _ = pair
    runs = [read_run(alone), read_run(distilled)]
    together = {column.label: column.style for column in make_columns(runs)}
    for run in runs:
        (column,) = make_columns([run])
        assert column.style == together[column.label]
    assert len(set(together.values())) == 2


def test_the_markup_is_balanced(written: Path) -> None:
    open_tags: list[str] = []
    void = {"meta", "link", "img", "br", "wbr"}

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag not in void:
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

        def handle_startendtag(self, tag: str, attrs: Any) -> None:
            pass

    Checker().feed(written.read_text())
    assert open_tags == []


def test_a_baseline_and_a_teacher_may_be_named(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    alone, distilled, data = pair
    images = sorted(str(p) for p in (data / "TestDataset" / "synthetic" / "images").iterdir())
    write_scores(tmp_path / "big" / "synthetic.csv", images, 0.25)
    out = tmp_path / "out.html"
    words = ["report", str(distilled), "--baseline", str(alone), "--teacher", str(tmp_path / "big")]
    assert main([*words, "--output", str(out)]) == 0
    html = out.read_text()
    assert '<span class="ends">teacher</span>' in html
    assert "big" in html


def test_an_old_run_without_columns_or_pictures_is_shown_and_its_gaps_named(tmp_path: Path) -> None:
    write_training(tmp_path / "old", ("low",), collapsed=True)
    write_scores(tmp_path / "old" / "x.csv", [f"/d/x/images/{i}.png" for i in "abc"], columns=OLD)
    html = write_report([tmp_path / "old"], tmp_path / "r.html").read_text()
    assert "lack the columns foreground" in html
    assert "kept no outlines" in html
    assert "the distillation of low has collapsed" in html


def test_an_interrupted_run_is_shown_without_scores(tmp_path: Path) -> None:
    write_training(tmp_path / "cut", ("low",))
    (tmp_path / "cut" / "summary.json").unlink()
    html = write_report([tmp_path / "cut"], tmp_path / "r.html").read_text()
    assert "no test set was scored" in html
    assert "The run is not finished" in html
    assert "Training, by phase" in html
    assert "Results" not in sections(html)


def test_seeds_of_one_recipe_share_a_column(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_training(tmp_path / f"x_{seed}", ("low",))
        write_scores(tmp_path / f"x_{seed}" / "t.csv", [f"/d/t/images/{i}.png" for i in "abcd"], 0.1 * seed)
    html = write_report([tmp_path / "x_0", tmp_path / "x_1"], tmp_path / "r.html").read_text()
    assert "x (2 runs)" in html


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "there is no run at" in capsys.readouterr().err
    with pytest.raises(RunError, match="no run was given"):
        write_report([], tmp_path / "r.html")


def test_a_report_that_fails_does_not_lose_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(after_training, "finish_record", lambda *_: None)
    monkeypatch.setattr(after_training, "measure_cost", fail)
    conclude(None, {}, None, tmp_path)  # type: ignore[arg-type]
    assert "OSError: disk full" in caplog.text
    assert "python -m monai_difom report" in caplog.text


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from open_browser(tmp_path_factory.mktemp("profile"))


def show(browser: Any, file: Path, width: int) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(file.as_uri())


def test_a_phone_loses_no_column(browser: Any, written: Path) -> None:
    show(browser, written, 390)
    cut = """return [...document.querySelectorAll('table')].filter(t => !t.closest('details'))
        .filter(t => t.scrollWidth > t.parentElement.clientWidth + 1).map(t => t.textContent.slice(0, 80))"""
    assert browser.execute_script(cut) == []
    labels = "return [...document.querySelectorAll('#paired-comparison td .label')].map(e => e.innerText)"
    assert "worse" in browser.execute_script(labels)


def test_every_picture_opens_large_and_they_can_be_put_in_order(browser: Any, written: Path) -> None:
    show(browser, written, 1280)
    width = "return document.querySelector('button.shot').getBoundingClientRect().width"
    small = browser.execute_script(width)
    browser.execute_script("document.querySelector('button.shot').click()")
    assert browser.execute_script(width) > 2 * small
    press = "document.dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0]}))"
    browser.execute_script(press, "ArrowRight")
    opened = "return [...document.querySelectorAll('button')].findIndex(b => b.closest('.large'))"
    assert browser.execute_script(opened) == 1
    browser.execute_script(press, "Escape")
    assert browser.execute_script(opened) == -1
    order = "return [...document.querySelector('.tiles').children].map(t => Number(t.dataset.dice))"
    first = browser.execute_script(order)
    choose = """const s = document.querySelector('.sorting select'); s.value = arguments[0];
        s.dispatchEvent(new Event('change', {bubbles: true}))"""
    browser.execute_script(choose, "-dice")
    assert browser.execute_script(order) == sorted(first, reverse=True)
    browser.execute_script(choose, "")
    assert browser.execute_script(order) == first


def test_every_test_image_is_on_the_page_and_of_a_large_set_the_worst(
    pair: tuple[Path, Path, Path], written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = read_run(pair[1])
    (name, entries), *_ = load_examples(run.folder).items()
    html = written.read_text()
    listed = html[html.index(f"All {len(entries)} images: {name}, ") :]
    listed = listed[: listed.index("</details>")]
    assert listed.count("<figure") == len(entries)
    monkeypatch.setattr("monai_difom.apps.report.pictures.LISTED", 2)
    html = write_report([run.folder], tmp_path / "few.html").read_text()
    assert f"The 2 lowest of {len(entries)} images" in html


@pytest.mark.parametrize("width", [1280, 360])
def test_a_browser_shows_all_pictures_without_an_error_or_sideways_scrolling(
    browser: Any, written: Path, width: int
) -> None:
    browser.get_log("browser")  # of pages shown before
    show(browser, written, width)
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []
    loaded = browser.execute_script("return [...document.images].map(i => i.naturalWidth)")
    assert len(loaded) > 8
    assert all(loaded)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return document.querySelectorAll('svg.chart').length") >= 8


def test_the_page_turns_dark_and_prints_in_light(browser: Any, written: Path) -> None:
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    show(browser, written, 1280)
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(ground)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
    assert browser.execute_script(ground) != light
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": dark})
    assert browser.execute_script(ground) == "rgb(255, 255, 255)"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
