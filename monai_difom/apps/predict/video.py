"""Writes a video that browsers play: H.264, or VP9 where there is no coder for it, by PyAV, one frame at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..deployed.optional import require

#: coders that browsers have the other half of, the best known first, with their settings for good pictures; of H.264 the
#: quickest, a third to a fifth of the time of ``veryfast`` for files half as large again: the network needs the cores
CODERS = {
    "libx264": {"crf": "20", "preset": "ultrafast"},
    "libvpx-vp9": {"crf": "28", "b": "0", "deadline": "realtime", "cpu-used": "6"},
}


@contextmanager
def video_writer(file: Path, rate: float) -> Iterator[Any]:
    """Yield a function that adds a picture ``(H, W, 3)``, 8 bits, to an MP4 file.

    The file is whole when the context ends, and its index stands at its head, so that a browser plays it while it loads. Sides
    are made even, as these codecs want them, by repeating the last row or column.

    Args:
        file: where to write; nothing is written without a picture.
        rate: frames per second.

    Raises:
        ValueError: PyAV is absent, or has none of the `CODERS`.
    """
    av = require("av")
    opened: list[Any] = []

    def add(picture: np.ndarray) -> None:
        rows, columns = (side % 2 for side in picture.shape[:2])
        even = np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge") if rows or columns else picture
        if not opened:
            opened.extend(_open(av, file, rate, even.shape))
        container, stream = opened
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        container.mux(stream.encode(frame))

    try:
        yield add
        if opened:
            opened[0].mux(opened[1].encode())
    finally:
        if opened:
            opened[0].close()


def _open(av: Any, file: Path, rate: float, shape: tuple[int, ...]) -> tuple[Any, Any]:
    name = next((name for name in CODERS if name in av.codecs_available), None)
    if name is None:
        raise ValueError(
            f"PyAV has no coder for {file}: needed is one of {', '.join(CODERS)}. Leave out --overlay."
        )
    container = av.open(str(file), "w", format="mp4", options={"movflags": "+faststart"})
    stream = container.add_stream(name, rate=Fraction(rate).limit_denominator(1001), options=CODERS[name])
    stream.height, stream.width, stream.pix_fmt = shape[0], shape[1], "yuv420p"
    return container, stream
