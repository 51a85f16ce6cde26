"""What the student sees and what the teachers see: one geometry, different light.

The augmentation stage of a loader is ``RandViewd -> SplitTeacherd -> RandPhotometricd -> NormalizeImaged``.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from ..utils import IMAGENET_MEAN, IMAGENET_STD

# Rec. 601 luma, and the rotation-free part of the RGB <-> YIQ change of basis that hue turns act in
_LUMA = torch.tensor([0.299, 0.587, 0.114])
_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_FROM_YIQ = torch.linalg.inv(_TO_YIQ)


@dataclass(frozen=True)
class Photometric:
    """One draw of photometric changes; the defaults change nothing.

    Args:
        brightness: factor on all channels.
        contrast: factor on the distance from the mean grey level.
        saturation: factor on the distance from each pixel's grey level.
        hue: turn of the colour circle, 0.5 is the opposite colour.
        gamma: exponent.
        blur: standard deviation of a Gaussian, pixels.
        noise: standard deviation of Gaussian noise, on the scale [0, 1].
        noise_seed: seed of that noise.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    gamma: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    noise_seed: int = 0


def _colour(image: torch.Tensor, change: Photometric) -> torch.Tensor:
    """Brightness, saturation, hue and contrast are affine in RGB: one matrix does all four in one pass."""
    cosine, sine = math.cos(2 * math.pi * change.hue), math.sin(2 * math.pi * change.hue)
    saturation = change.saturation
    chroma = torch.eye(3)
    chroma[1:, 1:] = saturation * torch.tensor([[cosine, -sine], [sine, cosine]])
    matrix = change.brightness * (_FROM_YIQ @ chroma @ _TO_YIQ)
    pixels = image.reshape(3, -1)
    grey = _LUMA @ (matrix @ pixels.mean(1))
    offset = ((1 - change.contrast) * grey).expand(3, 1)
    return torch.addmm(offset, change.contrast * matrix, pixels).reshape(image.shape)


def _gaussian_blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur ``(3, H, W)``: weighted sums of shifted images, ten times as fast on a CPU as convolutions of one channel."""
    radius = min(max(1, math.ceil(2.5 * sigma)), min(image.shape[1:]) - 1)
    weights = [math.exp(-0.5 * (n / sigma) ** 2) for n in range(radius + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    for axis, pad in ((1, [0, 0, radius, radius]), (2, [radius, radius, 0, 0])):
        side = image.shape[axis]
        wide = F.pad(image, pad, mode="reflect")
        image = wide.narrow(axis, radius, side) * (weights[0] / total)
        for n in range(1, radius + 1):
            for start in (radius - n, radius + n):
                image.add_(wide.narrow(axis, start, side), alpha=weights[n] / total)
    return image


def apply_photometric(image: torch.Tensor, change: Photometric) -> torch.Tensor:
    """Apply one photometric change; the same change gives the same result.

    Args:
        image: ``(3, H, W)`` RGB, float in [0, 1].
        change: what to do.

    Returns:
        ``(3, H, W)``, float in [0, 1]; a new tensor unless nothing is changed.

    Raises:
        ValueError: the image is not a float RGB image.
    """
    if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
        raise ValueError(
            f"photometric changes need a float RGB image (3, H, W) in [0, 1]; this one is {tuple(image.shape)} "
            f"{image.dtype}. Load it with to_rgb and put SplitTeacherd before this transform."
        )
    if (change.brightness, change.contrast, change.saturation, change.hue) != (1, 1, 1, 0):
        image = _colour(image, change).clamp_(0, 1)
    if change.gamma != 1:
        image = image.pow(change.gamma)
    if change.blur > 0.05:  # below this the neighbours weigh less than float precision
        image = _gaussian_blur(image, change.blur)
    if change.noise > 0:
        generator = torch.Generator().manual_seed(change.noise_seed)
        noise = torch.randn(image.shape, generator=generator, dtype=image.dtype)
        image = noise.mul_(change.noise).add_(image)
    return image.clamp(0, 1)


class RandPhotometricd(Randomizable, MapTransform):
    """Change the light of RGB images, never their geometry.

    Three groups are switched on independently with probability ``prob``: colour (brightness, contrast,
    saturation, hue, gamma), blur, noise. All keys get the same change.

    Args:
        keys: keys of ``(3, H, W)`` float tensors in [0, 1].
        brightness: factor is drawn from ``1 - brightness`` to ``1 + brightness``; in [0, 1).
        contrast: likewise; in [0, 1).
        saturation: likewise; in [0, 1].
        hue: turn is drawn from ``-hue`` to ``hue``; in [0, 0.5].
        gamma: exponent is drawn log-uniformly from ``1 / (1 + gamma)`` to ``1 + gamma``; from 0.
        blur: standard deviation is drawn from 0 to ``blur`` pixels.
        noise: standard deviation is drawn from 0 to ``noise``.
        prob: probability of each group; in [0, 1].
        allow_missing_keys: do not raise when a key is absent.

    Raises:
        ValueError: a number is outside its range; the image is not a float RGB image.
    """

    def __init__(
        self,
        keys: KeysCollection,
        brightness: float = 0.2,
        contrast: float = 0.2,
        saturation: float = 0.2,
        hue: float = 0.02,
        gamma: float = 0.2,
        blur: float = 1.0,
        noise: float = 0.02,
        prob: float = 0.5,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        limits = {"brightness": 0.999, "contrast": 0.999, "saturation": 1, "hue": 0.5, "prob": 1}
        given = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
        given |= {"gamma": gamma, "blur": blur, "noise": noise, "prob": prob}
        for name, number in given.items():
            limit = limits.get(name, math.inf)
            if not 0 <= number <= limit:
                raise ValueError(
                    f"{name} is {number}; allowed is 0 to {limit if limit < math.inf else 'any size'}."
                )
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue
        self.gamma, self.blur, self.noise, self.prob = gamma, blur, noise, prob
        self.change = Photometric()

    def randomize(self, data: Any = None) -> None:
        """Draw ``self.change``; the count of random numbers does not depend on the outcome."""
        colour, blur, noise = self.R.rand(3) < self.prob
        draws = self.R.uniform(-1, 1, 5)
        sigmas = self.R.rand(2)
        seed = int(self.R.randint(2**31 - 1))
        settings: dict[str, float] = {}
        if colour:
            settings = {
                "brightness": 1 + self.brightness * draws[0],
                "contrast": 1 + self.contrast * draws[1],
                "saturation": 1 + self.saturation * draws[2],
                "hue": self.hue * draws[3],
                "gamma": (1 + self.gamma) ** draws[4],
            }
        settings = {name: float(value) for name, value in settings.items()}
        self.change = Photometric(
            **settings,
            blur=float(self.blur * sigmas[0]) if blur else 0.0,
            noise=float(self.noise * sigmas[1]) if noise else 0.0,
            noise_seed=seed,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Draw one change and return the item with it made to every key."""
        d = dict(data)
        self.randomize()
        for key in self.key_iterator(d):
            d[key] = apply_photometric(d[key], self.change)
        return d


