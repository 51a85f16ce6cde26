"""Balancers: a dict of loss terms in, a dict of weights out.

A balancer says how the terms compare; the phase's own weights multiply what it returns. Except for those of
`UncertaintyBalancer`, the weights of n terms have mean 1: a change of balancer does not change how much
distillation as a whole counts against the masks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..utils import mean_over_ranks, unknown_name

Balance = tuple[dict[str, torch.Tensor], torch.Tensor | None]


class Balancer(nn.Module):
    """Base of all balancers: weights from losses that are first averaged over the processes of the run.

    Every process therefore has the same weights, which are those of one process on the joined batch. Parameters learn
    from a loss of the balancer's own that knows averaged numbers only, so they stay equal without being synchronised.

    Subclasses implement `weigh`.

    Args:
        terms: names of the terms that are compared; needed where a term has a state or a parameter of its own.

    Raises:
        ValueError: a name stands twice, or `forward` is given a term that is not named.
    """

    def __init__(self, terms: Sequence[str] = ()) -> None:
        super().__init__()
        self.terms = list(terms)
        self._indices: dict[tuple[tuple[str, ...], torch.device], torch.Tensor] = {}
        if len(set(self.terms)) < len(self.terms):
            raise ValueError(f"a balancer compares terms of different names; got {self.terms}.")

    @abstractmethod
    def weigh(self, losses: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return weights ``(n,)`` and the balancer's own loss (a scalar, or None without parameters).

        Args:
            losses: ``(n,)``, mean over all processes; attached to this process's student.
            index: place of each of them in `terms`.
        """

    def check_terms(self, names: Iterable[str]) -> None:
        """Refuse a balancer whose terms are not those of the training.

        Raises:
            ValueError: a term is unknown to the training, or to the balancer; names it.
        """
        known = list(names)
        for term in self.terms:
            if term not in known:
                raise ValueError(unknown_name(f"term of {type(self).__name__}", term, known))
        for name in known if self.terms else ():
            if name not in self.terms:
                raise ValueError(
                    f"{type(self).__name__} compares {', '.join(self.terms)}, and not {name!r}. Name all "
                    f"distillation terms: terms: [{', '.join(known)}]."
                )

    def forward(self, losses: Mapping[str, torch.Tensor]) -> Balance:
        """Compare loss terms.

        Args:
            losses: term -> scalar, with or without gradient; a phase may leave terms out.

        Returns:
            ``(weights, own)``: term -> weight, a scalar without gradient; and what the balancer's own parameters
            minimise, None where there are none. To train the balancer, add ``own`` to the loss.
        """
        if not losses:
            return {}, None
        for name in losses if self.terms else ():
            if name not in self.terms:
                raise ValueError(unknown_name(f"term of {type(self).__name__}", name, self.terms))
        # in full precision whatever the losses are in: a balancer compares small differences
        values = mean_over_ranks(torch.stack([value.float() for value in losses.values()]))
        weights, own = self.weigh(values, self._index(tuple(losses), values.device))
        return dict(zip(losses, weights.detach().unbind(), strict=True)), own

    def _index(self, names: tuple[str, ...], device: torch.device) -> torch.Tensor:
        """Return the places of terms, on the device: a list is sent there once, not in every step."""
        key = (names, device)
        if key not in self._indices:
            places = [self.terms.index(name) for name in names] if self.terms else list(range(len(names)))
            self._indices[key] = torch.tensor(places, device=device)
        return self._indices[key]


