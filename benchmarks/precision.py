"""How long a training step of the demo's networks takes in bfloat16, beside float32, on this processor.

    python benchmarks/precision.py

Processor time of one thread, median of seven steps, both precisions in turn. The last line is one JSON object: network -> ratio.
"""

from __future__ import annotations

import json
import time
from statistics import median

import torch

from monai_difom.apps.demo import Settings
from monai_difom.networks.nets.unet import DifomUNet
from monai_difom.utils.precision import fast_bfloat16

ROUNDS = 7


def step_seconds(network: torch.nn.Module, images: torch.Tensor, mixed: bool) -> float:
    """Return the processor time of one forward and backward."""
    begin = time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        logits = network(images)
    logits.float().mean().backward()
    return time.process_time() - begin


def main() -> None:
    """Print the seconds and the ratio of both networks."""
    torch.set_num_threads(1)
    settings = Settings()
    ratios: dict[str, float] = {}
    for name, features in {"teacher": settings.teacher_width, "student": settings.student_width}.items():
        network = DifomUNet(features=features)
        images = torch.rand(settings.batch_size, 3, settings.input_size, settings.input_size)
        for mixed in (False, True):
            step_seconds(network, images, mixed)
        pairs = [[step_seconds(network, images, mixed) for mixed in (False, True)] for _ in range(ROUNDS)]
        plain, half = (median(side) for side in zip(*pairs, strict=True))
        ratios[name] = round(half / plain, 2)
        print(f"{name}: float32 {plain:.3f} s, bfloat16 {half:.3f} s a step")
    print(json.dumps({"fast_bfloat16": fast_bfloat16(), **ratios}))


if __name__ == "__main__":
    main()
