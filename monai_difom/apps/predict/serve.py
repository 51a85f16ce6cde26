"""A page in the browser: drop an image, see the contour, the probability and the milliseconds."""

from __future__ import annotations

import base64
import html
import io
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
import uuid
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...data.synthetic import polyp_image
from ...utils.documents import read_json
from ..deployed.facts import METADATA
from ..deployed.optional import require
from ..deployed.runners import Runner, open_runner
from ..runs.examples import load_examples
from ..runs.folder import RunFolder
from .contours import COLORS, draw_contours
from .guard import Guard, allowed_hosts, is_loopback
from .sources import PIXEL_LIMIT, BadPictureError, read_picture

_SYSTEM = ["system-ui", "sans-serif"]
_KEPT_SECONDS = 600
_UPLOADS = "difom_uploads_"
_HEIGHT = 330
# of the map of the probability, black to white
_STOPS = ((0, 0, 0), (0, 60, 130), COLORS[0], (255, 255, 255))
_COLOUR_BAR = (
    f"<b style='background:linear-gradient(90deg,{','.join(f'rgb{stop}' for stop in _STOPS)})'></b>"
    "<p><span>0</span><span>probability</span><span>1</span></p>"
)


def look(
    runner: Runner, path: str | os.PathLike, threshold: float | None = None, pixel_limit: int = PIXEL_LIMIT
) -> tuple[np.ndarray, np.ndarray, str]:
    """Segment one picture for the page.

    Args:
        runner: of `open_runner`.
        path: the picture.
        threshold: probability from which a pixel counts; None takes the model's.
        pixel_limit: highest height times width.

    Returns:
        The picture with contours and the map of the probability, both ``(H, W, 3)``, 8 bits; and the figures as HTML.

    Raises:
        BadPictureError: it cannot be read, or is too large.
    """
    picture = read_picture(path, len(runner.facts.mean), pixel_limit)
    begun = time.perf_counter()
    probabilities = runner.probabilities(picture)
    milliseconds = 1000 * (time.perf_counter() - begun)
    facts = runner.facts if threshold is None else replace(runner.facts, threshold=threshold)
    masks = facts.masks(probabilities)
    return (
        draw_contours(picture, masks),
        heat(probabilities.max(0)),
        _figures(facts.structures, probabilities, masks, milliseconds),
    )