class UniformBalancer(Balancer):
    """Every term counts as it is: weight 1."""

    def weigh(self, losses: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return ones."""
        return torch.ones_like(losses), None


class StaticBalancer(Balancer):
    """Weights that a person chose.

    Args:
        weights: term -> weight, from 0; all distillation terms must be named.

    Raises:
        ValueError: a weight is negative.
    """

    values: torch.Tensor

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(list(weights))
        if not weights or min(weights.values()) < 0:
            raise ValueError(f"weights is {dict(weights)}; give every term a number from 0.")
        self.register_buffer("values", torch.tensor([float(v) for v in weights.values()]), persistent=False)

    def weigh(self, losses: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the chosen weights."""
        return self.values[index], None


class UncertaintyBalancer(Balancer):
    r"""Weights from learned variances (Kendall, Gal and Cipolla, CVPR 2018, section 3.2).

    Per term :math:`e^{-s_i} l_i + s_i` with the log variance :math:`s_i` learned; its optimum is :math:`e^{s_i} = l_i`,
    where every term contributes 1. The weights :math:`e^{-s_i}` are as published: they have no mean of 1.

    Args:
        terms: names of the terms.
        max_weight: a term that reaches zero would otherwise get an infinite weight.
    """

    def __init__(self, terms: Sequence[str], max_weight: float = 100.0) -> None:
        super().__init__(terms)
        self.max_weight = max_weight
        self.log_variance = nn.Parameter(torch.zeros(len(self.terms)))

    def weigh(self, losses: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the precisions, and the loss of the log variances."""
        log_variance = self.log_variance[index]
        # half, as in the paper's likelihood; the losses are numbers here, so nothing but s learns from it
        own = 0.5 * ((-log_variance).exp() * losses.detach().clamp_min(1 / self.max_weight) + log_variance)
        return (-log_variance).exp().clamp_max(self.max_weight), own.sum()


class RunningMean(nn.Module):
    """Exponential mean of every term's loss, without the bias of its start at zero.

    Args:
        terms: number of terms.
        decay: share of the old mean that is kept, in [0, 1).
    """

    mean: torch.Tensor
    weight: torch.Tensor

    def __init__(self, terms: int, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; allowed is 0 (only the last batch) to below 1.")
        self.decay = decay
        self.register_buffer("mean", torch.zeros(terms))
        self.register_buffer("weight", torch.zeros(terms))

    def forward(self, losses: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Take losses ``(n,)`` in (only in training mode, or when there were none) and return their means."""
        if self.training or bool((self.weight[index] == 0).any()):
            kept = self.decay
            self.mean[index] = kept * self.mean[index] + (1 - kept) * losses.detach()
            self.weight[index] = kept * self.weight[index] + (1 - kept)
        return self.mean[index] / self.weight[index]


class RunningMeanBalancer(Balancer):
    r"""Every term divided by its running mean, so that all contribute alike whatever their scales.

    :math:`w_i \propto 1 / \mathrm{EMA}(l_i)`, with mean 1.

    Args:
        terms: names of the terms.
        decay: of the running mean; 0.99 looks about a hundred batches back.
    """

    def __init__(self, terms: Sequence[str], decay: float = 0.99) -> None:
        super().__init__(terms)
        self.running = RunningMean(len(self.terms), decay)

    def weigh(self, losses: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return inverse running means, scaled to mean 1."""
        inverse = 1 / self.running(losses, index).clamp_min(1e-8)
        return inverse / inverse.mean(), None


class TeacherDropping(Balancer):
    """Keeps the term with the largest loss and drops each other one by chance (UNIC, Sariyildiz et al., ECCV 2024).

    UNIC draws for every image; a balancer sees one number per term, so here the draw is for the batch. What is kept is
    weighed equally, with mean 1 over all terms. The targets should be standardised: the losses are compared as they are.

    Args:
        terms: names of the terms.
        prob: probability that a term other than the largest is dropped (0.5 in UNIC).
        seed: seed of the draws, which depend on it and on the number of batches before: they are the same on every
            process and after a resume.

    Raises:
        ValueError: the probability is outside [0, 1].
    """

    batches: torch.Tensor

    def __init__(self, terms: Sequence[str], prob: float = 0.5, seed: int = 0) -> None:
        super().__init__(terms)
        if not 0 <= prob <= 1:
            raise ValueError(f"prob is {prob}; allowed is 0 (drop none) to 1 (keep the largest only).")
        self.prob, self.seed = prob, int(seed)
        self.register_buffer("batches", torch.tensor(0))
        self._drawn: int | None = None

    def _load_from_state_dict(self, *args: Any) -> None:
        self._drawn = None
        super()._load_from_state_dict(*args)

    def weigh(self, losses: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return n / kept for what is kept, 0 for the rest."""
        if self._drawn is None:
            self._drawn = int(self.batches)  # where a checkpoint left off; counted on the host from there
        mixed = np.random.SeedSequence([self.seed, self._drawn]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(mixed))
        if self.training:
            self.batches += 1
            self._drawn += 1
        # one draw for every named term: a term that a phase leaves out does not move the draws of the others
        kept = torch.rand(max(len(self.terms), len(losses)), generator=generator) >= self.prob
        chosen = kept.to(losses.device, non_blocking=True)[index]
        chosen = chosen.scatter(0, losses.argmax().view(1), True)
        return chosen * (len(losses) / chosen.sum()), None
