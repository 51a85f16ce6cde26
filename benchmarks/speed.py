"""Speed against what else a person could run: every row a ratio, measured in one run with both sides in turn.

    python benchmarks/speed.py [--rows evaluation start_help] [--quick] [--data DATA]

DATA holds ``prediction_maps/<model>/<set>`` and ``polyp/TestDataset/<set>``. Each row runs in a process of its own, so that
one that fails, or that sets threads, changes no other. The last line is one JSON object: key -> figure, and under ``rows`` what
each row says beside its figure. The exit code is 1 where a row failed, not where a figure is below its goal.

A new row is a function in ``benchmarks/speed_rows`` and one line of `ROWS`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Setting:
    """How to measure.

    Args:
        data: folder of real images.
        quick: a first look: fewer rounds and images.
    """

    data: Path
    quick: bool = False

    @property
    def rounds(self) -> int:
        """How often each side is measured."""
        return 3 if self.quick else 7


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        key: of its figure in the JSON object.
        what: what is measured, and against what.
        goal: ``">= 10"`` or ``"<= 1.3"``.
        function: ``module:function`` below ``speed_rows``. It takes a `Setting` and returns the figure under ``key``, and what a
            reader should know beside it.
    """

    key: str
    what: str
    goal: str
    function: str

    def met(self, figure: float) -> bool:
        """Whether a figure is as the goal wants it."""
        sign, limit = self.goal.split()
        return figure >= float(limit) if sign == ">=" else figure <= float(limit)


ROWS = {
    "evaluation": Row(
        "speedup",
        "all scores of 162 images, against PySODMetrics and MONAI",
        ">= 10",
        "evaluation:evaluation",
    ),
    "distances_2d": Row(
        "distance_speedup_2d",
        "HD95 and surface Dice of images, against MONAI's and MedPy's",
        ">= 3",
        "evaluation:distances_2d",
    ),
    "distances_3d": Row(
        "distance_speedup_3d",
        "HD95 and surface Dice of volumes, against MONAI's and MedPy's",
        ">= 5",
        "evaluation:distances_3d",
    ),
    "loop": Row(
        "loop_ratio",
        "training without distillation, images/s, against a plain PyTorch loop",
        ">= 0.95",
        "training:loop",
    ),
    "step_masks": Row(
        "step_ratio_masks",
        "a training step with stored soft masks, against one without",
        "<= 1.05",
        "training:step_masks",
    ),
    "step_features": Row(
        "step_ratio_features",
        "a training step with stored features, against one without",
        "<= 1.05",
        "training:step_features",
    ),
    "step_both": Row(
        "step_ratio_both",
        "a training step with both, against one without",
        "<= 1.05",
        "training:step_both",
    ),
    "augment": Row(
        "augment_ratio",
        "view, rotation, scale, colour at 352 px, images/s, against torchvision v2",
        ">= 1.0",
        "augment:augment",
    ),
    "loader": Row(
        "loader_ratio",
        "1 and 2 workers, cached and JPEG, images/s, against MONAI's data sets",
        ">= 1.0",
        "loader:loader",
    ),
    "ranks": Row(
        "ranks_ratio",
        "two processes together, images/s, against two without exchange",
        ">= 0.9",
        "ranks:ranks_row",
    ),
    "runtime": Row(
        "runtime_speedup",
        "the fastest runtime at 352 px, against eager PyTorch",
        ">= 2.5",
        "deployed:runtime",
    ),
    "int8": Row("int8_speedup", "8 bits at 352 px, against eager PyTorch", ">= 4", "deployed:int8"),
    "video": Row(
        "video_fps_ratio",
        "frames/s of predict with overlay, against the bare network",
        ">= 0.8",
        "deployed:video",
    ),
    "scaling_store": Row(
        "scaling_store",
        "feature store: an image of 100 k, against one of 1 k",
        "<= 1.1",
        "scaling:store",
    ),
    "scaling_masks": Row(
        "scaling_masks",
        "soft masks: an image of 100 k, against one of 1 k",
        "<= 1.1",
        "scaling:masks",
    ),
    "start_help": Row("start_help", "--help, against what it imports", "<= 1.3", "start:start_help"),
    "start_wrong_path": Row(
        "start_wrong_path",
        "a path that is not there, against what it imports",
        "<= 1.3",
        "start:start_wrong_path",
    ),
    "start_evaluate": Row(
        "start_evaluate",
        "evaluate of 62 maps, against its libraries and the work",
        "<= 1.3",
        "start:start_evaluate",
    ),
    "start_predict": Row(
        "start_predict",
        "predict of one image with ONNX, against its libraries and the work",
        "<= 1.3",
        "start:start_predict",
    ),
}


def measure(name: str, setting: Setting) -> dict[str, Any]:
    """Measure one row in this process."""
    module, function = ROWS[name].function.split(":")
    return getattr(import_module(f"speed_rows.{module}"), function)(setting)


def measured(name: str, setting: Setting) -> dict[str, Any]:
    """Measure one row in a process of its own."""
    words = [sys.executable, __file__, "--one", name, "--data", str(setting.data)]
    begun = time.perf_counter()
    done = subprocess.run(
        [*words, *(["--quick"] if setting.quick else [])], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        return {"failed": f"status {done.returncode}"}
    return {**json.loads(done.stdout.splitlines()[-1]), "seconds": round(time.perf_counter() - begun, 1)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the rows that are asked for and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("DIFOM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--quick", action="store_true", help="a first look, in minutes")
    parser.add_argument("--one", choices=ROWS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    setting = Setting(options.data.resolve(), options.quick)
    if options.one:
        print(json.dumps(measure(options.one, setting)))
        return 0
    found: dict[str, dict[str, Any]] = {}
    for name in options.rows:
        row, found[name] = ROWS[name], measured(name, setting)
        figure = found[name].get(row.key)
        verdict = "failed" if figure is None else "reached" if row.met(figure) else "not reached"
        print(f"{row.key:22} {figure!s:>8}  {row.goal:8} {verdict:12} {row.what}", flush=True)
    figures = {ROWS[name].key: values.get(ROWS[name].key) for name, values in found.items()}
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "quick": setting.quick}
    print(json.dumps({**figures, "rows": found, "machine": machine}))
    return int(any(figure is None for figure in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
