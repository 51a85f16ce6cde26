r"""The two learned balancers of VFSS agglomeration (Zeng et al., arXiv 2504.02351), as published and in a sound form.

**Published.** :math:`\alpha` lies on the simplex and minimises :math:`\sum_i \alpha_i l_i` together with the student. That
is linear in :math:`\alpha`, so its minimum is a corner: all weight on the teacher with the smallest loss, the one that
needs no help. The form is kept to reproduce this.

**Sound.** The losses are numbers for the balancer and the weights are numbers for the student, so neither can cheat by
moving the other's. The balancer plays against the student: it maximises the weighted lag, and pays for being one-sided,

.. math::
    J(\alpha) = -\sum_i \alpha_i \log r_i - \tau H(\alpha), \qquad r_i = \mathrm{EMA}(l_i) / l_i^{(0)},

with :math:`l_i^{(0)}` the mean of the first batches: :math:`r_i` is the share of teacher i's loss that is still there.
:math:`J = \tau\,\mathrm{KL}(\alpha \Vert \alpha^*) + c` with one minimum inside the simplex, :math:`\alpha^*_i \propto
r_i^{1/\tau}`: at :math:`\tau = 1` the weights are proportional to what is left to learn. Neither :math:`r_i` nor the inputs
of the networks know a loss's scale, and a share :math:`\epsilon` is dealt out evenly, :math:`w_i = n ((1 - \epsilon) \alpha_i
+ \epsilon / n)`, so no teacher falls below :math:`\epsilon` and the entropy of the weights has a floor whatever was learned.
What the networks add to :math:`\alpha^*` is inertia against the noise of single batches. A teacher that cannot be matched
keeps :math:`r` near 1 and a high weight: :math:`\tau` and :math:`\epsilon` bound it, and the diagnostics show it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from ..utils.seeds import drawn_apart
from .balance import Balancer, RunningMean

Form = Literal["sound", "published"]


class Lag(nn.Module):
    """How far every term lags behind, in numbers that do not know its scale.

    Args:
        terms: number of terms.
        warmup: number of first batches whose mean is the reference of a term.
    """

    reference: torch.Tensor
    seen: torch.Tensor

    def __init__(self, terms: int, warmup: int) -> None:
        super().__init__()
        if warmup < 1:
            raise ValueError(f"warmup is {warmup}; the reference of a loss needs at least one batch.")
        self.warmup = warmup
        self.fast, self.slow = RunningMean(terms, 0.9), RunningMean(terms, 0.99)
        self.register_buffer("reference", torch.zeros(terms))
        self.register_buffer("seen", torch.zeros(terms))

    def forward(self, losses: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``log r`` less its mean, ``(n,)``, and the networks' inputs ``(n, 2)``: that, and the recent trend."""
        now = losses.detach().clamp_min(1e-12)
        if self.training or bool((self.seen[index] == 0).any()):
            first = self.seen[index] < self.warmup
            self.seen[index] += first.float()
            step = (now - self.reference[index]) / self.seen[index].clamp_min(1)
            self.reference[index] += torch.where(first, step, torch.zeros_like(step))
        fast, slow = self.fast(now, index), self.slow(now, index)
        lag = (fast / self.reference[index]).log()
        lag = lag - lag.mean()
        return lag, torch.stack([lag, (fast / slow).log()], 1)


