"""What one process of a data-parallel training of a bundle does in `test_two_ranks`: train; train, stop and resume."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundles" / "polyp_difom"
FILES = [str(BUNDLE / "configs" / "train.yaml"), str(ROOT / "configs" / "students" / "segresnet.yaml")]


def workflow(files: list[str], options: dict[str, Any], out: Path, **changes: Any) -> ConfigWorkflow:
    """A training whose student normalises without the rest of its batch: with it, a part of a batch is another batch."""
    places = {"output_dir": str(out), "ckpt_dir": str(out / "models"), "bundle_root": str(BUNDLE)}
    student = {
        "network_def#network#norm": ["GROUP", {"num_groups": 2}],
        "network_def#network#init_filters": 4,
        "network_def#network#blocks_down": [1, 1, 1, 1, 1],
    }
    given = {**options, **student, **places, **changes}
    return ConfigWorkflow(files, logging_file=False, workflow_type="train", **given)


def main(folder: Path) -> None:
    """Train whole in ``whole``; in ``part`` stop in the second epoch and resume; note what this process saw."""
    options = json.loads((folder / "options.json").read_text())
    files = [*FILES, str(ROOT / "configs" / "multi_gpu.yaml")]
    whole = workflow(files, options, folder / "whole")
    whole.initialize()
    whole.run()
    seen = [index for _, index in whole.parser.get_parsed_content("train#sampler")]

    stopped = workflow(files, options, folder / "part")
    stopped.initialize()

    def stop(engine: Any) -> None:
        if engine.state.iteration == engine.state.epoch_length + 1:
            raise KeyboardInterrupt

    stopped.trainer.add_event_handler(Events.ITERATION_COMPLETED, stop)
    with suppress(KeyboardInterrupt):
        stopped.trainer.run()
    distributed.barrier()
    resumed = workflow(files, options, folder / "part", resume=str(folder / "part"))
    resumed.initialize()
    resumed.run()
    resumed.finalize()
    found = {
        "seen": seen,
        "state": resumed.trainer.distiller.state_dict(),
        "targets": whole.trainer.targets.state_dict(),
        "left": not distributed.is_initialized(),
        "handlers": sorted(whole.trainer.stateful),
    }
    torch.save(found, folder / f"rank{os.environ['RANK']}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
