"""How long networks take for one image, measured side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import torch


@torch.no_grad()
def milliseconds(
    networks: Mapping[str, torch.nn.Module], image: torch.Tensor, rounds: int = 20
) -> dict[str, float]:
    """Return the median time of one pass by network.

    Args:
        networks: name -> network, in the mode in which it is to be timed.
        image: one batch, on the networks' device.
        rounds: passes that count, after three that do not.
    """
    # they take turns, so that whatever else the machine does slows all of them alike
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(rounds + 3):
        for name, network in networks.items():
            begun = time.perf_counter()
            network(image)
            if image.is_cuda:
                torch.cuda.synchronize(image.device)
            seconds[name].append(time.perf_counter() - begun)
    return {name: 1000 * float(np.median(times[3:])) for name, times in seconds.items()}
