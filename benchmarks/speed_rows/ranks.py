"""Row `ranks_ratio`: what it costs that two processes (gloo) train one student together.

Two processes take turns at two trainings of `polyp_difom` without distillation: one together, with the mean of their gradients,
each on its half of every batch; and one each for itself, at the same time, on as many images, with nothing exchanged. The row is
the images per second of the first over those of the second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as distributed

from monai_difom.utils import ranks, start_ranks, stop_ranks
from speed_rows.relay import TrainerTurns, take_turns
from speed_rows.training import ROOT, Sizes, bundle, prepare
from speed_rows.turns import ratio


def ranks_row(setting: Any) -> dict[str, Any]:
    """Images per second of two processes that train together over those of two that do not, by the clock."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder, Sizes(setting))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        paths = os.pathsep.join([str(ROOT / "benchmarks"), str(ROOT), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [*command, str(Path(__file__)), str(folder), str(int(setting.quick)), str(setting.rounds)],
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the two processes failed:\n{done.stderr[-3000:]}")
        return json.loads((folder / "found.json").read_text())


def _work(folder: Path, setting: Any) -> None:
    torch.set_num_threads(1)
    size = Sizes(setting)
    size.batch //= 2
    start_ranks("cpu")
    joined = ranks._together
    shared = {"train::sampler::rank": ranks.own_rank(), "train::sampler::world": 2}

    def turns(name: str, together: bool, **options: object) -> TrainerTurns:
        ranks._together = lambda: (
            together
        )  # what is built and run between these switches is of one process, or of two
        own = bundle(folder, f"{name}{os.environ['RANK']}", size, ("phases/undistilled",), **options)
        return TrainerTurns(own.get_parsed_content("train::trainer"))

    sides = {
        "together": turns("together", True, **shared),
        "alone": turns("alone", False, epoch_steps=size.steps),
    }

    def turn(name: str) -> float:
        ranks._together = joined
        distributed.barrier()
        ranks._together = lambda: name == "together"
        start = time.perf_counter()
        sides[name]()
        return time.perf_counter() - start

    found = take_turns({name: lambda name=name: turn(name) for name in sides}, size.rounds)
    ranks._together = joined
    images = 2 * size.steps * size.batch
    if ranks.is_main_rank():
        speeds = {f"{n}_images_per_second": round(images / median(times), 2) for n, times in found.items()}
        row = {"ranks_ratio": ratio(found, "alone", "together"), **speeds}
        (folder / "found.json").write_text(json.dumps(row))
    distributed.barrier()
    stop_ranks()


if __name__ == "__main__":
    _work(Path(sys.argv[1]), SimpleNamespace(quick=sys.argv[2] == "1", rounds=int(sys.argv[3])))
