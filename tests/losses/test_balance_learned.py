"""The learned balancers: what is published collapses on the easiest teacher, the sound form helps the one that lags."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from monai_difom.losses import AttentionBalancer, MLPBalancer
from monai_difom.losses.balance_learned import LearnedBalancer

from ..balance_tester import TERMS, BalancerTester, losses_of

KINDS = [MLPBalancer, AttentionBalancer]


class TestMLP(BalancerTester):
    def make(self) -> MLPBalancer:
        return MLPBalancer(TERMS)


class TestAttention(BalancerTester):
    def make(self) -> AttentionBalancer:
        return AttentionBalancer(TERMS)


class TestPublishedMLP(BalancerTester):
    def make(self) -> MLPBalancer:
        return MLPBalancer(TERMS, form="published")


class TestPublishedAttention(BalancerTester):
    def make(self) -> AttentionBalancer:
        return AttentionBalancer(TERMS, form="published")


def learn(balancer: LearnedBalancer, path: list[tuple[float, ...]], lr: float = 0.02) -> list[float]:
    """Show losses batch by batch; return the last weights."""
    optimizer = torch.optim.Adam(balancer.parameters(), lr=lr)
    for values in path:
        weights, own = balancer(losses_of(values))
        optimizer.zero_grad()
        own.backward()
        optimizer.step()
    return [float(weight) for weight in weights.values()]


@pytest.mark.parametrize("kind", KINDS)
def test_the_published_form_goes_one_hot_on_the_easiest_teacher(kind: type[LearnedBalancer]) -> None:
    torch.manual_seed(0)
    assert learn(kind(TERMS, form="published"), [(0.3, 0.6, 0.9)] * 400)[0] > 0.99 * 3


def falling(steps: int = 400) -> list[tuple[float, ...]]:
    """Losses of different scales, of which a half, a quarter and a tenth is left in the end."""
    left = (0.1, 0.25, 0.5)
    return [
        tuple(s * (end + (1 - end) * math.exp(-t / 20)) for s, end in zip((9.0, 1.0, 0.1), left, strict=True))
        for t in range(steps)
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_sound_form_reaches_the_optimum_that_is_derived(
    kind: type[LearnedBalancer], temperature: float
) -> None:
    torch.manual_seed(0)
    balancer = kind(TERMS, temperature=temperature, floor=0.1, warmup=1)
    found = learn(balancer, falling())
    optimum = torch.tensor([0.1, 0.25, 0.5]) ** (1 / temperature)
    expected = 3 * (0.9 * optimum / optimum.sum() + 0.1 / 3)
    torch.testing.assert_close(torch.tensor(found), expected, atol=0.05, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_of_a_loss_does_not_change_the_sound_weights(kind: type[LearnedBalancer]) -> None:
    ends = []
    for factor in (1.0, 1000.0):
        torch.manual_seed(0)
        path = [(a, factor * b, c) for a, b, c in falling(60)]
        ends.append(torch.tensor(learn(kind(TERMS), path)))
    torch.testing.assert_close(ends[0], ends[1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_no_teacher_falls_below_the_floor_whatever_was_learned(kind: type[LearnedBalancer]) -> None:
    torch.manual_seed(0)
    balancer = kind(TERMS, floor=0.3)
    for parameter in balancer.parameters():
        nn.init.normal_(parameter, std=50)
    for values in falling(20):
        weights = torch.stack(list(balancer(losses_of(values))[0].values()))
        assert weights.min() >= 0.3 - 1e-5
        shares = weights / 3
        most_one_sided = torch.tensor([0.8, 0.1, 0.1])
        lowest = -(most_one_sided * most_one_sided.log()).sum()
        assert -(shares * shares.log()).sum() >= lowest - 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_published_mlp_lets_the_student_feel_the_weights_move(kind: type[LearnedBalancer]) -> None:
    for form in ("sound", "published"):
        torch.manual_seed(0)
        balancer = kind(TERMS, form=form)
        for parameter in balancer.parameters():
            nn.init.normal_(parameter)
        losses = losses_of()
        balancer(losses)[1].backward()
        felt = any(value.grad is not None and bool(value.grad.any()) for value in losses.values())
        # published attention is a constant per teacher, blind to the losses
        assert felt == (form == "published" and kind is MLPBalancer)


def test_the_published_total_has_the_gradient_of_the_published_formula() -> None:
    torch.manual_seed(0)
    balancer = MLPBalancer(TERMS, form="published")
    for parameter in balancer.parameters():
        nn.init.normal_(parameter)
    losses = losses_of()
    weights, own = balancer(losses)
    total = sum(weights[name] * losses[name] for name in TERMS) + own - own.detach()
    found = torch.autograd.grad(total, [*losses.values(), *balancer.parameters()])
    direct = losses_of()
    stacked = torch.stack(list(direct.values()))
    alpha = balancer.logits(stacked[:, None], torch.arange(3)).softmax(0)
    plain = 3 * (alpha * stacked).sum()
    torch.testing.assert_close(total, plain)
    expected = torch.autograd.grad(plain, [*direct.values(), *balancer.parameters()])
    for ours, formula in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, formula)


def shared_student(balancer: LearnedBalancer, steps: int = 300) -> torch.Tensor:
    """A student of few channels learns two teachers, one simple and one rich; return the R2 of each."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(256, 16, generator=generator)
    simple = image @ torch.randn(16, 1, generator=generator) @ torch.randn(1, 8, generator=generator) / 4
    rich = torch.tanh(image @ torch.randn(16, 8, generator=generator) / 2) * 1.6
    teachers = {"easy": simple / simple.std(), "hard": rich / rich.std()}
    torch.manual_seed(1)
    trunk = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 6))
    heads = nn.ModuleDict({name: nn.Linear(6, 8) for name in teachers})
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters(), *balancer.parameters()], lr=1e-2)
    for _ in range(steps):
        code = trunk(image)
        losses = {name: (heads[name](code) - target).pow(2).mean() for name, target in teachers.items()}
        weights, own = balancer(losses)
        optimizer.zero_grad()
        (sum(weights[name] * losses[name] for name in losses) + own - own.detach()).backward()
        optimizer.step()
    return torch.stack([1 - losses[name].detach() for name in teachers])


@pytest.mark.parametrize("kind", KINDS)
def test_the_hard_teacher_is_learned_with_the_sound_form_and_lost_with_the_published(
    kind: type[LearnedBalancer],
) -> None:
    torch.manual_seed(0)
    published = shared_student(kind(("easy", "hard"), form="published"))
    torch.manual_seed(0)
    sound = shared_student(kind(("easy", "hard")))
    assert sound[0] > 0.95  # the easy one is learned by both
    assert published[0] > 0.95
    assert sound[1] > published[1] + 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"form": "fixed"}, "allowed are 'sound' and 'published'"),
        ({"temperature": 0.0}, "temperature above 0"),
        ({"floor": 1.5}, "floor in"),
        ({"warmup": 0}, "at least one batch"),
        ({"terms": ()}, "name them in terms"),
    ],
)
def test_wrong_settings_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLPBalancer(**{"terms": TERMS, **changes})
