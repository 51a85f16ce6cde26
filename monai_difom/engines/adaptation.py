"""Fine-tuning of a teacher for the task: a distillation trainer without targets, from plain settings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine
from monai.transforms import Activationsd, AsDiscreted, Compose
from torch import nn

from ..data import EpochSampler, ViewDataset
from ..metrics import StructureDice
from ..targets import TargetPipeline
from ..utils import own_rank, world_size
from ..utils.precision import fast_bfloat16
from .distiller import Distiller
from .objective import Objective
from .phases import Phase, Plan
from .schedule import OneCycle
from .trainer import DistillationTrainer

logger = logging.getLogger(__name__)

#: batches of an epoch at least, where none are asked for: 40 epochs of two batches leave a teacher that knows little
FEWEST_STEPS = 10


@dataclass(frozen=True)
class AdaptSettings:
    """How a teacher is fine-tuned.

    Args:
        epochs: passes over the labelled images, or stretches of ``epoch_steps``.
        epoch_steps: batches in an epoch; None for one pass, and for `FEWEST_STEPS` with few labels, where a pass is one or two.
        batch_size: images in a batch of one process.
        learning_rate: highest rate of AdamW; one cycle.
        encoder_rate: factor on it for the pretrained encoder; below 1 it is changed more slowly than the new decoder.
        encoder: name of that module in the network; a network without it has one rate.
        weight_decay: of AdamW.
        warmup: share of the training in which the rate rises.
        ema: factor of a moving average of the weights, such as 0.999; None for none. See `DistillationTrainer`.
        max_grad_norm: largest norm of the gradient; None for any.
        amp: mixed precision, but not where it would be slower (`slower_mixed`): in depthwise convolutions on CPUs, and on CPUs
            without bfloat16 of their own.
        channels_last: memory layout, see `DistillationTrainer`.
        num_workers: loader processes.
        cache_rate: share of the images kept in memory.
        val_interval: epochs between two validations.
        save_interval: epochs between two writes of the training state.

    Raises:
        ValueError: a number outside its range.
    """

    epochs: int = 40
    epoch_steps: int | None = None
    batch_size: int = 16
    learning_rate: float = 0.001
    encoder_rate: float = 1.0
    encoder: str = "encoder"
    weight_decay: float = 0.01
    warmup: float = 0.15
    ema: float | None = None
    max_grad_norm: float | None = None
    amp: bool = False
    channels_last: bool = True
    num_workers: int = 0
    cache_rate: float = 1.0
    val_interval: int = 1
    save_interval: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "val_interval", "save_interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of an adaptation is {getattr(self, name)}; allowed is 1 and more.")
        for name in ("learning_rate", "encoder_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"{name} of an adaptation is {getattr(self, name)}; allowed is a number above 0."
                )


def adaptation_validator(
    network: nn.Module,
    data: ViewDataset,
    settings: AdaptSettings,
    structures: Sequence[str],
    device: torch.device | str = "cpu",
) -> SupervisedEvaluator:
    """Return the evaluator that chooses the best epoch, by the mean Dice of the structures (``val_dice``).

    Args:
        network: the teacher; gives logits of one channel per structure (sigmoid).
        data: validation images.
        settings: sizes of the loader.
        structures: names of the channels.
        device: where the network is.
    """
    steps = [Activationsd("pred", sigmoid=True), AsDiscreted("pred", threshold=0.5)]
    return SupervisedEvaluator(
        device=torch.device(device),
        val_data_loader=DataLoader(data, batch_size=settings.batch_size, num_workers=settings.num_workers),
        network=network,
        postprocessing=Compose(steps),
        key_val_metric={"val_dice": StructureDice(structures, from_engine(["pred", "label"]))},
        decollate=True,
    )


def adaptation_trainer(
    network: nn.Module,
    data: ViewDataset,
    settings: AdaptSettings,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    handlers: Sequence[Any] = (),
    seed: int = 0,
    device: torch.device | str = "cpu",
    resume: str = "",
) -> DistillationTrainer:
    """Return the trainer of one teacher: one phase, called ``adapt``, on masks alone.

    Args:
        network: the teacher, with adapters or without.
        data: labelled images, augmented.
        settings: how it is fine-tuned.
        loss: mask loss, called as ``loss(logits, label)``.
        handlers: validation, curves, checkpoints.
        seed: seed of order and augmentation.
        device: where to train.
        resume: checkpoint to continue from; empty to start.
    """
    targets = TargetPipeline({}, [])
    distiller = Distiller(network, targets)
    steps = settings.epoch_steps
    if steps is None and len(data) < FEWEST_STEPS * settings.batch_size * world_size():
        steps = FEWEST_STEPS
    own = None if steps is None else steps * settings.batch_size
    sampler = EpochSampler(len(data), seed, rank=own_rank(), world=world_size(), count=own)
    loader = DataLoader(
        data,
        batch_size=settings.batch_size,
        sampler=sampler,
        num_workers=settings.num_workers,
        drop_last=len(sampler) >= settings.batch_size,
        pin_memory=torch.device(device).type == "cuda",
    )
    return DistillationTrainer(
        device=device,
        plan=Plan([Phase("adapt", settings.epochs, {"segmentation": 1.0})]),
        train_data_loader=loader,
        distiller=distiller,
        targets=targets,
        objective=Objective(loss),
        optimizer=torch.optim.AdamW(
            parameter_groups(network, settings.learning_rate, settings.encoder_rate, settings.encoder),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        ),
        schedule=OneCycle(warmup=settings.warmup),
        seed=seed,
        amp=settings.amp and not slower_mixed(network, device),
        channels_last=settings.channels_last,
        ema=settings.ema,
        max_grad_norm=settings.max_grad_norm,
        resume=resume,
        train_handlers=handlers,
    )


def parameter_groups(
    network: nn.Module, learning_rate: float, encoder_rate: float = 1.0, encoder: str = "encoder"
) -> list[dict[str, Any]]:
    """Return a network's parameters for an optimiser, those of its encoder with a rate of their own.

    Args:
        network: any network.
        learning_rate: rate of all but the encoder.
        encoder_rate: factor on it for the encoder.
        encoder: name of the encoder's module.
    """
    own = [p for name, p in network.named_parameters() if name.startswith(f"{encoder}.")]
    if encoder_rate == 1.0 or not own:
        return [{"params": list(network.parameters()), "lr": learning_rate}]
    rest = [p for name, p in network.named_parameters() if not name.startswith(f"{encoder}.")]
    return [
        {"params": rest, "lr": learning_rate},
        {"params": own, "lr": learning_rate * encoder_rate},
    ]


def slower_mixed(network: nn.Module, device: torch.device | str) -> bool:
    """Return whether mixed precision slows a network down.

    On CPUs it does where bfloat16 is emulated (`fast_bfloat16`), and for depthwise convolutions everywhere.
    """
    if torch.device(device).type != "cpu":
        return False
    convolutions = (m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d)))
    return not fast_bfloat16() or any(1 < m.in_channels == m.groups for m in convolutions)