class LearnedBalancer(Balancer):
    r"""Weights by a softmax over what a small network says; see the module.

    Subclasses implement `logits`.

    Args:
        terms: names of the terms.
        form: ``"sound"``, or ``"published"`` to reproduce the collapse onto the easiest teacher.
        temperature: :math:`\tau` of the sound form; lower is more one-sided.
        floor: :math:`\epsilon` of the sound form, in [0, 1].
        warmup: number of batches whose mean is a term's reference, in the sound form.

    Raises:
        ValueError: an unknown form, or a number out of its range.
    """

    def __init__(
        self,
        terms: Sequence[str],
        form: Form = "sound",
        temperature: float = 1.0,
        floor: float = 0.2,
        warmup: int = 10,
    ) -> None:
        super().__init__(terms)
        if not self.terms:
            raise ValueError(f"{type(self).__name__} learns one weight per term: name them in terms.")
        if form not in ("sound", "published"):
            raise ValueError(f"form is {form!r}; allowed are 'sound' and 'published'.")
        if temperature <= 0 or not 0 <= floor <= 1:
            raise ValueError(
                f"temperature is {temperature} and floor {floor}; allowed are temperature above 0, floor in [0, 1]."
            )
        self.form, self.temperature, self.floor = form, temperature, floor
        self.lag = Lag(len(self.terms), warmup) if form == "sound" else None

    @abstractmethod
    def logits(self, inputs: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Return ``(n,)`` from inputs ``(n, 1)`` (the losses, published) or ``(n, 2)`` (lag and trend, sound)."""

    def weigh(self, losses: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return n times the simplex weights, and what the network minimises."""
        count = len(losses)
        if self.lag is None:
            # as published nothing is detached: the student feels the weights move with its losses
            alpha = self.logits(losses[:, None], index).softmax(0)
            return count * alpha, count * (alpha * losses.detach()).sum()
        lag, inputs = self.lag(losses, index)
        logits = self.logits(inputs, index)
        alpha, log_alpha = logits.softmax(0), logits.log_softmax(0)
        own = (alpha * (self.temperature * log_alpha - lag)).sum()
        return count * ((1 - self.floor) * alpha + self.floor / count), own


class MLPBalancer(LearnedBalancer):
    r"""Strategy A of VFSS agglomeration: :math:`\alpha = \mathrm{softmax}(W_2 \sigma(W_1 x + b_1) + b_2)`.

    x are the losses of all terms in the published form, their lags and trends in the sound one. The last layer has one
    output per term; with the single one that a review of the paper prints, the softmax would always be 1. :math:`\sigma`
    is not stated there: ReLU here. A term that a phase leaves out reads as 0.

    Args:
        terms: names of the terms.
        form: ``"sound"`` or ``"published"``.
        hidden: width of the hidden layer.
        **sound: ``temperature``, ``floor`` and ``warmup`` of the sound form, see `LearnedBalancer`.
    """

    def __init__(
        self,
        terms: Sequence[str],
        form: Form = "sound",
        hidden: int = 16,
        **sound: Any,
    ) -> None:
        super().__init__(terms, form, **sound)
        self.width = 2 if form == "sound" else 1
        with drawn_apart("balancer"):
            self.first = nn.Linear(len(self.terms) * self.width, hidden)
            self.last = nn.Linear(hidden, len(self.terms))
        # start with equal weights
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def logits(self, inputs: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Return one number for each present term."""
        every = inputs.new_zeros(len(self.terms), self.width).index_copy(0, index, inputs)
        return self.last(torch.relu(self.first(every.flatten())))[index]


class AttentionBalancer(LearnedBalancer):
    r"""Strategy B of VFSS agglomeration: :math:`\alpha_i = \mathrm{softmax}_i(q^T k_i / \sqrt{d})`.

    Published, query and keys are learned constants, blind to the losses. In the sound form a key is a learned constant
    plus a learned linear map, shared by all terms, of the term's lag and trend.

    Args:
        terms: names of the terms.
        form: ``"sound"`` or ``"published"``.
        dim: d, length of query and keys.
        **sound: ``temperature``, ``floor`` and ``warmup`` of the sound form, see `LearnedBalancer`.
    """

    def __init__(
        self,
        terms: Sequence[str],
        form: Form = "sound",
        dim: int = 16,
        **sound: Any,
    ) -> None:
        super().__init__(terms, form, **sound)
        with drawn_apart("balancer"):
            self.query = nn.Parameter(torch.randn(dim))
        # start with equal weights
        self.keys = nn.Parameter(torch.zeros(len(self.terms), dim))
        self.read = nn.Parameter(torch.zeros(dim, 2)) if form == "sound" else None

    def logits(self, inputs: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Return one number for each present term."""
        keys = self.keys[index]
        if self.read is not None:
            keys = keys + inputs @ self.read.T
        return keys @ self.query / len(self.query) ** 0.5
