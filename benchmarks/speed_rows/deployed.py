"""Rows `runtime_speedup`, `int8_speedup` and `video_fps_ratio`: a trained student outside training.

The network is the student of `polyp_difom` with random weights, at 352 px, written and opened by the package's own formats.
Both sides of every ratio have the same number of threads, and are timed by the clock: runtimes differ in how they use them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from monai_difom.apps.deployed.facts import Deployment
from monai_difom.apps.deployed.runners import open_runner
from monai_difom.apps.export.formats import FORMATS
from monai_difom.apps.export.writers import Work
from monai_difom.apps.predict.predict import predict
from monai_difom.apps.predict.video import video_writer
from monai_difom.networks.nets import DifomUNet
from speed_rows.relay import take_turns
from speed_rows.turns import ratio

SIDE = 352


def picture(seed: int, height: int = 512, width: int = 640) -> np.ndarray:
    """Return a smooth picture with a bright spot that moves with the seed, 8-bit RGB."""
    y, x = np.mgrid[:height, :width]
    centre = (height / 2 + 60 * np.sin(seed / 7), width / 2 + 90 * np.cos(seed / 9))
    spot = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * 50**2))
    noise = np.random.default_rng(seed).normal(0, 4, (height, width))
    levels = np.stack([90 + 110 * spot, 50 + 60 * spot, 40 + 40 * x / width], 2) + noise[..., None]
    return levels.clip(0, 255).astype(np.uint8)


def student() -> DifomUNet:
    """Return the student with weights that find the spot, so that there are contours to draw."""
    torch.manual_seed(0)
    network = DifomUNet(2, 3, 1, (16, 32, 64, 128, 192)).eval()
    with torch.no_grad():  # the statistics of these pictures, and half of each as the structure
        images = torch.stack([torch.from_numpy(picture(n)).movedim(-1, 0).float() / 255 for n in range(4)])
        images = torch.nn.functional.interpolate(images, size=(SIDE, SIDE))
        network.train()(images)
        logits = network.eval()(images)
        network.head.bias -= logits.quantile(0.8) if logits.numel() < 1e7 else logits.mean()
    return network


def write(folder: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """Write the student in some formats; return name -> file."""
    facts = Deployment((SIDE, SIDE))
    work = Work(student(), facts, folder / "model.onnx", [picture(n) for n in range(16)])
    files = {name: folder / Path(FORMATS[name].file).name for name in names}
    for name, file in files.items():
        FORMATS[name].write(work, file)
    return files


def runtime(setting: Any) -> dict[str, Any]:
    """Images per second of the fastest format in 16 or 32 bits over those of eager PyTorch."""
    return _runtimes("runtime_speedup", ("torchscript", "onnx", "openvino"), setting)


def int8(setting: Any) -> dict[str, Any]:
    """Images per second of the 8-bit format over those of eager PyTorch."""
    return _runtimes("int8_speedup", ("openvino-int8",), setting)


def _runtimes(key: str, names: tuple[str, ...], setting: Any) -> dict[str, Any]:
    times = 4 if setting.quick else 16
    image = Deployment((SIDE, SIDE)).prepare(picture(0))
    with tempfile.TemporaryDirectory() as place:
        sides = {
            name: open_runner(file, trust_torchscript=True).logits
            for name, file in write(Path(place), names).items()
        }
        sides["eager"] = _eager()
        seconds = take_turns(
            {name: _timed(run, image, times) for name, run in sides.items()}, max(5, setting.rounds)
        )
    speedups = {name: ratio(seconds, "eager", name) for name in names}
    milliseconds = {f"{name}_ms": round(1000 * median(found) / times, 1) for name, found in seconds.items()}
    return {key: max(speedups.values()), **speedups, **milliseconds, "threads": torch.get_num_threads()}


def _eager() -> Callable[[np.ndarray], np.ndarray]:
    network = student()

    def run(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(image)).numpy()

    return run


def _timed(run: Callable[[np.ndarray], np.ndarray], image: np.ndarray, times: int) -> Callable[[], float]:
    def turn() -> float:
        start = time.perf_counter()
        for _ in range(times):
            run(image)
        return time.perf_counter() - start

    return turn


def video(setting: Any) -> dict[str, Any]:
    """Frames per second of ``predict`` with overlay over those of the bare network on the same frames, in ONNX."""
    count = 16 if setting.quick else 96
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        file = write(folder, ("onnx",))["onnx"]
        film = folder / "film.mp4"
        with video_writer(film, 25.0) as add:
            for number in range(count):
                add(picture(number))
        runner = open_runner(file)
        inputs = [runner.facts.prepare(picture(number)) for number in range(count)]
        number = iter(range(10**6))

        def whole() -> float:
            return float(predict(file, film, folder / f"out{next(number)}", overlay=True)["seconds"])

        def bare() -> float:
            start = time.perf_counter()
            for image in inputs:
                runner.logits(image)
            return time.perf_counter() - start

        seconds = take_turns({"predict": whole, "network": bare}, 5)
    speeds = {f"{name}_frames_per_second": round(count / median(found), 1) for name, found in seconds.items()}
    return {"video_fps_ratio": ratio(seconds, "network", "predict"), **speeds}
