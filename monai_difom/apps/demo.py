"""The whole chain in minutes, on drawn images: a teacher, masks by it, a student with them and alone, and the report of both."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..data import make_polyps
from ..utils import write_json
from ..utils.documents import read_json
from ..utils.precision import fast_bfloat16
from .runs.folder import RunFolder
from .train import FinishedRun, train
from .train.command import resume

FOLDERS, RECORD = ("data", "teacher", "student"), "demo.json"


@dataclass(frozen=True)
class Settings:
    """How large the demo is.

    Args:
        image_size: side of the images.
        input_size: side that the networks see.
        teacher_images: labelled images of the teacher, of which one in ten chooses the best epoch.
        student_images: labelled images of either student, of which one in three chooses the best epoch.
        unlabelled_images: images without masks, which the teacher labels for the student.
        test_images: images that are scored.
        teacher_width: channels of the teacher's levels.
        student_width: channels of the student's levels.
        teacher_epochs: epochs of the teacher.
        student_epochs: epochs of the student, three images without masks beside each labelled one.
        batch_size: images per step.
        contrast: of the drawn polyps, see `polyp_image`.
    """

    image_size: int = 96
    input_size: int = 64
    teacher_images: int = 424
    student_images: int = 12
    unlabelled_images: int = 300
    test_images: int = 100
    teacher_width: tuple[int, ...] = (16, 32, 64, 96, 96)
    student_width: tuple[int, ...] = (8, 16, 32, 64, 64)
    teacher_epochs: int = 10
    student_epochs: int = 18
    batch_size: int = 4
    contrast: float = 2.0


QUICK = Settings(64, 32, 24, 12, 12, 6, (8, 16, 32, 32, 32), (4, 8, 16, 16, 16), 1, 1)


def run_demo(output: str | Path, seed: int = 0, quick: bool = False) -> int:
    """Run the demo, leave ``student/report.html``, and return the exit code 0.

    Args:
        output: folder to write to. An interrupted demo of the same settings goes on there; a finished one is done anew.
        seed: seed of images, first weights and training.
        quick: a few images and epochs, to see that everything runs; the figures then mean nothing.

    Raises:
        ValueError: the folder is not one of a demo.
        KeyboardInterrupt: Ctrl-C, with a message that says how to go on.
    """
    output, s = Path(output), QUICK if quick else Settings()
    # networks this small lose more to the coordination of threads than they gain by them
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        settings = json.loads(json.dumps({"seed": seed, "version": __version__, **asdict(s)}))
        begin(output, settings)
        counts = {"teacher": s.teacher_images, "student": s.student_images, "unlabelled": s.unlabelled_images}
        for number, (name, images) in enumerate(counts.items()):
            folder, tests = output / "data" / name, 0 if name == "unlabelled" else s.test_images
            make_polyps(folder, images, tests, s.image_size, len(counts) * seed + number, s.contrast)
        print(
            f"\n[1/2] A teacher, a wide U-Net, learns from {s.teacher_images} labelled images\n", flush=True
        )
        teach(output / "teacher", s, seed, s.teacher_width, s.teacher_epochs, val_fraction=0.1, report=False)
        print(
            f"\n[2/2] A narrow U-Net learns from {s.student_images} labelled images: with the teacher's masks of "
            f"{s.unlabelled_images} others, and alone\n",
            flush=True,
        )
        run = teach(
            output / "student",
            s,
            seed,
            s.student_width,
            s.student_epochs,
            output / "teacher",
            val_fraction=1 / 3,
        )
    except KeyboardInterrupt:
        kept = f"What is finished is kept in {output}; the same command goes on from there."
        raise KeyboardInterrupt(kept) from None
    run.show()
    write_json(output / RECORD, {**settings, "finished": True})  # the next one is done anew
    if quick:
        print("This was a quick run, to see that everything works: its figures mean nothing.")
    return 0


def begin(output: Path, settings: dict[str, Any]) -> None:
    """Keep what an interrupted demo of the same settings left, and remove what any other demo left.

    Raises:
        ValueError: the folder has something of the same name that no demo wrote.
    """
    record = output / RECORD
    found = [name for name in FOLDERS if (output / name).exists()]
    if found and not record.is_file():
        raise ValueError(
            f"{output} has {', '.join(found)}, which no demo wrote. Name a folder of its own with --output."
        )
    if record.is_file() and read_json(record) == settings:
        return
    for name in found:
        shutil.rmtree(output / name)
    output.mkdir(parents=True, exist_ok=True)
    write_json(record, settings)


def teach(
    folder: Path,
    s: Settings,
    seed: int,
    width: tuple[int, ...],
    epochs: int,
    teacher: Path | None = None,
    **more: Any,
) -> FinishedRun:
    """Train a U-Net; with a teacher on its masks too, and beside a control. Go on where an earlier demo was interrupted."""
    if RunFolder(folder).started_by_train():
        return resume(folder)
    settings = {
        "image_size": s.input_size,
        "batch_size": s.batch_size,
        "epochs": [0, epochs, 0],
        "network_def#features": list(width),
        "seed": seed,
        "amp": fast_bfloat16(),
        "val_interval": max(epochs // 12, 1),
        **more,
    }
    data = folder.parent / "data"
    return train(
        data / folder.name,
        teacher or [],
        control=teacher is not None,
        unlabelled=data / "unlabelled" / "TrainDataset" / "image" if teacher else None,
        output=folder,
        settings=settings,
        structure="polyp",
        modality="synthetic",
    )
