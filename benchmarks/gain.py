"""Does a student that its teachers gave masks of unlabelled images end better than the same student alone?

Every run is one `python -m monai.bundle run training` of `bundles/polyp_difom` at 128 px with the same student, augmentation,
optimiser and number of steps. What differs is an overlay or an option. A killed run is resumed, a finished one is not
repeated (nor is one whose scores are kept in `gain_scores` already: another machine goes on with the rest), and several
copies of this program share the work (each takes what nobody else has begun):

    python benchmarks/gain.py --data ../shared/data/polyp --weights ../shared/weights --runs runs/gain
    python benchmarks/gain.py --data ... --weights ... --runs runs/gain --only "few:soft masks" "few:alone" --seeds 0
    python benchmarks/gain.py --runs runs/gain --report    # keep what is finished in gain_scores; write gain.json and gain.md
    python benchmarks/gain.py --difference "very few:soft masks" "very few:soft masks, half"     # of two taught arms
    python benchmarks/gain.py --score RUN [RUN ...] --dataset_dir DIR     # finished students on any test folders

Protocols: ``few`` (100 labelled images of Kvasir; without masks: the other Kvasir training images and 20 of ClinicDB's 29
sequences; tested on Kvasir's 100 and on the other 9 sequences), ``very few`` (25 labelled), ``all`` (all of Kvasir), ``unseen``
(100 labelled, the other Kvasir images alone, tested on all of ClinicDB).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gain_results
from gain_arms import (
    ARMS,
    ENCODERS,
    EPOCH_STEPS,
    EPOCHS,
    GIVEN_BY,
    PLAN,
    SECOND_STEPS,
    STEPS,
    WIDTHS,
    Job,
    needs,
)
from gain_data import PROTOCOLS, SAME_LABELS, lay_out

from monai_difom.data.soft_masks import SoftMasks

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "gain.json"
SCORES = ROOT / "benchmarks" / "gain_scores"  # one folder per finished job: the Dice of every image
BUNDLE = "bundles/polyp_difom"
SIZE, TEACHER_SIZE = 128, 224
VIEWS = 4  # of every image that a teacher labels, as in the recipe


@dataclass(frozen=True)
class Bench:
    """Where everything is.

    Args:
        data: PraNet's folders.
        weights: folder of the ImageNet weights.
        runs: folder of all that is made.
        scores: folder of the scores that are kept.
        amp: whether students train in bfloat16.
    """

    data: Path
    weights: Path
    runs: Path
    scores: Path = SCORES
    amp: bool = False

    def data_of(self, protocol: str) -> Path:
        """Return the laid-out folder of a protocol."""
        return self.runs / "data" / protocol.replace(" ", "_")

    def run_of(self, job: Job) -> Path:
        """Return a job's folder."""
        return self.runs / job.name

    def finished(self, job: Job) -> bool:
        """Whether a job is done, and what it made is here."""
        return (self.run_of(job) / "done.json").is_file()

    def scored(self, job: Job) -> bool:
        """Whether a job is done, here or on another machine."""
        return self.finished(job) or (self.scores / job.name).is_dir()


def queue(only: Sequence[str] | None, seeds: Sequence[int] | None, bench: Bench | None = None) -> list[Job]:
    """Return all jobs in order, each after what it needs; with a bench, without those whose scores are kept."""
    jobs: list[Job] = []

    def add(job: Job) -> None:
        if bench is not None and bench.finished(job):
            return
        for earlier in needs(job):
            add(earlier)
        if job not in jobs:
            jobs.append(job)

    for protocol, arm, drawn in PLAN:
        if only and f"{protocol}:{arm}" not in only:
            continue
        for seed in drawn:
            job = Job(protocol, arm, seed)
            if (seeds is None or seed in seeds) and not (bench is not None and bench.scored(job)):
                add(job)
    return jobs


