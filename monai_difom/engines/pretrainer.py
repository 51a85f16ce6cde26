"""Self-supervised pre-training of a student's encoder on images without masks."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..networks.nets.self_supervised import VitMaskedAutoencoder, VitMomentumContrast, momentum_at
from ..utils import (
    atomic_path,
    average_in_place,
    is_main_rank,
    load_state,
    own_rank,
    save_state,
    world_size,
)
from ..utils.seeds import derived_generator, derived_seed
from .finite import check_weights
from .parallel import Learner
from .steps import check_batch, run_steps

METHODS = ("mae", "moco_v3")


@dataclass(frozen=True)
class PretrainSettings:
    """How an encoder is pre-trained; kept in the checkpoint.

    Args:
        method: ``"mae"`` (masked autoencoder) or ``"moco_v3"`` (momentum contrast).
        encoder: name of a timm vision transformer.
        image_size: side of the images in pixels, a multiple of the patch.
        steps: length of the training; the learning rate falls over it.
        batch_size: images per step of one process.
        learning_rate: highest rate of AdamW.
        weight_decay: of AdamW.
        warmup: share of the steps in which the rate goes up.
        mask_ratio: share of hidden patches of ``"mae"``.
        temperature: of ``"moco_v3"``.
        momentum: first momentum of ``"moco_v3"``; it goes to 1.
        width: channels of the decoder (``"mae"``), hidden channels of the heads (``"moco_v3"``); None takes 192 and 1024.
        seed: seed of first weights and of every step.
    """

    method: str = "mae"
    encoder: str = "vit_tiny_patch16_224"
    image_size: int = 224
    steps: int = 10000
    batch_size: int = 64
    learning_rate: float = 1.5e-4
    weight_decay: float = 0.05
    warmup: float = 0.05
    mask_ratio: float = 0.75
    temperature: float = 0.2
    momentum: float = 0.99
    width: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}; allowed are {', '.join(METHODS)}.")
        if not isinstance(self.image_size, int):
            raise ValueError(f"image_size is {self.image_size}; pre-training takes squares: give one side.")
        lowest = 2 if self.method == "moco_v3" else 1
        if (
            self.steps < 1
            or self.batch_size < lowest
            or not 0 <= self.warmup < 1
            or not 0 <= self.momentum < 1
        ):
            raise ValueError(
                f"steps {self.steps}, batch_size {self.batch_size}, warmup {self.warmup}, momentum {self.momentum}: allowed are "
                f"steps from 1, batches from {lowest} (others are the negatives of moco_v3), and shares in [0, 1)."
            )


class SelfSupervisedTrainer:
    """A vision transformer in pre-training, with optimiser and exact resume.

    Every step draws its images, crops, colours and masks from seed and step alone.

    Several processes (``torchrun``) train one encoder, each on its share of the joined batch. Masked autoencoders step like one
    process on that batch. So does momentum contrast but for its batch norms: they are synchronised on GPUs; on CPUs each
    process normalises by its own share.

    Args:
        settings: see `PretrainSettings`.
        device: where to train.

    Raises:
        ValueError: the encoder is no plain vision transformer, or the image size is no multiple of its patch.
    """

    def __init__(self, settings: PretrainSettings, device: torch.device | str = "cpu") -> None:
        self.settings, self.device = settings, torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.model: VitMaskedAutoencoder | VitMomentumContrast
            if settings.method == "mae":
                self.model = VitMaskedAutoencoder(
                    settings.encoder, settings.mask_ratio, settings.width or 192
                )
            else:
                self.model = VitMomentumContrast(
                    settings.encoder, settings.temperature, settings.width or 1024
                )
        patch = int(self.model.encoder.patch_embed.patch_size[0])
        if settings.image_size % patch or settings.image_size < 2 * patch:
            raise ValueError(
                f"image_size is {settings.image_size}; {settings.encoder} takes multiples of {patch}."
            )
        if world_size() > 1 and self.device.type == "cuda":
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        self.model.to(self.device)
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            trainable, lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.95)
        )
        self.learner = Learner(lambda views: self.model(*views), [self.model])
        self.learner.prepare()
        self.step = 0
        config = self.model.encoder.pretrained_cfg
        self._mean, self._std = (torch.tensor(config[key]).view(-1, 1, 1) for key in ("mean", "std"))
        self._crop = _cropping(settings)

    def train(
        self,
        images: torch.Tensor,
        steps: int | None = None,
        progress: bool = True,
        every: int = 0,
        callback: Callable[[SelfSupervisedTrainer], Any] | None = None,
    ) -> list[float]:
        """Train until ``steps`` steps are done, counted from the first start.

        Args:
            images: 8-bit RGB ``(N, 3, S, S)``.
            steps: stop there; None trains to the end of the settings.
            progress: show a progress bar.
            every: call ``callback`` after every so many steps, and after the last.
            callback: called with this object.

        Returns:
            The loss of every step of this call.

        Raises:
            ValueError: fewer images than one batch.
            FloatingPointError: the loss is not finite.
        """
        check_batch(images, self.settings.batch_size * world_size())
        end = min(steps or self.settings.steps, self.settings.steps)
        return run_steps(
            self,
            lambda: self._train_step(images),
            end,
            self.settings.method,
            progress and is_main_rank(),
            every,
            callback,
            joined=True,
        )

    def _rate(self) -> float:
        progress = self.step / self.settings.steps
        if progress < self.settings.warmup:
            return (
                self.settings.learning_rate
                * (self.step + 1)
                / max(1.0, self.settings.warmup * self.settings.steps)
            )
        share = (progress - self.settings.warmup) / (1 - self.settings.warmup)
        return self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * share))

    def _train_step(self, images: torch.Tensor) -> torch.Tensor:
        seed, step = self.settings.seed, self.step
        draw = derived_generator(seed, 1, step)
        # every process knows the joined batch and takes its share of it
        joined = torch.randperm(len(images), generator=draw)[: self.settings.batch_size * world_size()]
        chosen = joined[own_rank() :: world_size()].tolist()
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        views = [self._view(images, chosen, n) for n in range(1 if self.settings.method == "mae" else 2)]
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.random.fork_rng():
            # masks, and dropout, draw from the global state
            torch.manual_seed(derived_seed(seed, 2, step))
            loss = self.learner.loss(views)
            loss.backward()
        self.optimizer.step()
        if isinstance(self.model, VitMomentumContrast):
            self.model.follow(momentum_at(step / self.settings.steps, self.settings.momentum))
        self.step += 1
        return loss.detach()

    def _view(self, images: torch.Tensor, chosen: Sequence[int], number: int) -> torch.Tensor:
        """Return one random view of each chosen image, normalised as the encoder wants it.

        What an image looks like depends on seed, step, its index and the view's number: not on what it shares a batch with.
        """
        views = []
        with torch.random.fork_rng():
            for index in chosen:
                # torchvision's transforms draw from the global state
                torch.manual_seed(derived_seed(self.settings.seed, 7, self.step, index, number))
                views.append(self._crop(images[index]))
        return ((torch.stack(views) - self._mean) / self._std).to(self.device)

    def save(self, path: str | os.PathLike) -> None:
        """Write everything that the rest of the training depends on, atomically; all processes call it, the first writes."""
        average_in_place(self.model.buffers())  # statistics of batch norms are each process's own until then
        check_weights({"network": self.model}, f"after step {self.step}: what was saved before stays.")
        state = {"settings": self._identity(), "step": self.step, "pretraining": self.model.state_dict()}
        if is_main_rank():
            save_state(path, {**state, "optimizer": self.optimizer.state_dict()})

    def _identity(self) -> dict[str, Any]:
        """Return what must be equal in a run that goes on: the settings, with the batch of all processes together."""
        return {**asdict(self.settings), "batch_size": self.settings.batch_size * world_size()}

    def resume(self, path: str | os.PathLike) -> None:
        """Take up a checkpoint of `save`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it belongs to another training.
        """
        state = load_state(path)
        if not isinstance(state, Mapping) or state.get("settings") != self._identity():
            found = state.get("settings") if isinstance(state, Mapping) else "none"
            raise ValueError(
                f"{path} belongs to another pre-training: its settings are {found}, here they are {self._identity()}. "
                "Use the same settings, or another output folder."
            )
        self.model.load_state_dict(state["pretraining"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])

    def save_encoder(self, path: str | os.PathLike) -> Path:
        """Write the encoder alone, as safetensors in timm's keys, to be given as a student's ``pretrained``."""
        from safetensors.torch import save_file

        state = {k: v.detach().cpu().contiguous().clone() for k, v in self.model.encoder.state_dict().items()}
        with atomic_path(path) as temporary:
            save_file(
                state,
                str(temporary),
                metadata={"method": self.settings.method, "encoder": self.settings.encoder},
            )
        return Path(path)


def _cropping(settings: PretrainSettings) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the random views of a method: crops and flips for MAE, colours, blur and inversion too for MoCo."""
    from torchvision.transforms import v2

    floats = v2.ToDtype(torch.float32, scale=True)
    if settings.method == "mae":
        crop = v2.RandomResizedCrop(settings.image_size, scale=(0.4, 1.0), antialias=True)
        return v2.Compose([crop, v2.RandomHorizontalFlip(), floats])
    return v2.Compose(
        [
            v2.RandomResizedCrop(settings.image_size, scale=(0.2, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
            v2.RandomGrayscale(p=0.2),
            v2.RandomApply([v2.GaussianBlur(9, sigma=(0.1, 2.0))], p=0.5),
            v2.RandomSolarize(128, p=0.1),
            floats,
        ]
    )
