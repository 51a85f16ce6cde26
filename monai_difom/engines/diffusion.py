"""A small diffusion model of images, trained on few of them, by MONAI's network, schedulers and inferer."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from monai.inferers import DiffusionInferer
from monai.networks.nets import DiffusionModelUNet
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from torch import nn

from ..transforms import apply_view
from ..utils import load_state, save_state
from ..utils.seeds import derived_generator, derived_seed
from .finite import check_weights
from .steps import check_batch, run_steps

SAMPLERS = ("ddim", "ddpm")


@dataclass(frozen=True)
class DiffusionSettings:
    """What a diffusion model is; kept in its checkpoint.

    Args:
        image_size: side of its square RGB images in pixels; a multiple of ``2 ** (len(channels) - 1)``.
        channels: channels of the U-Net's levels, multiples of 16.
        attention: levels, counted from 0, with self-attention.
        res_blocks: residual blocks a level.
        timesteps: length of the noise schedule.
        schedule: MONAI's noise schedule, ``"linear_beta"``, ``"scaled_linear_beta"``, ``"cosine"``, ``"sigmoid_beta"``.
        views: number of dihedral views that training draws from: 1 (upright), 2 (and mirrored), 8.
        learning_rate: of Adam.
        batch_size: images per step.
        ema: decay of the averaged weights that samples are drawn with.
        seed: seed of first weights and of every step.
    """

    image_size: int = 64
    channels: tuple[int, ...] = (32, 64, 128)
    attention: tuple[int, ...] = (2,)
    res_blocks: int = 1
    timesteps: int = 1000
    schedule: str = "linear_beta"
    views: int = 1
    learning_rate: float = 2e-4
    batch_size: int = 8
    ema: float = 0.995
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("channels", "attention"):  # a configuration gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        step = 2 ** (len(self.channels) - 1)
        if self.image_size < 2 * step or self.image_size % step:
            raise ValueError(
                f"image_size is {self.image_size}; with {len(self.channels)} levels it is a multiple of {step}."
            )
        if self.batch_size < 1 or not 0 <= self.ema < 1 or self.views not in (1, 2, 8):
            raise ValueError(
                f"batch_size {self.batch_size}, ema {self.ema}, views {self.views}: allowed are a batch from 1, ema in "
                "[0, 1) and 1, 2 or 8 views."
            )


class _EvenDDIM(DDIMScheduler):
    """MONAI's scheduler with steps from each time to the next one, the last of them to the clean image.

    MONAI spreads the times evenly over the schedule, but every step goes back by ``num_train_timesteps // steps``: where that
    is not exact the two drift apart, and noise stays in the image.
    """

    num_train_timesteps: int
    num_inference_steps: int

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        """Spread times evenly from the last one of the schedule; behind the last step lies the clean image."""
        super().set_timesteps(num_inference_steps, device)
        total, steps = self.num_train_timesteps, num_inference_steps
        times = [total - 1 - (k * total + steps // 2) // steps for k in range(steps + 1)]
        self.timesteps = torch.tensor(times[:-1], device=device)
        self._following = dict(pairwise(times))

    def step(self, model_output: torch.Tensor, timestep: int, *args: Any, **kwargs: Any) -> Any:
        """Go from a time to the next one; arguments and results are MONAI's."""
        schedule = self.num_train_timesteps, self.num_inference_steps
        # MONAI goes back by the quotient of these two
        self.num_train_timesteps = int(timestep) - self._following[int(timestep)]
        self.num_inference_steps = 1
        try:
            return super().step(model_output, timestep, *args, **kwargs)
        finally:
            self.num_train_timesteps, self.num_inference_steps = schedule