class SplitTeacherd(MapTransform):
    """Turn 8-bit images into floats in [0, 1] and keep one copy for the teachers.

    Put it behind the geometric view and before photometric changes: the teachers then see the student's
    geometry in true light.

    Args:
        image_key: key of a ``(C, H, W)`` tensor; 8-bit values 0 to 255, or floats in [0, 1].
        teacher_key: key that the copy is written to; none for no copy (inference).
        label_key: key of a mask that becomes float; passed over where absent.

    Raises:
        ValueError: the image is neither 8-bit nor float.
    """

    def __init__(
        self,
        image_key: str = "image",
        teacher_key: str | None = "teacher_image",
        label_key: str | None = "label",
    ) -> None:
        super().__init__([image_key])
        self.image_key, self.teacher_key, self.label_key = image_key, teacher_key, label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the image in [0, 1], float32, and a copy of it for the teachers."""
        d = dict(data)
        image = d[self.image_key]
        if image.dtype == torch.uint8:
            image = image.float().div_(255)
        elif not image.is_floating_point():
            raise ValueError(
                f"{self.image_key!r} is {image.dtype}; allowed are uint8 in 0 to 255 and float in [0, 1]. Load it with "
                "to_rgb, which scales 16-bit images."
            )
        d[self.image_key] = image
        if self.teacher_key is not None:
            d[self.teacher_key] = image.clone()
        if self.label_key is not None and self.label_key in d:
            d[self.label_key] = d[self.label_key].float()
        return d


class NormalizeImaged(MapTransform):
    """Subtract a mean and divide by a standard deviation, per channel.

    Args:
        keys: keys of ``(C, H, W)`` or ``(C, D, H, W)`` float tensors.
        mean: one number per channel; ImageNet's by default.
        std: one number per channel, above 0.
        allow_missing_keys: do not raise when a key is absent.

    Raises:
        ValueError: mean and std do not fit each other or the image.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(mean) != len(std) or any(s <= 0 for s in std):
            raise ValueError(f"mean is {mean}, std {std}; give one of each per channel, every std above 0.")
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with mean subtracted and divided by std, channel by channel."""
        d = dict(data)
        for key in self.key_iterator(d):
            image = d[key]
            if image.shape[0] != len(self.mean) or not image.is_floating_point():
                raise ValueError(
                    f"{key!r} is {tuple(image.shape)} {image.dtype}; mean and std are for {len(self.mean)} float channels. "
                    "Load it with to_rgb and put SplitTeacherd before this transform."
                )
            shape = (-1,) + (1,) * (image.ndim - 1)
            d[key] = (image - self.mean.reshape(shape)) / self.std.reshape(shape)
        return d
