"""Two or more sides measured in turn, so that a busy machine slows all of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median


def in_turn(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return seconds of processor time of this process by side, one per round; the first of each side is not counted.

    Args:
        sides: name -> what is measured.
        rounds: how often.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, run in sides.items():
            begun = time.process_time()
            run()
            if number:
                seconds[name].append(time.process_time() - begun)
    return seconds


def ratio(seconds: Mapping[str, Sequence[float]], over: str, under: str) -> float:
    """Return the median over rounds of one side's seconds over another's."""
    return round(median(a / b for a, b in zip(seconds[over], seconds[under], strict=True)), 2)


def processor_seconds(words: Sequence[str]) -> float:
    """Run a command of this Python and return the processor time that it took, that of its threads included.

    Raises:
        SystemExit: it failed with a status that no verb gives for a refusal.
    """
    # as installed: the first run keeps the compiled modules
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 2):
        raise SystemExit(f"{' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}")
    return used.ru_utime + used.ru_stime


def commands_in_turn(sides: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[float]]:
    """Return the processor time of commands of this Python by side, one per round; the first of each fills the disk's cache."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, words in sides.items():
            taken = processor_seconds(words)
            if number:
                seconds[name].append(taken)
    return seconds
