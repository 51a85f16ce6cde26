"""What holds for every balancer: a class of tests that each of them inherits."""

from __future__ import annotations

import math
from abc import abstractmethod

import pytest
import torch

from monai_difom.losses import Balancer

TERMS = ("easy", "middle", "hard")


def losses_of(values: tuple[float, ...] = (0.3, 0.6, 0.9), names: tuple[str, ...] = TERMS) -> dict:
    """Losses with gradient, by term."""
    return {name: torch.tensor(v, requires_grad=True) for name, v in zip(names, values, strict=True)}


class BalancerTester:
    """Subclasses implement `make` and set what is true of their balancer."""

    mean_one = True  # the weights have mean 1
    scale_free = True  # the scale of a loss does not matter, or does what it should

    @abstractmethod
    def make(self) -> Balancer:
        """Build the balancer over `TERMS`; the caller has set the seed."""

    @pytest.fixture
    def balancer(self) -> Balancer:
        torch.manual_seed(0)
        return self.make()

    def train(self, balancer: Balancer, steps: int = 30, seed: int = 1) -> list[dict[str, float]]:
        """Feed noisy falling losses and let the parameters learn; return the weights of every step."""
        generator = torch.Generator().manual_seed(seed)
        parameters = list(balancer.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=1e-2) if parameters else None
        found = []
        for step in range(steps):
            noise = 1 + 0.2 * torch.rand(3, generator=generator)
            values = noise * torch.tensor([0.3, 0.6, 0.9]) * torch.tensor([0.9, 0.95, 0.99]) ** step
            weights, own = balancer(dict(zip(TERMS, values.unbind(), strict=True)))
            found.append({name: float(weight) for name, weight in weights.items()})
            if optimizer is not None and own is not None:
                optimizer.zero_grad()
                own.backward()
                optimizer.step()
        return found

    def test_every_term_gets_a_finite_weight_without_gradient(self, balancer: Balancer) -> None:
        weights, _ = balancer(losses_of())
        assert list(weights) == list(TERMS)
        for weight in weights.values():
            assert weight.ndim == 0
            assert math.isfinite(float(weight))
            assert weight >= 0
            assert not weight.requires_grad

    def test_weights_stay_finite_and_their_mean_is_one(self, balancer: Balancer) -> None:
        for weights in self.train(balancer):
            assert all(math.isfinite(w) and w >= 0 for w in weights.values())
            if self.mean_one:
                assert sum(weights.values()) == pytest.approx(3, rel=1e-4)

    def test_a_phase_may_leave_terms_out(self, balancer: Balancer) -> None:
        self.train(balancer, 3)
        weights, own = balancer(losses_of((0.6, 0.9), ("middle", "hard")))
        assert list(weights) == ["middle", "hard"]
        if self.mean_one:
            assert float(sum(weights.values())) == pytest.approx(2, rel=1e-4)
        assert own is None or own.ndim == 0
        assert balancer({}) == ({}, None)

    def test_an_unknown_term_is_refused_with_the_nearest(self, balancer: Balancer) -> None:
        if not balancer.terms:
            pytest.skip("this balancer takes any terms")
        with pytest.raises(ValueError, match="Did you mean 'easy'"):
            balancer(losses_of((1.0,), ("easyy",)))
        with pytest.raises(ValueError, match="Did you mean 'harder'"):
            balancer.check_terms(["easy", "middle", "harder"])
        with pytest.raises(ValueError, match="and not 'mask'"):
            balancer.check_terms([*TERMS, "mask"])

    def test_a_loss_of_zero_breaks_nothing(self, balancer: Balancer) -> None:
        for _ in range(3):
            weights, own = balancer(losses_of((0.0, 0.6, 0.9)))
            assert all(math.isfinite(float(w)) for w in weights.values())
            assert own is None or math.isfinite(float(own))

    def test_the_state_brings_the_weights_back_exactly(self, balancer: Balancer) -> None:
        self.train(balancer, 12)
        torch.manual_seed(5)
        other = self.make()
        other.load_state_dict(balancer.state_dict(), strict=True)
        # the optimiser is new for both: the same steps from the same state
        assert self.train(other, 5, seed=2) == self.train(balancer, 5, seed=2)
