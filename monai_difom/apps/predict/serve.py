"""A page in the browser: drop an image, see the contour, the probability and the milliseconds."""

from __future__ import annotations

import html
import ipaddress
import json
import os
import shutil
import socket
import sys
import tempfile
import time
import weakref
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ..deployed.facts import METADATA
from ..deployed.optional import require
from ..deployed.runners import Runner, open_runner
from .contours import COLORS, draw_contours
from .sources import BadPictureError, read_picture

# the page loads nothing from elsewhere, whatever a component asks for
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; connect-src 'self'; worker-src 'self' blob:; frame-ancestors 'none'"
)
_SYSTEM = ["system-ui", "sans-serif"]
_KEPT_SECONDS = 600


def look(
    runner: Runner, path: str | os.PathLike, threshold: float | None = None
) -> tuple[np.ndarray, np.ndarray, str]:
    """Segment one picture for the page.

    Args:
        runner: of `open_runner`.
        path: the picture.
        threshold: probability from which a pixel counts; None takes the model's.

    Returns:
        The picture with contours and the map of the probability, both ``(H, W, 3)``, 8 bits; and the figures as HTML.

    Raises:
        BadPictureError: it cannot be read, or is too large.
    """
    picture = read_picture(path, len(runner.facts.mean))
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
    stops = np.array([(0, 0, 0), (0, 60, 130), COLORS[0], (255, 255, 255)], float)
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


def make_page(runner: Runner, title: str) -> Any:
    """Return the gradio page of a model; see `serve`."""
    gradio = require("gradio")

    def show(path: str | None, threshold: float) -> tuple[Any, Any, str]:
        if path is None:
            return None, None, ""
        try:
            return look(runner, path, threshold)
        except BadPictureError as error:
            # the visitor knows the file by another name than the server
            raise gradio.Error(str(error).replace(str(path), "The file")) from error

    with gradio.Blocks(
        analytics_enabled=False, title=title, delete_cache=(_KEPT_SECONDS, _KEPT_SECONDS)
    ) as page:
        gradio.Markdown(
            f"# {title}\nDrop an image. It stays on this machine. Research only, not a medical device."
        )
        shown = {"format": "png", "interactive": False, "height": 330, "buttons": ["download", "fullscreen"]}
        with gradio.Row():
            given = gradio.Image(
                type="filepath",
                image_mode=None,
                sources=["upload", "clipboard"],
                label="Image",
                elem_id="given",
                height=330,
                buttons=[],
            )
            contour = gradio.Image(label="Contour", elem_id="contour", **shown)
            probability = gradio.Image(label="Probability", elem_id="probability", **shown)
        with gradio.Row():
            threshold = gradio.Slider(
                0.05, 0.95, runner.facts.threshold, step=0.05, label="A pixel counts from this probability on"
            )
            figures = gradio.HTML(elem_id="figures", scale=2)
        for event in (given.change, threshold.release):
            event(show, [given, threshold], [contour, probability, figures], api_visibility="private")
    return page


def serve(
    model: str | os.PathLike,
    engine: str | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    upload_limit: float = 20,
    wait: bool = True,
    trust_torchscript: bool = False,
) -> Any:
    """Open the page of a model.

    Uploaded images lie in a folder of their own, which is emptied every ten minutes and removed at the end. Nothing is sent
    anywhere, nothing is loaded from elsewhere, and no uploaded file is read but as a picture.

    Args:
        model: of `open_runner`.
        engine: of `open_runner`.
        host: address to listen at.
        port: port; 0 takes a free one.
        upload_limit: largest file, in megabytes.
        wait: serve until the process is interrupted.
        trust_torchscript: of `open_runner`.

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
    folder = tempfile.mkdtemp(prefix="difom_")
    # read when gradio is imported
    os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False")
    gradio = require("gradio")
    page = make_page(runner, _title(runner))
    weakref.finalize(page, shutil.rmtree, folder, ignore_errors=True)  # at the end of the process too
    page.launch(
        server_name=host,
        server_port=port or _free_port(host),
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        ssr_mode=False,
        max_file_size=int(upload_limit * 1e6),
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        app_kwargs={"middleware": [_policy()], "docs_url": None, "redoc_url": None},
        theme=gradio.themes.Base(
            font=_SYSTEM, font_mono=["monospace"], primary_hue="sky", neutral_hue="slate"
        ),
        css=(files("monai_difom.apps.predict") / "serve.css").read_text(encoding="utf-8"),
    )
    if wait:
        print(f"{runner.file} ({runner.engine}): {page.local_url}   Ctrl-C ends it.", flush=True)
        if not _is_own(host):
            print(f"Whoever reaches {host} can use the page; it asks for no password.", file=sys.stderr)
        page.block_thread()
    return page


def _free_port(host: str) -> int:
    with socket.socket() as opened:
        opened.bind((host, 0))
        return int(opened.getsockname()[1])


def _policy() -> Any:
    """Return the middleware that adds the content policy to every answer."""
    from starlette.middleware import Middleware

    class Policy:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def sent(message: Any) -> None:
                if message["type"] == "http.response.start":
                    extra = {
                        b"content-security-policy": _POLICY.encode(),
                        b"x-content-type-options": b"nosniff",
                    }
                    message["headers"] = [*message.get("headers", []), *extra.items()]
                await send(message)

            await self.app(scope, receive, sent)

    return Middleware(Policy)


def _is_own(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _title(runner: Runner) -> str:
    file = runner.file.parent.parent / METADATA
    metadata = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return str(metadata.get("task") or metadata.get("name") or runner.file.name)


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
