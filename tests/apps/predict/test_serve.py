"""The page shows what the student finds, to this machine only, and loads nothing from elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from monai_difom.__main__ import main
from monai_difom.apps.deployed.runners import open_runner
from monai_difom.apps.predict.guard import Guard, allowed_hosts, refusal
from monai_difom.apps.predict.serve import _title, example_pictures, heat, look
from monai_difom.apps.predict.sources import BadPictureError
from tests.apps.deployed.students import blob, write_pictures
from tests.browser import open_browser

pytestmark = pytest.mark.xdist_group("exported")


def test_a_look_gives_contour_probability_and_figures(finished: Path, tmp_path: Path) -> None:
    (path,) = write_pictures(tmp_path, 1)
    runner = open_runner(finished)
    contour, probability, figures = look(runner, path)
    assert contour.shape == probability.shape == (40, 60, 3)
    assert (contour != blob(0)[0]).any()
    mask = runner.facts.masks(runner.probabilities(blob(0)[0]))[0]
    assert f"{100 * mask.mean():.1f} %" in figures
    assert " ms<" in figures
    assert "polyp" in figures
    assert "nothing found" in look(runner, path, threshold=1.0)[2]


def test_the_colours_of_the_probability_rise_in_brightness() -> None:
    levels = heat(np.linspace(0, 1, 50)[None])[0].astype(int).sum(-1)
    assert (np.diff(levels) >= 0).all()
    assert (levels[0], levels[-1]) == (0, 765)


def test_what_is_no_picture_is_refused_and_not_unpickled(finished: Path, tmp_path: Path) -> None:
    file = tmp_path / "evil.png"
    file.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(BadPictureError, match="cannot be read as an image"):
        look(open_runner(finished), file)


def test_without_gradio_the_extra_is_named(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["serve", "--model", str(finished)]) == 2
    assert 'pip install "monai-difom[serve]"' in capsys.readouterr().err


@pytest.fixture(scope="module")
def page(finished: Path) -> Iterator[Any]:
    pytest.importorskip("gradio")
    from monai_difom.apps.predict.serve import serve

    opened = serve(finished, port=0, upload_limit=0.05, wait=False)
    yield opened
    opened.close()


def test_it_listens_to_this_machine_only_and_forbids_what_is_elsewhere(page: Any) -> None:
    assert page.local_url.startswith("http://127.0.0.1:")
    assert not page.share
    assert not page.analytics_enabled
    with urllib.request.urlopen(page.local_url) as answer:
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "fonts.g" not in answer.read().decode()


def test_a_file_above_the_limit_is_refused(page: Any) -> None:
    edge = "b0undary"
    body = (
        f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'.encode()
        + bytes(200_000)
        + f"\r\n--{edge}--\r\n".encode()
    )
    request = urllib.request.Request(f"{page.local_url}gradio_api/upload", body)
    request.add_header("Content-Type", f"multipart/form-data; boundary={edge}")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 413


def ask(page: Any, **headers: str) -> tuple[int, str]:
    """Status and body of the page, asked for with other headers."""
    request = urllib.request.Request(page.local_url, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example", "192.168.0.1:80", "[", ""])
def test_a_request_under_the_name_of_another_machine_is_refused_with_the_reason(page: Any, name: str) -> None:
    status, body = ask(page, Host=name)
    assert status == 403
    assert "--allow-host" in body or "cannot be read" in body


@pytest.mark.parametrize("own", ["http://127.0.0.1:1", "https://evil.example", "null", "file://", "http://["])
def test_a_request_from_another_page_is_refused_with_the_reason(page: Any, own: str) -> None:
    status, body = ask(page, Origin=own)
    assert status == 403
    assert "may not use this one" in body or "cannot be read" in body


def test_requests_from_the_page_itself_are_answered(page: Any) -> None:
    port = page.local_url.rstrip("/").rpartition(":")[2]
    assert ask(page, Origin=page.local_url.rstrip("/"))[0] == 200
    assert ask(page, Host=f"localhost:{port}", Origin=f"http://localhost:{port}")[0] == 200


def test_an_open_page_takes_addresses_and_the_names_that_it_was_given() -> None:
    names = allowed_hosts("0.0.0.0", ["clinic.example"])
    assert refusal({"host": "10.0.0.7:80", "origin": "http://10.0.0.7:80"}, "0.0.0.0", names) == ""
    assert refusal({"host": "Clinic.example", "origin": "https://clinic.example"}, "0.0.0.0", names) == ""
    assert "'evil.example'" in refusal({"host": "evil.example"}, "0.0.0.0", names)
    assert refusal({"host": "10.0.0.7"}, "127.0.0.1", allowed_hosts("127.0.0.1"))


def test_an_image_of_too_many_pixels_is_refused_before_it_is_unpacked(finished: Path, tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    runner = open_runner(finished)
    with pytest.raises(BadPictureError, match="20000 x 20000 pixels, above the limit"):
        look(runner, tmp_path / "bomb.png")
    with pytest.raises(BadPictureError, match="above the limit of 100"):
        look(runner, write_pictures(tmp_path, 1)[0], pixel_limit=100)


def test_the_title_of_a_bundle_is_no_markup(finished: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(finished / "bundle", tmp_path / "bundle")
    file = bundle / "configs" / "metadata.json"
    file.write_text(
        json.dumps({**json.loads(file.read_text()), "task": "<img src=x onerror=alert(1)> [a](b)\n# c"})
    )
    title = _title(open_runner(bundle))
    assert not set(title) & set("<>[]#`*_!&")


def answers(app: Any, body: bytes = b"", limit: int = 100) -> list[dict[str, Any]]:
    """What a guarded application answers to one request."""
    sent: list[dict[str, Any]] = []
    chunks = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return chunks.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    guard = Guard(app, "127.0.0.1", allowed_hosts("127.0.0.1"), limit)
    asyncio.run(guard({"type": "http", "headers": [(b"host", b"127.0.0.1:80")]}, receive, send))
    return sent


def test_whatever_goes_wrong_the_answer_says_why() -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("the disk is full")

    async def reads(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    begun, body = answers(fails)
    assert begun["status"] == 500
    assert b"the disk is full" in body["body"]
    begun, body = answers(reads, b"x" * 200_000)
    assert begun["status"] == 413
    assert b"larger than" in body["body"]


def test_uploads_are_gone_after_a_kill_by_sigterm(finished: Path, tmp_path: Path) -> None:
    left = tmp_path / "difom_uploads_999999999_old"  # of a page that was killed hard
    left.mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    words = [sys.executable, "-m", "monai_difom", "serve", "--model", str(finished), "--port", "0"]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert "http://127.0.0.1" in (process.stdout.readline() if process.stdout else "")
        (folder,) = tmp_path.glob("difom_uploads_*")
        (folder / "patient.png").write_bytes(b"secret")
        process.terminate()
        assert process.wait(60) == 128 + 15
    assert not list(tmp_path.glob("difom_uploads_*"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from open_browser(tmp_path_factory.mktemp("profile"))


def wait_for(browser: Any, selector: str, seconds: float = 60) -> Any:
    """The first element of a selector, when it is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = browser.find_elements("css selector", selector)
        if found:
            return found[0]
        time.sleep(0.1)
    raise AssertionError(f"{selector} did not appear: {browser.get_log('browser')}")


