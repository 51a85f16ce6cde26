"""The training loop: a MONAI trainer that runs a plan of distillation phases."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.engines.workflow import Workflow
from torch.optim.lr_scheduler import LambdaLR

from ..data import define
from ..losses.annotated import annotated_images
from ..targets import TargetPipeline
from ..utils import Readings, average_in_place, copy_from_main, own_rank, world_size
from ..utils.seeds import derived_generator
from .average import WeightAverage
from .checkpoint import Stateful, resume_training, training_state
from .compiled import CompiledDistiller
from .distiller import Distiller
from .figures import FigureEvents, StepFigures, StepLog
from .finite import check_weights
from .objective import Objective
from .parallel import Learner
from .phases import Phase, Plan
from .preflight import check_first_batch, check_mixed, check_optimizer
from .schedule import OneCycle
from .stored_targets import switch_store, used_store
from .teacher_images import TeacherImages
from .tracking import prepare_trackers

logger = logging.getLogger(__name__)


class DistillationTrainer(SupervisedTrainer):
    """Trains a student on masks and on its teachers' targets, phase by phase.

    Every epoch starts from random states that depend on seed and epoch only, and every loader item on seed, epoch and
    index: what an epoch does is a function of the state at its start. A run that is killed and resumed from its last
    checkpoint therefore ends with the same weights, bit for bit on the CPU with the same number of threads.

    Several processes (``torchrun``) train one student: each on its part of every batch (see `EpochSampler`), with the mean of
    their gradients, so that they step like one process on the joined batch. Their network, file formats and checkpoints are
    those of one process; a run may be resumed with another number of processes if the joined batch stays the same. Each
    normalises by the statistics of its own part unless the student has synchronised batch norms (GPUs only); running
    statistics are averaged after every epoch.

    ``engine.state.output`` holds ``image``, ``label``, ``pred``, ``loss`` (MONAI's keys), ``terms`` (term -> value),
    ``weights`` (term -> weight) and ``balance`` (term -> the balancer's share of that weight), all of this process and on the
    device. They are read together, every `log_interval` steps and before anything is saved; handlers then find them, means over
    all processes, as plain numbers in ``engine.figures`` (`FigureEvents`). A loss that is not finite stops the run there.

    Args:
        device: where to train.
        plan: the phases.
        train_data_loader: gives dicts of ``image`` (student's input), ``teacher_image`` (RGB in [0, 1], same geometry) and
            ``label``; with ``targets`` of a feature store no teacher runs. Its sampler's ``set_epoch`` is called where
            there is one.
        distiller: student and heads.
        targets: the target pipeline; fitted at the start of the run unless it is already.
        objective: the loss.
        optimizer: over the parameters of `distiller` (and of `targets`, for a learned fusion; and of `objective`, for a
            learned balancer).
        schedule: share of the training -> factor on the learning rate; a phase's ``lr`` multiplies it.
        seed: seed of the epochs' random states.
        max_epochs: total epochs when it should differ from the plan's: the plan is stretched to it.
        amp: mixed precision: float16 with loss scaling on a GPU, bfloat16 on a CPU, where a warning says if the processor has to
            emulate it, which is many times slower.
        accumulation_steps: batches per optimiser step.
        max_grad_norm: clip the gradient of all that `optimizer` holds to this norm; None for no clipping.
        channels_last: memory layout of 2D images and weights; faster on CPUs and tensor cores, same results to rounding.
            Volumes keep theirs.
        ema: factor of a moving average of the student's weights, such as 0.999 (see `WeightAverage`). From the end of an epoch to
            the start of the next, and after the run, the student holds the averages: they are validated and saved. None for none.
        mixing: called as ``mixing(batch, generator)`` on every batch without stored maps, which could not follow; such as
            `MixImages`. Its generator depends on seed, step and process alone.
        compile: run the student and its heads through `torch.compile`, which pays on GPUs in long trainings; or its arguments,
            such as ``{"mode": "max-autotune"}``. What is validated, saved and exported is the plain network.
        log_interval: steps between two readings of what they cost, each of which waits for the device.
        resume: checkpoint file, or a run's folder of checkpoints, to continue from; empty or None to start anew.
        train_handlers: handlers; those with state register themselves in `stateful`.
        **kwargs: further arguments of MONAI's `SupervisedTrainer`.

    Raises:
        ValueError: a phase weighs a term, or freezes a module, that does not exist; a balancer compares other terms than
            those of `targets`, or learns and is not in the optimiser.
    """

    def __init__(
        self,
        device: torch.device | str,
        plan: Plan,
        train_data_loader: Any,
        distiller: Distiller,
        targets: TargetPipeline,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        schedule: Callable[[float], float] | None = None,
        seed: int = 0,
        max_epochs: int | None = None,
        amp: bool = False,
        accumulation_steps: int = 1,
        max_grad_norm: float | None = None,
        channels_last: bool = False,
        ema: float | None = None,
        mixing: Callable[[Mapping[str, Any], torch.Generator], dict[str, Any]] | None = None,
        compile: bool | Mapping[str, Any] = False,  # noqa: A002
        log_interval: int = 50,
        resume: str | os.PathLike | None = None,
        train_handlers: Sequence | None = None,
        **kwargs: Any,
    ) -> None:
        plan = plan if max_epochs in (None, plan.epochs) else plan.scaled(int(max_epochs))  # type: ignore[arg-type]
        plan.check_terms(targets.terms)
        objective.check_terms(targets.terms)
        check_optimizer(optimizer, objective)
        for phase in plan.phases:
            distiller.frozen_modules(tuple(phase.freeze))
        self.plan, self.distiller, self.targets, self.objective = plan, distiller, targets, objective
        self.schedule = schedule if schedule is not None else OneCycle()
        self.seed = int(seed)
        self.mixed = bool(amp)
        self.max_grad_norm = max_grad_norm
        images = all(p.ndim < 5 for p in distiller.parameters())
        self.memory_format = torch.channels_last if channels_last and images else None
        self._forward = CompiledDistiller(distiller, compile)
        self.average = WeightAverage(distiller, ema) if ema is not None else None
        self.mixing = mixing
        self.resume = Path(resume) if resume else None
        self.stateful: dict[str, Stateful] = {}
        self.phase: Phase = plan.at(0)[0]
        # what comes frozen (the base under LoRA adapters) stays so in every phase
        self.fixed = [p for p in distiller.parameters() if not p.requires_grad]
        self.frozen: list[torch.nn.Module] = []
        # taking every batch apart makes the host wait for the device: only for transforms that want single images
        kwargs.setdefault("decollate", kwargs.get("postprocessing") is not None)
        super().__init__(
            device=torch.device(device),
            max_epochs=plan.epochs,
            train_data_loader=train_data_loader,
            network=distiller.student,
            optimizer=optimizer,
            loss_function=objective,
            accumulation_steps=accumulation_steps,
            train_handlers=None,
            **kwargs,
        )
        if not self.state.epoch_length:
            raise ValueError("the training loader is empty: fewer images than one batch, or none at all.")
        total = plan.epochs * self.state.epoch_length
        self.lr_scheduler = LambdaLR(optimizer, lambda step: self._lr_factor(step, total))
        self.learner = Learner(
            self._score,
            (distiller, targets, objective),
            (p for g in optimizer.param_groups for p in g["params"]),
        )
        self.figures: list[StepFigures] = []
        self._checks, self._steps = Readings(), StepLog()
        self.register_events(*FigureEvents)
        if self.mixed:
            check_mixed(self.state.device)
        scaled = self.mixed and self.state.device.type == "cuda"
        self.scaler = torch.amp.GradScaler("cuda") if scaled else None
        # first of all handlers, so that every other one finds the phase set
        self.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        self.add_event_handler(Events.ITERATION_COMPLETED(every=log_interval), self.read_figures)
        self.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)
        prepare_trackers(train_handlers or (), self)
        self._register_handlers(train_handlers or ())

    @property
    def distils(self) -> bool:
        """Whether any phase gives any distillation term a weight."""
        return any(
            phase.epochs and phase.uses(term) for phase in self.plan.phases for term in self.targets.terms
        )

    def _lr_factor(self, step: int, total: int) -> float:
        phase, _ = self.plan.at(step / self.state.epoch_length)
        return self.schedule(step / total) * phase.lr

    def run(self) -> None:  # type: ignore[override]
        """Fit the targets or take up a checkpoint, then train to the end of the plan."""
        device = self.state.device
        self.distiller.to(device)
        self.objective.to(device)
        store = used_store(self.data_loader, self.distils)
        if self.distils and store is None:
            self.targets.to(device)
        if self.memory_format is not None:
            self.distiller.to(memory_format=self.memory_format)
            for teacher in self.targets.teachers.values():
                teacher.to(memory_format=self.memory_format)
        copy_from_main(self.distiller, self.objective)
        if self.average is not None:
            self.average.restart()
        grids, image_size = check_first_batch(
            next(iter(self.data_loader)),
            self.distiller,
            lambda image: self.inferer(self.laid_out(image), self.distiller),
            self.plan,
            self.targets,
            self.objective,
        )
        if store is not None:
            store.fit(self.targets, grids, image_size)
        if self.resume is not None:
            resume_training(self, self.resume)
        elif self.distils and not self.targets.fitted:
            logger.info("Fitting the targets on up to %d training images.", self.targets.fit_images)
            logger.info("Targets fitted: %s", self.targets.fit(TeacherImages(self.data_loader, device)))
        if store is not None:
            store.check_definition(define(self.targets, grids, image_size))
        if self.state.epoch >= self.plan.epochs:
            logger.info("The plan's %d epochs are done already; nothing to train.", self.plan.epochs)
            self._show_average()
            return
        with self._forward:
            Workflow.run(self)

    def _start_epoch(self) -> None:
        self._show_average(False)
        epoch = self.state.epoch - 1
        # processes draw different numbers (dropout); the first draws those of a run of one
        mixed = [self.seed, epoch, *([own_rank()] if own_rank() else [])]
        seed = int(np.random.SeedSequence(mixed).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        sampler = getattr(self.data_loader, "sampler", None)
        if sampler is not None and hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        self.enter(self.plan.at(epoch)[0])

    def _end_epoch(self) -> None:
        self.read_figures()  # before anything is validated, drawn or saved
        if world_size() > 1:
            # before validation and checkpoint: running statistics are each process's own until then
            average_in_place(self.distiller.buffers())
            average_in_place(self.average.tensors() if self.average is not None else ())
        check_weights(dict(self._learning().named_children()), self._where())
        self._show_average()
        # what looks at validation images after an epoch, in whatever phase, finds their stored targets
        switch_store(self.data_loader, self.distils)

    def _learning(self) -> torch.nn.ModuleDict:
        """What is trained and saved, by name."""
        return torch.nn.ModuleDict({"student and heads": self.distiller, "balancer": self.objective})

    def _where(self) -> str:
        return (
            f"in epoch {self.state.epoch} (phase {self.phase.name}, learning rate "
            f"{self.optimizer.param_groups[0]['lr']:.3g}): nothing of this epoch is saved. Lower the learning rate, clip the "
            "gradient (max_grad_norm), or look at the data with --check_data True."
        )

    def _show_average(self, average: bool = True) -> None:
        if self.average is not None:
            self.average.show(average)

    def enter(self, phase: Phase) -> None:
        """Make a phase the current one: its frozen modules lose their gradients, all others have theirs back."""
        self.phase = phase
        # workers that live for many epochs keep their copy of the store as it was
        if not getattr(self.data_loader, "persistent_workers", False):
            switch_store(self.data_loader, any(phase.uses(term) for term in self.targets.terms))
        self.distiller.requires_grad_(True)
        for parameter in self.fixed:
            parameter.requires_grad_(False)
        self.frozen = self.distiller.frozen_modules(tuple(phase.freeze))
        for module in self.frozen:
            module.requires_grad_(False)
            for parameter in module.parameters():
                parameter.grad = None
        self.learner.prepare()

    def autocast(self) -> AbstractContextManager:
        """Return the mixed-precision context of this run."""
        if not self.mixed:
            return nullcontext()
        device = self.state.device.type
        return torch.autocast(device, dtype=torch.float16 if device == "cuda" else torch.bfloat16)

    def weights_now(self) -> dict[str, float]:
        """Return term -> phase weight at the current iteration, without the terms that have none."""
        phase, progress = self.plan.at((self.state.iteration - 1) / self.state.epoch_length)
        weights = {term: phase.weight(term, progress) for term in ("segmentation", *self.targets.terms)}
        return {term: weight for term, weight in weights.items() if weight > 0}

    def _iteration(self, engine: SupervisedTrainer, batchdata: dict[str, torch.Tensor]) -> dict:
        """Train on one batch."""
        self.distiller.train()
        for module in self.frozen:
            module.eval()
        position = (self.state.iteration - 1) % self.state.epoch_length
        first = position % self.accumulation_steps == 0
        last = (position + 1) % self.accumulation_steps == 0 or position + 1 == self.state.epoch_length
        if first:
            self.optimizer.zero_grad(set_to_none=True)
        if self.mixing is not None and "targets" not in batchdata:
            batchdata = self.mixing(batchdata, derived_generator(self.seed, self.state.iteration, own_rank()))
        with nullcontext() if last else self.learner.alone():
            loss = self.learner.loss(batchdata) / self.accumulation_steps
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        self.fire_event(IterationEvents.BACKWARD_COMPLETED)
        if last:
            self._step()
        self.lr_scheduler.step()
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return self.state.output  # type: ignore[return-value]

    def _score(self, batchdata: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss of a batch; leave all else that is known of it in the engine's output."""
        image = self.laid_out(batchdata["image"])
        device = self.state.device
        label, annotated = batchdata.get("label"), None
        if label is not None:
            annotated = annotated_images(label).to(device, non_blocking=True)
            label = label.to(device, non_blocking=True)
        output: dict[str, Any] = {"image": image, "label": label}
        self.state.output = output
        weights = self.weights_now()
        with self._checks.collect():
            with self.autocast():
                output["pred"], mapped = self.inferer(image, self._forward)
            self.fire_event(IterationEvents.FORWARD_COMPLETED)
            targets = self.targets_of(batchdata, weights)
            scored = self.objective(
                output["pred"], label, mapped, targets, self.targets.terms, weights, annotated
            )
        output.update(loss=scored.total.detach(), terms=scored.terms, weights=scored.weights)
        output["balance"] = scored.balance
        self._steps.add(self.state.iteration, scored, weights)
        self.fire_event(IterationEvents.LOSS_COMPLETED)
        return scored.total

    def read_figures(self) -> None:
        """Read what the steps since the last reading cost, of all processes together; see `FigureEvents`.

        Raises:
            FloatingPointError: a loss is not finite; names the term.
            RuntimeError: a teacher gave NaN or infinity, or got no RGB; names it.
        """
        steps = self._steps.fetch()
        self._checks.read()  # first, for it knows the cause
        found = steps()
        if found:
            self.figures = found
            self.fire_event(FigureEvents.READ)

    def targets_of(
        self, batch: Mapping[str, Any], terms: Iterable[str], count: int | None = None
    ) -> dict[str, torch.Tensor]:
        """Return the targets of a loader's batch: from its stored maps where it brings them, else by the teachers.

        Args:
            batch: holds ``image``, and ``targets`` (of a feature store) or ``teacher_image``.
            terms: names of terms; where none but ``segmentation`` is among them, no teacher runs.
            count: use the first images of the batch only.

        Returns:
            Term -> ``(B, C, *grid)``, float32, on the grid of the student's map.
        """
        known = self.distiller.grids(self.laid_out(batch["image"][:1]))
        grids = {name: known[name] for name in terms if name != "segmentation"}
        if not grids:
            return {}
        device, stored = self.state.device, batch.get("targets")
        if stored is not None:
            needed = {self.targets.map_name(name, grid) for name, grid in grids.items()}
            maps = {key: stored[key][:count].to(device, non_blocking=True) for key in needed}
            return self.targets.split(maps, grids)
        if self.targets.fitted.device.type != device.type:
            # with stored training targets the teachers have stayed where they were loaded
            self.targets.to(device)
        with self.autocast():
            return self.targets(self.laid_out(batch["teacher_image"][:count]), grids)

    def laid_out(self, image: torch.Tensor) -> torch.Tensor:
        """Return images on the device of the training, in its memory layout."""
        image = image.to(self.state.device, non_blocking=True)
        if self.memory_format is None or image.ndim != 4:
            return image
        return image.contiguous(memory_format=self.memory_format)

    def _step(self) -> None:
        """Let the optimiser take a step with the gradients that there are."""
        scaler = self.scaler
        if self.max_grad_norm is not None:
            if scaler is not None:
                scaler.unscale_(self.optimizer)
            learned = [p for group in self.optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(learned, self.max_grad_norm)
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()
        if self.average is not None:
            self.average.update()

    def checkpoint(self) -> dict[str, Any]:
        """Return all that the rest of the run depends on, as tensors and plain data; of the teachers their signatures only."""
        self._checks.read()
        with self.average.own_weights() if self.average is not None else nullcontext():
            return training_state(self)
