"""Numbers that stay on their device until they are read together: every single reading makes the host wait for the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from .ranks import mean_over_ranks

Reader = Callable[[list[float]], None]


class Readings:
    """Numbers that wait, each with the function that takes them; one transfer reads them all.

    Args:
        joined: read the means over all processes of the run, which must then hold the same numbers and read together.
    """

    def __init__(self, joined: bool = False) -> None:
        self.joined = joined
        self._waiting: list[tuple[torch.Tensor, Reader]] = []

    def add(self, values: torch.Tensor, reader: Reader) -> None:
        """Keep the numbers of a tensor; ``reader`` gets them, flat, in the next `read`, and may raise."""
        self._waiting.append((values.detach().reshape(-1), reader))

    def read(self) -> None:
        """Give all numbers to their readers, in the order in which they came."""
        self.fetch()()

    def fetch(self) -> Callable[[], None]:
        """Read all numbers and return what gives them to their readers; the processes meet in here, not in that."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return lambda: None
        device = waiting[0][0].device
        together = torch.cat([values.to(device, torch.float32, non_blocking=True) for values, _ in waiting])
        numbers = (mean_over_ranks(together) if self.joined else together).tolist()

        def deliver() -> None:
            start = 0
            for values, reader in waiting:
                reader(numbers[start : start + values.numel()])
                start += values.numel()

        return deliver

    def pass_on(self, failed: Callable[[Exception], Exception]) -> None:
        """Hand all numbers to `read_later`, where what a reader raises becomes ``failed`` of it."""
        waiting, self._waiting = self._waiting, []
        for values, reader in waiting:
            read_later(values, _renamed(reader, failed))

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Within this context `read_later` adds to these readings."""
        token = _collector.set(self)
        try:
            yield
        finally:
            _collector.reset(token)


_collector: ContextVar[Readings | None] = ContextVar("readings", default=None)


def read_later(values: torch.Tensor, reader: Reader) -> None:
    """Give the numbers of a tensor to a reader: at once, or where readings are collected, when they are read.

    Args:
        values: any shape; a boolean reads as 0 or 1.
        reader: takes the numbers as a flat list; a check raises its error here.
    """
    readings = _collector.get()
    if readings is not None:
        readings.add(values, reader)
    else:
        reader(values.detach().reshape(-1).float().tolist())


def _renamed(reader: Reader, failed: Callable[[Exception], Exception]) -> Reader:
    def guarded(numbers: list[float]) -> None:
        try:
            reader(numbers)
        except Exception as error:
            raise failed(error) from error

    return guarded