def test_a_browser_drops_an_image_and_sees_contour_probability_and_time(
    page: Any, browser: Any, tmp_path: Path
) -> None:
    (path,) = write_pictures(tmp_path, 1)
    browser.get(page.local_url)
    wait_for(browser, "#given input[type=file]").send_keys(str(path))
    assert " ms" in wait_for(browser, "#figures .time").text
    for name in ("contour", "probability"):
        image = wait_for(browser, f"#{name} img")
        address = image.get_attribute("src")
        with urllib.request.urlopen(address) as answer:
            assert Image.open(answer).size == (60, 40)
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"]
    assert urls
    own = (page.local_url, "data:", "blob:", "chrome:", "chrome-untrusted:")
    assert [url for url in urls if not url.startswith(own)] == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.parametrize("width", [1280, 390])
def test_an_example_is_shown_and_nothing_jumps_when_its_result_comes(
    page: Any, browser: Any, width: int
) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.local_url)
    button = wait_for(browser, "#example")
    places = """return ['given', 'contour', 'probability', 'bar', 'figures'].map(name => {
        const box = document.getElementById(name).getBoundingClientRect();
        return [Math.round(box.top + scrollY), Math.round(box.height)]})"""
    time.sleep(1)
    before = browser.execute_script(places)
    browser.execute_script("arguments[0].click()", button)
    assert " ms" in wait_for(browser, "#figures .time").text
    wait_for(browser, "#probability img")
    assert browser.execute_script(places) == before
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.find_element("css selector", "#bar").text.split() == ["0", "probability", "1"]
    assert "polyp" in browser.find_element("css selector", "#legend").text


def test_test_images_of_a_run_are_examples_on_this_machine_only(finished: Path) -> None:
    runner = open_runner(finished)
    kept = example_pictures(runner, own=True)
    assert len(kept) == 3
    (synthetic,) = example_pictures(runner, own=False)
    assert synthetic not in kept
    assert synthetic.startswith(b"\x89PNG")
