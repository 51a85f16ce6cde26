"""Numbers that are read together."""

from __future__ import annotations

import pytest
import torch

from monai_difom.utils import Readings, read_later


def test_numbers_come_in_their_order_to_the_reader_that_they_were_kept_for() -> None:
    readings, found = Readings(), []
    with readings.collect():
        read_later(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), found.append)
        read_later(torch.tensor([True, False]), found.append)
    assert found == []
    readings.read()
    assert found == [[1.0, 2.0, 3.0, 4.0], [1.0, 0.0]]
    readings.read()
    assert len(found) == 2


def test_without_readings_a_number_is_read_at_once() -> None:
    found: list[list[float]] = []
    read_later(torch.tensor(2.5, requires_grad=True), found.append)
    assert found == [[2.5]]


def test_readings_within_readings_pass_their_numbers_on_and_name_their_errors() -> None:
    def refuse(_numbers: list[float]) -> None:
        raise ValueError("too large")

    outer, inner = Readings(), Readings()
    with outer.collect():
        with inner.collect():
            read_later(torch.tensor(1.0), refuse)
        inner.pass_on(lambda error: RuntimeError(f"the teacher says: {error}"))
    with pytest.raises(RuntimeError, match="the teacher says: too large") as raised:
        outer.read()
    assert isinstance(raised.value.__cause__, ValueError)
