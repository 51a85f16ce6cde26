"""A diffusion model in small: exact resume, images by seed, settings that are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monai_difom.engines import DiffusionSettings, ImageDiffusion

TINY: dict[str, Any] = {
    **{"image_size": 8, "channels": [16, 16], "attention": [1], "timesteps": 20, "batch_size": 2},
    **{"learning_rate": 2e-3, "views": 2},
}


def images() -> torch.Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def weights(diffusion: ImageDiffusion) -> list[torch.Tensor]:
    return [*diffusion.model.parameters(), *diffusion.average.parameters()]


def test_a_training_that_is_resumed_ends_bit_for_bit_as_one_that_was_not(tmp_path: Path) -> None:
    whole = ImageDiffusion(DiffusionSettings(**TINY))
    whole.train(images(), 4, progress=False)
    first = ImageDiffusion(DiffusionSettings(**TINY))
    first.train(images(), 2, progress=False)
    first.save(tmp_path / "d.pt")
    torch.manual_seed(99)  # the state of the process must not matter
    second = ImageDiffusion.load(tmp_path / "d.pt", settings=DiffusionSettings(**TINY))
    assert second.step == 2
    second.train(images(), 4, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))


def test_the_loss_falls_and_the_average_follows() -> None:
    diffusion = ImageDiffusion(DiffusionSettings(**TINY))
    start = [p.clone() for p in diffusion.average.parameters()]
    losses = diffusion.train(images(), 80, progress=False)
    assert np.mean(losses[-25:]) < 0.9 * np.mean(losses[:5])
    assert any(not torch.equal(a, b) for a, b in zip(start, diffusion.average.parameters(), strict=True))
    assert not any(p.requires_grad for p in diffusion.average.parameters())


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_images_depend_on_seed_and_batch_alone(sampler: str) -> None:
    diffusion = ImageDiffusion(DiffusionSettings(**TINY))
    diffusion.train(images(), 2, progress=False)
    one = diffusion.sample(2, 0, sampler, 4, seed=1)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    assert torch.equal(diffusion.sample(2, 0, sampler, 4, seed=1), one)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(diffusion.sample(2, 1, sampler, 4, seed=1), one)
    assert not torch.equal(diffusion.sample(2, 0, sampler, 4, seed=2), one)
    assert one.shape == (2, 3, 8, 8)
    assert 0 <= one.min() <= one.max() <= 1


def test_too_few_images_for_a_batch_are_refused() -> None:
    diffusion = ImageDiffusion(DiffusionSettings(**TINY))
    with pytest.raises(ValueError, match="there are 1 images for batches of 2"):
        diffusion.train(images()[:1], 2, progress=False)


def test_what_makes_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image_size is 9; with 2 levels it is a multiple of 2"):
        DiffusionSettings(**{**TINY, "image_size": 9})
    with pytest.raises(ValueError, match="1, 2 or 8 views"):
        DiffusionSettings(**{**TINY, "views": 3})
    diffusion = ImageDiffusion(DiffusionSettings(**TINY))
    with pytest.raises(ValueError, match="sampler is 'euler'"):
        diffusion.sample(1, sampler="euler")
    with pytest.raises(ValueError, match="allowed are 1 to 20"):
        diffusion.sample(1, steps=21)
    diffusion.save(tmp_path / "d.pt")
    with pytest.raises(ValueError, match=r"belongs to another model: ema 0.995 \(now 0.5\)"):
        ImageDiffusion.load(tmp_path / "d.pt", settings=DiffusionSettings(**{**TINY, "ema": 0.5}))
    torch.save({"a": torch.zeros(1)}, tmp_path / "e.pt")
    with pytest.raises(ValueError, match="no diffusion checkpoint"):
        ImageDiffusion.load(tmp_path / "e.pt")


@pytest.mark.parametrize("steps", [1, 3, 7, 13, 20])
def test_sampling_ends_at_the_clean_image_for_any_number_of_steps(steps: int) -> None:
    diffusion = ImageDiffusion(DiffusionSettings(**TINY))
    clean = images()[:2]
    kept = diffusion.schedulers["ddim"].alphas_cumprod

    class Oracle(torch.nn.Module):
        """Knows the image, and so the noise in it: whatever is left at the end is the sampler's fault."""

        def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, context: None) -> torch.Tensor:
            alpha = kept[timesteps.long()]
            return (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()

    diffusion.average = Oracle()
    found = diffusion.sample(2, steps=steps)
    torch.testing.assert_close(found, (clean + 1) / 2, rtol=0, atol=1e-4)
    assert len(diffusion.schedulers["ddim"].timesteps) == steps
