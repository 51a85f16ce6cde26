"""Phases and plans."""

from __future__ import annotations

import pytest

from monai_difom.engines import Phase, Plan


def plan() -> Plan:
    return Plan([Phase("a", 2, {"segmentation": 1, "low": [1.0, 0.0]}), Phase("b", 0), Phase("c", 4, lr=0.1)])


def test_a_plan_says_which_phase_runs_at_a_time_and_how_far_it_is() -> None:
    assert plan().epochs == 6
    assert [plan().at(epoch)[0].name for epoch in (0, 1.9, 2, 5.9, 99)] == ["a", "a", "c", "c", "c"]
    assert plan().at(1.0)[1] == pytest.approx(0.5)
    assert {epoch: phase.name for epoch, phase in plan().ends().items()} == {2: "a", 6: "c"}


def test_a_pair_of_weights_goes_linearly_over_the_phase_and_a_term_that_is_not_named_has_none() -> None:
    phase = plan().phases[0]
    assert [phase.weight("low", share) for share in (0, 0.25, 1)] == [1.0, 0.75, 0.0]
    assert phase.weight("high", 0.5) == 0
    assert phase.uses("low")
    assert not phase.uses("high")


def test_epochs_replace_those_of_the_phases_one_each() -> None:
    assert [p.epochs for p in Plan(plan().phases, [1, 0, 1]).phases] == [1, 0, 1]
    with pytest.raises(ValueError, match=r"list of 3 numbers, one for each phase: a, b, c"):
        Plan(plan().phases, [1, 2])
    with pytest.raises(ValueError, match="no epochs"):
        Plan(plan().phases, [0, 0, 0])


def test_a_plan_is_stretched_in_proportion() -> None:
    assert [p.epochs for p in plan().scaled(60).phases] == [20, 0, 40]
    assert plan().scaled(1).epochs == 1


def test_a_misspelt_phase_term_names_the_nearest() -> None:
    bad = Plan([Phase("a", 1, {"segmentaton": 1.0})])
    with pytest.raises(
        ValueError, match=r"unknown phase term \(phase 'a'\) 'segmentaton'. Did you mean 'segmentation'"
    ):
        bad.check_terms(["low"])


@pytest.mark.parametrize("epochs", [-1, 1.5])
def test_epochs_that_are_no_whole_number_are_refused(epochs: float) -> None:
    with pytest.raises(ValueError, match="whole number"):
        Phase("a", epochs)  # type: ignore[arg-type]


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="weight of 'low'"):
        Phase("a", 1, {"low": -1})


def test_phases_with_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="share a name"):
        Plan([Phase("a", 1), Phase("a", 1)])


@pytest.mark.parametrize("total", range(3, 41))
def test_no_phase_is_lost_from_a_plan_whose_phases_all_fit(total: int) -> None:
    long = Plan([Phase("a", 1), Phase("b", 1), Phase("off", 0), Phase("c", 38)]).scaled(total)
    found = [phase.epochs for phase in long.phases]
    assert sum(found) == total
    assert found[2] == 0
    assert min(found[0], found[1], found[3]) >= 1
