"""The page shows what the student finds, to this machine only, and loads nothing from elsewhere."""

from __future__ import annotations

import json
import pickle
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from monai_difom.__main__ import main
from monai_difom.apps.deployed.runners import open_runner
from monai_difom.apps.predict.serve import heat, look
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
