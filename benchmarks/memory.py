"""What programs hold in memory at most, with few images and with many: nothing grows with their number but the stated cache.

    python benchmarks/memory.py               # all rows
    python benchmarks/memory.py --rows video  # some
    python benchmarks/memory.py --quick       # fewer images, to see that everything runs

Each row runs one command twice, with few and with many images (frames), each in a process of its own, which tells its peak of
resident memory. The pictures are synthetic, the student is the U-Net of `polyp_difom` at a small size, random
weights: it is the number of images that counts here. The last line is one JSON object, in megabytes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from speed_rows.deployed import picture

from monai_difom.apps.predict.video import video_writer
from monai_difom.data import make_polyps

ROOT = Path(__file__).resolve().parents[1]
FEW, MANY, QUICK = 50, 400, 60
FRAMES, MANY_FRAMES, QUICK_FRAMES = 1_500, 15_000, 300  # one minute and ten, at 25 frames a second
FRAME = (144, 176)
SIDE = 64


# the system's own figure for a process (ru_maxrss) counts what its parent held when it was started
_TELL = """
import atexit, runpy, sys
file, module, *sys.argv[1:] = sys.argv[1:]
def tell():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    open(file, "w").write(status["VmHWM"].split()[0])
atexit.register(tell)
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def peak(words: list[str]) -> float:
    """Run a module with arguments in a process of its own; return its peak of resident memory in megabytes (Linux)."""
    with tempfile.NamedTemporaryFile() as told:
        command = [sys.executable, "-c", _TELL, told.name, *words]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)} ended with {done.returncode}")
        return int(told.read()) / 1024


def train(folder: Path, images: int, rate: float) -> list[str]:
    """Return the command of a short training of so many images, of which a share is kept in memory."""
    data = folder / f"data{images}"
    if not data.is_dir():
        make_polyps(data, train=images, test=4, size=160)
    out = folder / f"run{images}_{rate}"
    given = {
        "dataset_dir": data,
        "output_dir": out,
        "ckpt_dir": out / "models",
        "image_size": SIDE,
        "batch_size": 4,
        "epochs": "[0, 1, 0]",
        "epoch_steps": 4,
        "cache_rate": rate,
        "progress": False,
        "report": False,
    }
    files = ["bundles/polyp_difom/configs/train.yaml", "configs/phases/undistilled.yaml"]
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    start = ["monai.bundle", "run", "training", "--bundle_root", "bundles/polyp_difom"]
    return [*start, "--config_file", str(files), *words]


def trained(folder: Path) -> Path:
    """Return a finished run, trained once."""
    command = train(folder, QUICK, 1.0)
    run = folder / f"run{QUICK}_1.0"
    if not (run / "bundle").is_dir():
        peak(command)
    return run


def images(folder: Path, count: int) -> Path:
    """Return a folder of so many pictures."""
    data = folder / f"data{count}"
    if not data.is_dir():
        make_polyps(data, train=count, test=4, size=160)
    return data / "TrainDataset"


def video(folder: Path, frames: int) -> Path:
    """Return a video of so many frames."""
    file = folder / f"{frames}.mp4"
    if not file.is_file():
        some = [picture(n, *FRAME) for n in range(50)]
        with video_writer(file, 25) as write:
            for n in range(frames):
                write(some[n % len(some)])
    return file


def verb(name: str, folder: Path, *words: str | Path) -> list[str]:
    """Return a command of the package, with an output of its own."""
    out = folder / f"{name}-output"
    shutil.rmtree(out, ignore_errors=True)
    return ["monai_difom", name, *map(str, words), "--output", str(out)]


def row_train(folder: Path, count: int) -> list[str]:
    """Training with every image in memory: the cache is what grows."""
    return train(folder, count, 1.0)


def row_train_uncached(folder: Path, count: int) -> list[str]:
    """Training that reads every image from disk."""
    return train(folder, count, 0.0)


def row_autolabel(folder: Path, count: int) -> list[str]:
    """Soft masks of a folder by a student."""
    pictures = images(folder, count) / "image"
    return verb("autolabel", folder, "--teacher", trained(folder), "--images", pictures, "--views", "2")


def row_predict(folder: Path, count: int) -> list[str]:
    """Masks and overlays of a folder."""
    pictures = images(folder, count) / "image"
    return verb("predict", folder, "--model", trained(folder) / "bundle", "--input", pictures, "--overlay")


def row_evaluate(folder: Path, count: int) -> list[str]:
    """All scores of a folder of maps."""
    masks = images(folder, count) / "mask"
    return ["monai_difom", "evaluate", "--predictions", str(masks), "--masks", str(masks)]


def row_video(folder: Path, count: int) -> list[str]:
    """A video to masks and a video with outlines."""
    return verb(
        "predict", folder, "--model", trained(folder) / "bundle", "--input", video(folder, count), "--overlay"
    )


ROWS: dict[str, Callable[[Path, int], list[str]]] = {
    "train": row_train,
    "train_uncached": row_train_uncached,
    "autolabel": row_autolabel,
    "predict": row_predict,
    "evaluate": row_evaluate,
    "video": row_video,
}


def main() -> None:
    """Measure the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as place:
        for name in options.rows:
            few, many = (FRAMES, MANY_FRAMES) if name == "video" else (FEW, MANY)
            if options.quick:
                few, many = few // 5, QUICK_FRAMES * 2 if name == "video" else QUICK
            low, high = (peak(ROWS[name](Path(place), count)) for count in (few, many))
            each = 1024 * (high - low) / (many - few)
            found[name] = {"few": few, "many": many, "peak_few": round(low), "peak_many": round(high)}
            found[name]["kb_per_image"] = round(each, 1)
            print(
                f"{name:15} {few:6} images: {low:6.0f} MB   {many:6}: {high:6.0f} MB   {each:6.1f} KB an image"
            )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