def heat(probability: np.ndarray) -> np.ndarray:
    """Return a map of probabilities ``(H, W)`` as colours: black, blue, the first contour's blue, white."""
    stops = np.array(_STOPS, float)
    places = np.linspace(0, 1, len(stops))
    channels = [np.interp(probability, places, stops[:, i]) for i in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def _figures(
    structures: tuple[str, ...], probabilities: np.ndarray, masks: np.ndarray, milliseconds: float
) -> str:
    rows = "".join(
        f"<tr><td><i style='background:rgb{COLORS[i % len(COLORS)]}'></i>{html.escape(name)}</td>"
        f"<td>{100 * mask.mean():.1f} %</td><td>{probability.max():.2f}</td>"
        f"<td>{f'{probability[mask].mean():.2f}' if mask.any() else 'nothing found'}</td></tr>"
        for i, (name, probability, mask) in enumerate(zip(structures, probabilities, masks, strict=True))
    )
    head = "<tr><th></th><th>share of the image</th><th>highest probability</th><th>mean inside</th></tr>"
    size = f"{masks.shape[2]} &times; {masks.shape[1]} pixels"
    return f"<p class='time'><b>{milliseconds:.0f} ms</b> &nbsp; {size}</p><table class='figures'>{head}{rows}</table>"


def make_page(runner: Runner, title: str, pixel_limit: int = PIXEL_LIMIT, own_examples: bool = False) -> Any:
    """Return the gradio page of a model; see `serve` and `example_pictures`."""
    gradio = require("gradio")
    examples = example_pictures(runner, own_examples)

    def show(path: str | None, threshold: float) -> tuple[Any, Any, str]:
        if path is None:
            return None, None, ""
        try:
            return look(runner, path, threshold, pixel_limit)
        except BadPictureError as error:
            # the visitor knows the file by another name than the server
            raise gradio.Error(str(error).replace(str(path), "The file")) from error
        except Exception as error:
            raise gradio.Error(
                f"The image could not be segmented: {type(error).__name__}: {error}"
            ) from error

    with gradio.Blocks(
        analytics_enabled=False, title=title, delete_cache=(_KEPT_SECONDS, _KEPT_SECONDS)
    ) as page:
        gradio.Markdown(
            f"# {title}\nDrop an image. It stays on this machine. Research only, not a medical device."
        )
        shown = {
            "format": "png",
            "interactive": False,
            "height": _HEIGHT,
            "buttons": ["download", "fullscreen"],
        }
        with gradio.Row():
            with gradio.Column(min_width=280):
                given = gradio.Image(
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard"],
                    label="Image",
                    elem_id="given",
                    height=_HEIGHT,
                    buttons=[],
                )
                example = gradio.Button("Show an example", elem_id="example", size="sm")
            with gradio.Column(min_width=280):
                contour = gradio.Image(label="Contour", elem_id="contour", **shown)
                gradio.HTML(_legend(runner.facts.structures), elem_id="legend")
            with gradio.Column(min_width=280):
                probability = gradio.Image(label="Probability", elem_id="probability", **shown)
                gradio.HTML(_COLOUR_BAR, elem_id="bar")
        with gradio.Row(elem_id="controls"):
            threshold = gradio.Slider(
                0.05, 0.95, runner.facts.threshold, step=0.05, label="A pixel counts from this probability on"
            )
            # as high from the start as with its figures, so that nothing jumps when they come
            figures = gradio.HTML(
                elem_id="figures", scale=2, min_height=96 + 40 * len(runner.facts.structures)
            )
        for event in (given.change, threshold.release):
            event(
                show,
                [given, threshold],
                [contour, probability, figures],
                api_visibility="private",
                show_progress="minimal",
            )
        number = gradio.State(0)
        example.click(
            lambda number: (write_example(examples[number % len(examples)]), number + 1),
            number,
            [given, number],
            api_visibility="private",
            show_progress="hidden",
        )
    return page


def example_pictures(runner: Runner, own: bool) -> list[bytes]:
    """Return pictures to try the page with.

    Args:
        runner: of `open_runner`.
        own: take the test images that the model's run kept, where it did; they may be a patient's, and are for this machine
            alone. Else, and without them, a synthetic one.
    """
    places = runner.file.parents if own else ()
    run = next((place for place in places if RunFolder(place).examples()), None)
    entries = [entry for found in load_examples(run).values() for entry in found.values()] if run else []
    kept = sorted((entry for entry in entries if "jpeg" in entry), key=lambda entry: -float(entry["dice"]))
    if kept:
        return [base64.b64decode(entry["jpeg"]) for entry in kept]
    stream = io.BytesIO()
    picture, _ = polyp_image(np.random.default_rng(4), 256)
    Image.fromarray(picture).save(stream, "PNG")
    return [stream.getvalue()]


def write_example(content: bytes) -> str:
    """Write an example where uploads lie, which is emptied like them, and return its file."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"]) / uuid.uuid4().hex
    folder.mkdir(parents=True)
    file = folder / ("example.png" if content[1:4] == b"PNG" else "example.jpg")
    file.write_bytes(content)
    return str(file)


def _legend(structures: Sequence[str]) -> str:
    """The colours of the contours, by structure."""
    return "".join(
        f"<span><i style='background:rgb{COLORS[i % len(COLORS)]}'></i>{html.escape(name)}</span>"
        for i, name in enumerate(structures)
    )


def serve(
    model: str | os.PathLike,
    engine: str | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    upload_limit: float = 20,
    wait: bool = True,
    trust_torchscript: bool = False,
    pixel_limit: int = PIXEL_LIMIT,
    allow_host: Sequence[str] = (),
) -> Any:
    """Open the page of a model.

    Uploaded images lie in a folder of their own, which is emptied every ten minutes and removed at the end, by Ctrl-C and
    SIGTERM too. Nothing is sent anywhere, nothing is loaded from elsewhere, and no uploaded file is read but as a picture. A
    request under another name than this machine's, or from a page of another site, is refused.

    Args:
        model: of `open_runner`.
        engine: of `open_runner`.
        host: address to listen at.
        port: port; 0 takes a free one.
        upload_limit: largest file, in megabytes.
        wait: serve until the process is interrupted.
        trust_torchscript: of `open_runner`.
        pixel_limit: highest height times width of an image; checked before it is unpacked.
        allow_host: further names by which the page may be asked for.

    Returns:
        The page, served; ``page.local_url`` is its address and ``page.close()`` ends it.

    Raises:
        ValueError: gradio is absent, or the model is refused.
        OSError: the port is taken.
    """
    runner = open_runner(model, engine, trust_torchscript)
    runner.logits(
        np.zeros((1, len(runner.facts.mean), *runner.facts.size), np.float32)
    )  # the first time takes longer
    if wait:
        for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            signal.signal(number, _end)
    folder = _folder_of_uploads()
    # read when gradio is imported
    os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False")
    gradio = require("gradio")
    from starlette.middleware import Middleware

    page = make_page(runner, _title(runner), pixel_limit, own_examples=is_loopback(host))
    weakref.finalize(page, shutil.rmtree, folder, ignore_errors=True)  # at the end of the process too
    limit = int(upload_limit * 1e6)
    guard = Middleware(Guard, host=host, names=allowed_hosts(host, allow_host), limit=limit)
    page.launch(
        server_name=host,
        server_port=port or _free_port(host),
        share=False,
        _frontend=False,  # does not ask for a public link where the first answer takes more than three seconds
        quiet=True,
        prevent_thread_lock=True,
        ssr_mode=False,
        max_file_size=limit,
        show_error=True,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        app_kwargs={"middleware": [guard], "docs_url": None, "redoc_url": None},
        theme=gradio.themes.Base(
            font=_SYSTEM, font_mono=["monospace"], primary_hue="sky", neutral_hue="slate"
        ),
        css=(files("monai_difom.apps.predict") / "serve.css").read_text(encoding="utf-8"),
    )
    if wait:
        print(f"{runner.file} ({runner.engine}): {page.local_url}   Ctrl-C ends it.", flush=True)
        if not is_loopback(host):
            print(f"Whoever reaches {host} can use the page; it asks for no password.", file=sys.stderr)
        try:
            page.block_thread()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return page


def _end(number: int, _frame: Any) -> None:
    raise SystemExit(128 + number)  # which removes the uploads on its way out


def _folder_of_uploads() -> str:
    """Return a new folder for uploads, and remove those of pages that were killed."""
    for old in Path(tempfile.gettempdir()).glob(f"{_UPLOADS}*"):
        process = old.name.removeprefix(_UPLOADS).partition("_")[0]
        with suppress(ValueError, PermissionError):  # of another person
            try:
                os.kill(int(process), 0)
            except ProcessLookupError:
                shutil.rmtree(old, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{_UPLOADS}{os.getpid()}_")


def _free_port(host: str) -> int:
    with socket.socket() as opened:
        opened.bind((host, 0))
        return int(opened.getsockname()[1])


def _title(runner: Runner) -> str:
    file = runner.file.parent.parent / METADATA
    metadata = read_json(file) if file.is_file() else {}
    title = str(metadata.get("task") or metadata.get("name") or runner.file.name)
    # of a bundle from elsewhere, and shown as markup
    return re.sub(r"[^\w\s.,()-]", " ", title)[:100]


def run_serve(model: Path, **options: Any) -> int:
    """Do what ``python -m monai_difom serve`` asks for; the exit code is 2 where something is refused.

    Args:
        model: see `serve`.
        options: further arguments of `serve`.
    """
    try:
        serve(model, **options)
    except (ValueError, OSError) as error:
        print(f"serve: {error}", file=sys.stderr)
        return 2
    return 0
