"""What each teacher does to the student: weight, share of the loss, whether it pulls with the others, how alike they are."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch.utils.tensorboard import SummaryWriter

from ..engines.figures import FigureEvents
from ..engines.trainer import DistillationTrainer
from ..metrics import linear_cka
from ..networks.taps import read_taps
from ..utils import is_main_rank

logger = logging.getLogger(__name__)
FIGURES = ("balance", "share", "gradient_cosine", "cka")


class TeacherDiagnostics:
    """Follows every distillation term through the run.

    - ``balance``: the weight that the balancer gave the term (the phase's weight is not in it), mean of the epoch;
    - ``share``: the term's part of the weighted distillation loss, mean of the epoch; the shares of an epoch add up to 1;
    - ``gradient_cosine``: ``"<term>|<term>"`` -> cosine of the two losses' gradients at the tap that both read, on one batch
      every `interval` iterations, mean of the epoch. Below 0 the teachers pull apart. The student's map is computed once
      in eval mode and the gradients stop at it, so one measurement costs about a forward pass of student and teachers;
    - ``cka``: linear CKA (unbiased, see `linear_cka`) of the student's tap and the term's target over the positions of
      validation images, before training (epoch 0) and at the end of every phase. Terms that a phase does not use are
      measured too: they show what it forgets. Positions of one image are not independent.

    Nothing here changes the training: no random number is drawn and no statistic of the student moves.

    Args:
        loader: validation batches with ``image`` and ``teacher_image``; None for no CKA.
        interval: iterations between two measurements of the gradients; 0 for none.
        max_images: how many validation images CKA takes, at least; whole batches are taken.
        max_positions: how many positions, spread evenly over these images.
        log_dir: folder for TensorBoard scalars; None for none.

    Attributes:
        epochs: one dict per epoch: ``epoch, phase, balance, share, gradient_cosine, cka``; epoch 0 has ``cka`` only.
    """

    def __init__(
        self,
        loader: Iterable[Mapping[str, torch.Tensor]] | None = None,
        interval: int = 50,
        max_images: int = 32,
        max_positions: int = 4096,
        log_dir: str | os.PathLike | None = None,
    ) -> None:
        self.loader, self.interval = loader, int(interval)
        self.max_images, self.max_positions = max_images, max_positions
        self.log_dir = log_dir
        self.epochs: list[dict[str, Any]] = []
        self._values: dict[str, dict[str, list[float]]] = {}

    def attach(self, engine: DistillationTrainer) -> None:
        """Register with a trainer, before its checkpoint handler; the first process of a run measures, on its own images."""
        if not is_main_rank():
            return
        self.trainer = engine
        engine.stateful["teachers"] = self
        if engine.distils:
            engine.add_event_handler(Events.STARTED, self._before)
            engine.add_event_handler(Events.EPOCH_STARTED, self._started)
            engine.add_event_handler(FigureEvents.READ, self._collect)
            if self.interval:
                # before MONAI takes the batch apart
                engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._compare)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._completed)

    def state_dict(self) -> dict[str, Any]:
        """Return the figures so far."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the figures of an interrupted run."""
        self.epochs = list(state["epochs"])

    def _add(self, figure: str, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._values.setdefault(figure, {}).setdefault(name, []).append(value)

    def _started(self, _engine: Engine) -> None:
        self._values = {}

    def _collect(self, _engine: Engine) -> None:
        for step in self.trainer.figures:
            self._add("balance", {n: w for n, w in step.balance.items() if n != "segmentation"})
            parts = {n: step.weights[n] * v for n, v in step.terms.items() if n != "segmentation"}
            total = sum(parts.values())
            if total > 0:
                self._add("share", {name: part / total for name, part in parts.items()})

    def _compare(self, engine: Engine) -> None:
        if (engine.state.iteration - 1) % self.interval == 0:
            self._add("gradient_cosine", self.gradient_cosines(engine.state.batch))

    def _maps(self, batch: Mapping[str, torch.Tensor], terms: Iterable[str]) -> tuple[dict, dict, dict]:
        """Taps of the student, its head outputs and the targets of terms, for a batch; gradients end at the taps."""
        trainer, distiller = self.trainer, self.trainer.distiller
        modes = [(module, module.training) for module in distiller.modules()]
        distiller.eval()
        with torch.no_grad():
            _, found = read_taps(distiller.student, trainer.laid_out(batch["image"]), distiller.taps)
        for module, mode in modes:  # frozen parts are in eval mode while the rest trains
            module.training = mode
        with torch.enable_grad():
            taps = {name: value.float().requires_grad_() for name, value in found.items()}
            heads = dict(zip(distiller.term_names, distiller.heads, strict=True))
            mapped = {name: heads[name](taps[distiller.term_taps[name]]) for name in terms}
        with torch.no_grad():
            targets = trainer.targets_of(batch, terms)
        return taps, mapped, targets

    def gradient_cosines(self, batch: Mapping[str, torch.Tensor]) -> dict[str, float]:
        """Return ``"a|b"`` -> cosine of the gradients of two terms at the tap that both read.

        Args:
            batch: ``image`` and what the targets need, as the loader gives it.
        """
        trainer = self.trainer
        of_tap: dict[str, list[str]] = {}
        for name in trainer.targets.terms:
            if trainer.weights_now().get(name):
                of_tap.setdefault(trainer.distiller.term_taps[name], []).append(name)
        shared = {tap: names for tap, names in of_tap.items() if len(names) > 1}
        if not shared:
            return {}
        taps, mapped, targets = self._maps(batch, [name for names in shared.values() for name in names])
        cosines = {}
        for tap, names in shared.items():
            gradients = {}
            for name in names:
                with torch.enable_grad():
                    loss = trainer.targets.terms[name].loss(mapped[name], targets[name].detach())
                (gradient,) = torch.autograd.grad(loss, taps[tap])
                gradients[name] = gradient.flatten().double()
            for a, b in combinations(names, 2):
                cosines[f"{a}|{b}"] = float(F.cosine_similarity(gradients[a], gradients[b], dim=0))
        return cosines

    def similarity(self) -> dict[str, float]:
        """Return term -> CKA of the student's tap and the target, on validation images as the student is now."""
        if self.loader is None:
            return {}
        names = list(self.trainer.targets.terms)
        pairs: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {name: [] for name in names}
        seen = 0
        for batch in self.loader:
            taps, _, targets = self._maps(batch, names)
            for name in names:
                student = taps[self.trainer.distiller.term_taps[name]].detach()
                pairs[name].append((_positions(student), _positions(targets[name])))
            seen += len(batch["image"])
            if seen >= self.max_images:
                break
        found = {}
        for name, batches in pairs.items():
            student, target = (torch.cat(side) for side in zip(*batches, strict=True))
            step = -(-len(student) // self.max_positions)
            if len(student) >= 4:
                found[name] = linear_cka(student[::step], target[::step])
        return found

    def _before(self, engine: Engine) -> None:
        if self.epochs or engine.state.epoch:  # resumed
            return
        entry = {"epoch": 0, "phase": None, "cka": self.similarity()}
        self.epochs.append(entry)
        self._write(entry)

    def _completed(self, engine: Engine) -> None:
        entry: dict[str, Any] = {"epoch": engine.state.epoch, "phase": self.trainer.phase.name}
        for figure in FIGURES[:-1]:
            entry[figure] = {n: sum(v) / len(v) for n, v in self._values.get(figure, {}).items()}
        entry["cka"] = self.similarity() if engine.state.epoch in self.trainer.plan.ends() else {}
        self.epochs.append(entry)
        self._write(entry)
        for pair, cosine in entry["gradient_cosine"].items():
            if cosine < -0.2:
                logger.info(
                    "The gradients of %s pull apart in epoch %d: cosine %.2f.", pair, entry["epoch"], cosine
                )

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self.log_dir is None:
            return
        with SummaryWriter(log_dir=str(self.log_dir)) as writer:
            for figure in FIGURES:
                for name, value in entry.get(figure, {}).items():
                    writer.add_scalar(f"{figure}/{name}", value, entry["epoch"])

    def summary(self) -> dict[str, Any]:
        """Return the balancer and, for each phase that ran, the figures of its last epoch by term.

        ``name``; ``sources`` (term -> ``"<teacher>/<map>"``); ``phases``, a list of ``name, balance, share, gradient_cosine,
        cka``; ``start`` (term -> CKA before training).
        """
        rows = []
        for phase in self.trainer.plan.phases:
            own = [entry for entry in self.epochs if entry["phase"] == phase.name]
            if own:
                rows.append({"name": phase.name, **{figure: own[-1][figure] for figure in FIGURES}})
        start: dict[str, float] = next((entry["cka"] for entry in self.epochs if entry["epoch"] == 0), {})
        return {
            "name": type(self.trainer.objective.balancer).__name__,
            "sources": {name: term.source for name, term in self.trainer.targets.terms.items()},
            "phases": rows,
            "start": start,
        }


def _positions(maps: torch.Tensor) -> torch.Tensor:
    """One row per position: ``(B, C, *spatial)`` -> ``(B * positions, C)``."""
    return maps.detach().movedim(1, -1).reshape(-1, maps.shape[1]).cpu()