class ImageDiffusion:
    """The model with its averaged weights and its optimiser.

    Every training step draws images, noise and times from seed and step alone: a training that is killed and taken up
    again ends as one that was not, bit for bit on the CPU.

    Args:
        settings: see `DiffusionSettings`.
        device: where to run.
    """

    def __init__(self, settings: DiffusionSettings, device: torch.device | str = "cpu") -> None:
        self.settings = settings
        self.device = torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.model = DiffusionModelUNet(
                spatial_dims=2,
                in_channels=3,
                out_channels=3,
                channels=settings.channels,
                attention_levels=[level in settings.attention for level in range(len(settings.channels))],
                num_res_blocks=settings.res_blocks,
                num_head_channels=16,
                norm_num_groups=16,
            ).to(self.device)
        self.average: nn.Module = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate)
        self.step = 0
        noise = {"num_train_timesteps": settings.timesteps, "schedule": settings.schedule}
        self.schedulers = {"ddpm": DDPMScheduler(**noise), "ddim": _EvenDDIM(**noise)}
        self.inferer = DiffusionInferer(self.schedulers["ddpm"])

    def train(
        self,
        images: torch.Tensor,
        steps: int,
        progress: bool = True,
        every: int = 0,
        callback: Callable[[ImageDiffusion], Any] | None = None,
    ) -> list[float]:
        """Train until ``steps`` steps are done, counted from the first start.

        Args:
            images: ``(N, 3, S, S)`` in [-1, 1].
            steps: total number of steps.
            progress: show a progress bar.
            every: call ``callback`` after every so many steps, and after the last; 0 for the last only.
            callback: called with this object.

        Returns:
            The loss of every step of this call.

        Raises:
            ValueError: fewer images than one batch.
            FloatingPointError: the loss is not finite.
        """
        check_batch(images, self.settings.batch_size)
        images = images.to(self.device)
        return run_steps(
            self, lambda: self._train_step(images), steps, "Diffusion", progress, every, callback
        )

    def _train_step(self, images: torch.Tensor) -> torch.Tensor:
        settings = self.settings
        draw = derived_generator(settings.seed, 1, self.step)
        chosen = torch.randperm(len(images), generator=draw)[: settings.batch_size]
        views = torch.randint(0, settings.views, (len(chosen),), generator=draw).tolist()
        batch = torch.stack([apply_view(images[i], v) for i, v in zip(chosen.tolist(), views, strict=True)])
        noise = torch.randn(batch.shape, generator=draw).to(self.device)
        times = torch.randint(0, settings.timesteps, (len(batch),), generator=draw).to(self.device)
        self.model.train()
        predicted = self.inferer(inputs=batch, diffusion_model=self.model, noise=noise, timesteps=times)
        loss = F.mse_loss(predicted.float(), noise)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        # early on the average follows closely, or it would remember the first random weights
        decay = min(settings.ema, self.step / (self.step + 10))
        with torch.no_grad():
            for kept, new in zip(self.average.parameters(), self.model.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
        return loss.detach()

    @torch.no_grad()
    def sample(
        self, count: int, number: int = 0, sampler: str = "ddim", steps: int = 50, seed: int = 0
    ) -> torch.Tensor:
        """Draw images with the averaged weights.

        Args:
            count: images of this batch.
            number: number of the batch: seed and number alone decide the images.
            sampler: ``"ddim"``, or ``"ddpm"``, which takes all ``timesteps``.
            steps: denoising steps of ``"ddim"``.
            seed: seed of the set.

        Returns:
            ``(count, 3, S, S)`` in [0, 1], on the CPU.
        """
        if sampler not in SAMPLERS:
            raise ValueError(f"sampler is {sampler!r}; allowed are {', '.join(SAMPLERS)}.")
        if not 1 <= steps <= self.settings.timesteps:
            raise ValueError(
                f"sampling steps are {steps}; allowed are 1 to {self.settings.timesteps} (timesteps)."
            )
        scheduler = self.schedulers[sampler]
        # a DDPM step is defined between neighbouring times only
        scheduler.set_timesteps(steps if sampler == "ddim" else self.settings.timesteps)
        side = self.settings.image_size
        noise = torch.randn(count, 3, side, side, generator=derived_generator(seed, 2, number)).to(
            self.device
        )
        with torch.random.fork_rng():  # the DDPM step draws from the global state
            torch.manual_seed(derived_seed(seed, 3, number))
            images = self.inferer.sample(noise, self.average, scheduler=scheduler, verbose=False)
        return ((images.float() + 1) / 2).clamp(0, 1).cpu()

    def save(self, path: str | os.PathLike) -> None:
        """Write everything that training and sampling depend on, atomically."""
        check_weights({"network": self.model}, f"after step {self.step}: what was saved before stays.")
        save_state(
            path,
            {
                "settings": asdict(self.settings),
                "step": self.step,
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
        )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        device: torch.device | str = "cpu",
        settings: DiffusionSettings | None = None,
    ) -> ImageDiffusion:
        """Read a checkpoint.

        Args:
            path: file of `save`.
            device: where to run.
            settings: the settings that are wanted; others in the file are refused.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no diffusion checkpoint, or of another model.
        """
        state = load_state(path)
        if not isinstance(state, Mapping) or "average" not in state:
            raise ValueError(f"{path} is no diffusion checkpoint.")
        found = DiffusionSettings(**state["settings"])
        if settings is not None and settings != found:
            other = [
                f"{k} {getattr(found, k)} (now {v})"
                for k, v in asdict(settings).items()
                if getattr(found, k) != v
            ]
            raise ValueError(
                f"{path} belongs to another model: {', '.join(other)}. Use the same settings, or another output folder."
            )
        diffusion = cls(found, device)
        diffusion.model.load_state_dict(state["model"])
        diffusion.average.load_state_dict(state["average"])
        diffusion.optimizer.load_state_dict(state["optimizer"])
        diffusion.step = int(state["step"])
        return diffusion
