"""Balancers turn loss terms into weights."""

from __future__ import annotations

import pytest
import torch

from monai_difom.losses import (
    RunningMeanBalancer,
    StaticBalancer,
    TeacherDropping,
    UncertaintyBalancer,
    UniformBalancer,
)

from ..balance_tester import TERMS, BalancerTester, losses_of


class TestUniform(BalancerTester):
    def make(self) -> UniformBalancer:
        return UniformBalancer()

    def test_every_weight_is_one_and_there_is_nothing_to_save(self, balancer: UniformBalancer) -> None:
        assert {float(w) for w in balancer(losses_of())[0].values()} == {1.0}
        assert not balancer.state_dict()


class TestStatic(BalancerTester):
    def make(self) -> StaticBalancer:
        return StaticBalancer({"easy": 0.5, "middle": 0.5, "hard": 2.0})

    mean_one = False

    def test_weights_are_those_that_were_chosen(self, balancer: StaticBalancer) -> None:
        assert [float(w) for w in balancer(losses_of())[0].values()] == [0.5, 0.5, 2.0]
        assert [float(w) for w in balancer(losses_of((1.0,), ("hard",)))[0].values()] == [2.0]

    def test_negative_weights_are_refused(self) -> None:
        with pytest.raises(ValueError, match="from 0"):
            StaticBalancer({"easy": -1.0})


class TestUncertainty(BalancerTester):
    mean_one = False

    def make(self) -> UncertaintyBalancer:
        return UncertaintyBalancer(TERMS)

    def test_it_learns_the_inverse_of_each_loss(self, balancer: UncertaintyBalancer) -> None:
        optimizer = torch.optim.Adam(balancer.parameters(), lr=0.05)
        for _ in range(300):
            weights, own = balancer(losses_of())
            optimizer.zero_grad()
            own.backward()
            optimizer.step()
        for name, value in zip(TERMS, (0.3, 0.6, 0.9), strict=True):
            assert float(weights[name]) == pytest.approx(1 / value, rel=0.02)

    def test_the_student_gets_no_gradient_through_the_weights(self, balancer: UncertaintyBalancer) -> None:
        losses = losses_of()
        balancer(losses)[1].backward()
        assert all(value.grad is None for value in losses.values())

    def test_a_term_that_reaches_zero_keeps_a_bounded_weight(self) -> None:
        balancer = UncertaintyBalancer(TERMS, max_weight=10)
        balancer.log_variance.data.fill_(-20)
        assert max(float(w) for w in balancer(losses_of())[0].values()) == 10


class TestRunningMean(BalancerTester):
    def make(self) -> RunningMeanBalancer:
        return RunningMeanBalancer(TERMS, decay=0.5)

    def test_all_terms_contribute_alike_whatever_their_scales(self, balancer: RunningMeanBalancer) -> None:
        for _ in range(5):
            losses = losses_of((0.001, 1.0, 500.0))
            weights, _ = balancer(losses)
        shares = torch.stack([weights[name] * losses[name].detach() for name in TERMS])
        torch.testing.assert_close(shares / shares.sum(), torch.full((3,), 1 / 3))

    def test_evaluation_leaves_the_mean_alone(self, balancer: RunningMeanBalancer) -> None:
        balancer(losses_of())
        before = {key: value.clone() for key, value in balancer.state_dict().items()}
        balancer.eval()(losses_of((9.0, 9.0, 9.0)))
        assert all(torch.equal(value, before[key]) for key, value in balancer.state_dict().items())

    def test_a_decay_of_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="decay is 1"):
            RunningMeanBalancer(TERMS, decay=1)


class TestDropping(BalancerTester):
    def make(self) -> TeacherDropping:
        return TeacherDropping(TERMS)

    def test_the_hardest_is_always_kept_and_the_others_half_of_the_time(self) -> None:
        balancer = TeacherDropping(TERMS)
        kept = torch.tensor([[float(w) > 0 for w in balancer(losses_of())[0].values()] for _ in range(600)])
        assert kept[:, 2].all()
        assert kept[:, :2].float().mean(0).sub(0.5).abs().max() < 0.07
        # and independently of each other
        assert abs(float((kept[:, 0] & kept[:, 1]).float().mean()) - 0.25) < 0.06

    def test_draws_depend_on_the_seed_alone(self, balancer: TeacherDropping) -> None:
        first = self.train(balancer, 20)
        torch.manual_seed(99)
        assert self.train(TeacherDropping(TERMS), 20) == first
        assert self.train(TeacherDropping(TERMS, seed=1), 20) != first

    def test_the_ends_of_the_probability_keep_all_or_one(self) -> None:
        assert [float(w) for w in TeacherDropping(TERMS, prob=0)(losses_of())[0].values()] == [1, 1, 1]
        assert [float(w) for w in TeacherDropping(TERMS, prob=1)(losses_of())[0].values()] == [0, 0, 3]
        with pytest.raises(ValueError, match="prob is 2"):
            TeacherDropping(TERMS, prob=2)


def test_a_term_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="different names"):
        UncertaintyBalancer(["a", "a"])