def command(job: Job, bench: Bench) -> list[str]:
    """Return the command of a training."""
    out, data = bench.run_of(job), bench.data_of(job.protocol)
    options: dict[str, Any] = {
        "dataset_dir": data,
        "output_dir": out,
        "ckpt_dir": out / "models",
        "seed": job.seed,
        "image_size": SIZE,
        "batch_size": 16,
        "epochs": [0, EPOCHS, 0],
        "epoch_steps": EPOCH_STEPS,
        "val_interval": 2,
        "amp": bench.amp,
        "ema": 0.995,
        "keep": "best",  # beside the last weights, which are kept in any case; both are scored
        "progress": False,
        "report": False,
    }
    if "teacher/" in job.arm:
        first, encoder = job.arm.startswith("teacher/"), job.arm.partition("/")[2]
        file, facts = ENCODERS[encoder]
        recipe = "configs/phases/undistilled.yaml" if first else "configs/recipes/soft_masks.yaml"
        overlays = [recipe, "configs/students/encoder_unet.yaml"]
        steps = PROTOCOLS[job.protocol].teacher_steps if first else SECOND_STEPS
        if not first:
            options["soft_masks"] = bench.run_of(needs(job)[0]) / "masks"
            options |= {"unlabelled": data / "unlabelled", "trust": 0.0}
        options |= {f"network_def#{key}": value for key, value in facts.items()}
        options |= {
            "image_size": TEACHER_SIZE,
            "batch_size": 8,
            "epochs": [0, steps // EPOCH_STEPS, 0],
            "amp": False,  # depthwise convolutions are slower in bfloat16 on a CPU
            "learning_rate": 0.001,
            "network_def#pretrained": bench.weights / file,
        }
    else:
        source, overlays, more = ARMS[job.arm]
        if "student" in more:
            overlays = [*overlays, more["student"]]
            more = {name: value for name, value in more.items() if name != "student"}
            if "encoder" in more:
                file, facts = ENCODERS[more.pop("encoder")]
                options |= {f"network_def#{key}": value for key, value in facts.items()}
                options["network_def#pretrained"] = bench.weights / file
        else:
            options["network_def#features"] = WIDTHS
        options |= more
        if job.arm == "inherited weights":
            donor = bench.run_of(needs(job)[0]) / "models" / "model.pt"
            options["start"] = f"$monai_difom.networks.inherit.inherit_weights(@network, '{donor}')"
        if source in GIVEN_BY:
            options["soft_masks"] = bench.run_of(needs(job)[0]) / "masks"
        elif source is not None:
            options["soft_masks"] = data / source
        if source is not None:
            options |= {"unlabelled": data / "unlabelled", "trust": 0.0}
        if job.arm.startswith("features"):
            overlays = ["configs/teachers/efficientnet_lite2.yaml", *overlays]
            options["teacher_weights"] = bench.weights / ENCODERS["efficientnet_lite2"][0]
    if not job.arm.startswith("features"):
        options |= {"teachers": {}, "terms": []}
    last = out / "models" / "last.pt"
    if last.exists():
        options["resume"] = last
    files = [f"{BUNDLE}/configs/train.yaml", *overlays]
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    start = [sys.executable, "-m", "monai.bundle", "run", "training", "--bundle_root", BUNDLE]
    return [*start, "--config_file", str(files), *words]


def label_command(job: Job, bench: Bench, images: Path, out: Path) -> list[str]:
    """Return the command that writes soft masks of a folder of images."""
    teachers = [str(bench.run_of(teacher)) for teacher in needs(job)]
    start = [sys.executable, "-m", "monai_difom", "autolabel", "--teacher", *teachers]
    return [*start, "--images", str(images), "--output", str(out), "--views", str(VIEWS)]


def run_job(job: Job, bench: Bench) -> None:
    """Do a job to its end, and say so in ``done.json``."""
    out = bench.run_of(job)
    for protocol in (job.protocol, *scored_elsewhere(job)):
        lay_out(bench.data, bench.data_of(protocol), PROTOCOLS[protocol])
    with open(out / "log.txt", "a") as log:

        def call(words: list[str]) -> None:
            subprocess.run(words, cwd=ROOT, stdout=log, stderr=log, check=True, env=os.environ)

        if job.arm.startswith("masks/"):
            call(label_command(job, bench, bench.data_of(job.protocol) / "unlabelled", out / "masks"))
            if job.arm in ("masks/teachers", "masks/second"):
                score_teachers(job, bench, call)
        else:
            call(command(job, bench))
            score_weights(job, bench, call)
    (out / "done.json").write_text(json.dumps({"job": job.__dict__, "steps": STEPS}))


def scored_elsewhere(job: Job) -> list[str]:
    """Return the protocols whose tests a job of another one with the same labels is scored on as well."""
    shared = job.arm == "alone" or job.arm.startswith("teacher/") or job.arm == "masks/teachers"
    return [other for other, own in SAME_LABELS.items() if own == job.protocol] if shared else []


def score_weights(job: Job, bench: Bench, call: Any) -> None:
    """Score the weights after the last step too, which owe nothing to the choice of an epoch; and both on further tests."""
    out = bench.run_of(job)
    bundle = out / "bundle"
    for weights, source in (("best", "model.pt"), ("last", "last_model.pt")):
        models = out / weights / "models"
        models.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(out / "models" / source, models / "model.pt")
        for protocol in (job.protocol, *scored_elsewhere(job)):
            words = [sys.executable, "-m", "monai.bundle", "run", "evaluating", "--bundle_root", str(bundle)]
            words += ["--config_file", str(bundle / "configs/evaluate.yaml"), "--ckpt_dir", str(models)]
            place = out / weights / protocol.replace(" ", "_")
            call([*words, "--dataset_dir", str(bench.data_of(protocol)), "--output_dir", str(place)])


def score_teachers(job: Job, bench: Bench, call: Any) -> None:
    """Score what labelled the images, all teachers and views together, on the tests; no image is labelled twice."""
    out = bench.run_of(job)
    tests = {
        protocol: json.loads((bench.data_of(protocol) / "datalist.json").read_text())["test"]
        for protocol in (job.protocol, *scored_elsewhere(job))
    }
    maps = maps_of(out / "masks")
    # images of one protocol's tests may be another's without masks
    tested = {item["image"] for lists in tests.values() for items in lists.values() for item in items}
    images = out / "tests" / "images"
    images.mkdir(parents=True, exist_ok=True)
    for image in map(Path, sorted(tested)):
        if image.stem not in maps:
            link(image, images / image.name)
    call(label_command(job, bench, images, out / "tests" / "masks"))
    maps |= maps_of(out / "tests" / "masks")
    for protocol, lists in tests.items():
        for name, items in lists.items():
            place = out / "tests" / name
            for kind in ("truth", "maps"):
                (place / kind).mkdir(parents=True, exist_ok=True)
            for item in items:
                mask, stem = Path(item["label"]), Path(item["image"]).stem
                link(mask, place / "truth" / f"{stem}{mask.suffix}")
                shutil.copyfile(maps[stem], place / "maps" / f"{stem}.png")
            table = out / "best" / protocol.replace(" ", "_") / f"{name}.csv"
            table.parent.mkdir(parents=True, exist_ok=True)
            words = [
                sys.executable,
                "-m",
                "monai_difom",
                "evaluate",
                "--predictions",
                str(place / "maps"),
                "--masks",
                str(place / "truth"),
            ]
            call([*words, "--csv", str(table)])


def maps_of(folder: Path) -> dict[str, Path]:
    """Return name of an image -> its soft mask."""
    return {Path(found["name"]).stem: folder / found["file"] for found in SoftMasks(folder).entries.values()}


def link(file: Path, place: Path) -> None:
    """Make a link where there is none."""
    if not place.is_symlink():
        place.symlink_to(file)


def work(bench: Bench, jobs: Sequence[Job]) -> None:
    """Take one job after another that is ready and that no other worker has."""
    while True:
        ready = [job for job in jobs if not bench.finished(job) and all(map(bench.finished, needs(job)))]
        job = next((job for job in ready if claim(bench.run_of(job))), None)
        if job is None:
            print("nothing left that is ready and free.", flush=True)
            return
        print(f"{job.name} ...", flush=True)
        try:
            run_job(job, bench)
        finally:
            (bench.run_of(job) / "worker").unlink(missing_ok=True)


def claim(folder: Path) -> bool:
    """Mark a folder as this worker's; a mark of a process that is gone counts for nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / "worker"
    if mark.is_file():
        owner = mark.read_text()
        if owner.isdigit() and Path(f"/proc/{owner}").exists():
            return False
        mark.unlink(missing_ok=True)
    try:
        with open(mark, "x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def main() -> None:
    """Train what is missing, or report, or score finished students."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/polyp")
    parser.add_argument("--weights", type=Path, default=ROOT.parent / "shared/weights")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "gain")
    parser.add_argument("--only", nargs="+", metavar="PROTOCOL:ARM")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument(
        "--amp",
        action="store_true",
        help="students in bfloat16: faster on a CPU that has it, far slower on any other",
    )
    parser.add_argument("--list", action="store_true", help="print the jobs in order, and how far they are")
    parser.add_argument("--report", action="store_true", help="collect what is finished")
    parser.add_argument(
        "--difference", nargs=2, metavar="PROTOCOL:ARM", help="what the first arm has more than the second"
    )
    parser.add_argument("--score", type=Path, nargs="+", metavar="RUN", help="score finished students")
    parser.add_argument("--dataset_dir", type=Path, help="test folders for --score")
    options = parser.parse_args()
    if options.score:
        gain_results.score_runs(options.score, options.dataset_dir)
        return
    bench = Bench(options.data.resolve(), options.weights.resolve(), options.runs.resolve(), amp=options.amp)
    if options.list:
        for job in queue(options.only, options.seeds):
            print(f"{'done' if bench.scored(job) else '    '} {job.name}")
    elif options.difference:
        print(gain_results.difference(bench, *options.difference))
    elif options.report:
        gain_results.report(bench, RESULTS)
    else:
        work(bench, queue(options.only, options.seeds, bench))


if __name__ == "__main__":
    main()
