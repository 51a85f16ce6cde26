"""Several standardised teacher maps into one."""

from __future__ import annotations

import torch
from torch import nn

from ..utils import unknown_name
from ..utils.seeds import drawn_apart
from .standardize import StreamingCovariance


class ConcatFusion(nn.Module):
    """All maps side by side. With a linear head this is one head per teacher.

    Args:
        in_channels: channels of all maps together.
        out_channels: not used; the fused map has ``in_channels``.
    """

    def __init__(self, in_channels: int, out_channels: int | None = None) -> None:
        super().__init__()
        self.out_channels = in_channels

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return ``maps``."""
        return maps


class PCAFusion(nn.Module):
    """The leading principal components of the concatenated maps, scaled to unit mean variance.

    Fitted once on training images, then fixed. Without whitening, components keep their relative variances
    and a squared distance counts a component by what it explains; on endoscopic images the first ones show
    little but the border of the field of view. Whitening takes weight from them.

    Args:
        in_channels: channels of all maps together.
        out_channels: number of components; at most ``in_channels``.
        whiten: from 0 (variances as they are) to 1 (every component has variance 1); each component is
            divided by its deviation to this power.

    Attributes:
        explained: share of the variance that the components hold, after `fit`.

    Raises:
        ValueError: ``whiten`` is outside [0, 1].
    """

    mean: torch.Tensor
    matrix: torch.Tensor
    explained: torch.Tensor

    def __init__(self, in_channels: int, out_channels: int, whiten: float = 0.0) -> None:
        super().__init__()
        if not 0 <= whiten <= 1:
            raise ValueError(f"whiten is {whiten}; allowed is 0 (no whitening) to 1 (full).")
        self.whiten = whiten
        self.out_channels = min(out_channels, in_channels)
        self.register_buffer("mean", torch.zeros(in_channels))
        self.register_buffer("matrix", torch.zeros(self.out_channels, in_channels))
        self.register_buffer("explained", torch.zeros(()))

    def fit(self, statistics: StreamingCovariance) -> None:
        """Set the components from the statistics of the concatenated maps."""
        eigenvalues, vectors = torch.linalg.eigh(statistics.covariance)
        kept = eigenvalues.flip(0)[: self.out_channels].clamp_min(0)
        components = vectors.flip(1)[:, : self.out_channels]
        # the sign of an eigenvector is arbitrary: fix it, so that two fits on the same images agree
        signs = components.gather(0, components.abs().argmax(0, keepdim=True)).sign()
        self.mean.copy_(statistics.mean)
        # the smallest components may be rounding errors: whitening must not blow them up
        spread = kept.clamp_min(1e-6 * kept[0]).sqrt()
        scale = spread**-self.whiten
        scale = scale / (kept * scale**2).mean().sqrt()
        self.matrix.copy_((components * signs * scale).T)
        self.explained.copy_(kept.sum() / eigenvalues.clamp_min(0).sum())

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return ``(B, out_channels, *spatial)``."""
        centred = maps - self.mean.view(1, -1, *[1] * (maps.ndim - 2))
        return torch.einsum("oc,bc...->bo...", self.matrix, centred)


class LearnedFusion(nn.Module):
    """The published fusion: a trainable 1x1 convolution with ReLU on the concatenated maps.

    It is kept to reproduce the published behaviour. Trained on the same distance as the student's latents,
    with nothing that holds it, it and they agree on zero; the collapse monitor reports it. Use `PCAFusion` to
    train a student.

    Args:
        in_channels: channels of all maps together.
        out_channels: channels of the fused map (256 in the notebook).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        with drawn_apart("fusion"):
            nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return ``(B, out_channels, *spatial)``, not negative; gradients reach the fusion weights."""
        fused = torch.einsum("oc,bc...->bo...", self.weight, maps)
        return torch.relu(fused + self.bias.view(1, -1, *[1] * (maps.ndim - 2)))


FUSIONS: dict[str, type[ConcatFusion] | type[PCAFusion] | type[LearnedFusion]] = {
    "concat": ConcatFusion,
    "pca": PCAFusion,
    "learned": LearnedFusion,
}


def make_fusion(
    kind: str, in_channels: int, out_channels: int, whiten: float = 0.0
) -> ConcatFusion | PCAFusion | LearnedFusion:
    """Return a fusion by its name.

    Args:
        kind: ``"pca"`` (`PCAFusion`), ``"concat"`` (`ConcatFusion`) or ``"learned"`` (`LearnedFusion`).
        in_channels: channels of all maps together.
        out_channels: channels of the fused map; ``"concat"`` keeps all.
        whiten: of ``"pca"``, from 0 to 1.

    Raises:
        ValueError: no such fusion.
    """
    if kind not in FUSIONS:
        raise ValueError(unknown_name("fusion", kind, FUSIONS))
    if kind == "pca":
        return PCAFusion(in_channels, out_channels, whiten)
    return FUSIONS[kind](in_channels, out_channels)
