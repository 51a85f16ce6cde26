"""Learning-rate shapes."""

from __future__ import annotations

import pytest

from monai_difom.engines import Constant, OneCycle


def test_one_cycle_rises_to_the_full_rate_and_falls_to_almost_nothing() -> None:
    shape = OneCycle(warmup=0.25)
    values = [shape(i / 100) for i in range(101)]
    assert values[0] == pytest.approx(0.04)
    assert max(values) == values[25] == pytest.approx(1.0)
    assert values[25:] == sorted(values[25:], reverse=True)
    assert values[-1] < 1e-5


def test_a_constant_rate_stays() -> None:
    assert {Constant()(share) for share in (0, 0.5, 1)} == {1.0}
