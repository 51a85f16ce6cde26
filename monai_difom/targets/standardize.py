"""Centre and scale teacher maps so that no teacher wins by its variance (PHI-S)."""

from __future__ import annotations

import math

import torch
from scipy.linalg import hadamard
from torch import nn

from ..utils import of_all_ranks

STANDARDIZERS = ("phi_s", "channel", "none")


class StreamingCovariance:
    """Mean and covariance over all positions of all images, one batch at a time.

    Batches are merged by the parallel update of Chan et al. (1979) in double precision: the result does not
    depend on how the images were batched beyond rounding.

    Args:
        channels: channels of the maps.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.mean = torch.zeros(channels, dtype=torch.float64)
        self.scatter = torch.zeros(channels, channels, dtype=torch.float64)

    def update(self, maps: torch.Tensor) -> None:
        """Add maps ``(B, C, *spatial)``."""
        points = maps.detach().movedim(1, -1).reshape(-1, maps.shape[1]).cpu().double()
        mean = points.mean(0)
        centred = points - mean
        self._add(points.shape[0], mean, centred.T @ centred)

    def _add(self, count: int, mean: torch.Tensor, scatter: torch.Tensor) -> None:
        delta = mean - self.mean
        total = self.count + count
        self.scatter += scatter + torch.outer(delta, delta) * (self.count * count / total)
        self.mean += delta * (count / total)
        self.count = total

    def join_ranks(self) -> None:
        """Take in what the other processes of the run have measured: all have the statistics of all afterwards."""
        own = torch.cat([torch.tensor([self.count], dtype=torch.float64), self.mean, self.scatter.flatten()])
        everyone = of_all_ranks(own)
        if len(everyone) == 1:
            return
        size = self.mean.numel()
        self.count, self.mean, self.scatter = 0, torch.zeros_like(self.mean), torch.zeros_like(self.scatter)
        for each in everyone:
            if each[0] > 0:
                self._add(int(each[0]), each[1 : 1 + size], each[1 + size :].view(size, size))

    @property
    def covariance(self) -> torch.Tensor:
        """Population covariance ``(C, C)``, double precision."""
        if self.count < 2:
            raise ValueError("no covariance yet: update() was given fewer than two positions.")
        return self.scatter / self.count


def equal_diagonal_rotation(eigenvalues: torch.Tensor) -> torch.Tensor:
    """Return a rotation Q with every diagonal entry of ``Q diag(eigenvalues) Q^T`` equal to their mean.

    For a power of two it is the normalised Hadamard matrix, as in PHI-S. For other sizes a Hadamard matrix
    may not exist; the same property is then reached by plane rotations that each put one diagonal entry at
    the mean (Bendel and Mickey, 1978).

    Args:
        eigenvalues: ``(C,)``.

    Returns:
        ``(C, C)`` orthogonal matrix, double precision.
    """
    size = eigenvalues.numel()
    if size & (size - 1) == 0:
        return torch.from_numpy(hadamard(size)).double() / math.sqrt(size)
    matrix = torch.diag(eigenvalues.double())
    rotation = torch.eye(size, dtype=torch.float64)
    mean = float(eigenvalues.double().mean())
    free = list(range(size))
    while len(free) > 1:
        diagonal = matrix.diagonal()[free]
        i, j = free[int(diagonal.argmin())], free[int(diagonal.argmax())]
        low, high, cross = float(matrix[i, i]), float(matrix[j, j]), float(matrix[i, j])
        if high - mean < 1e-12 * max(abs(mean), 1e-300):
            break
        # t = tan(angle) that makes entry (i, i) equal to the mean
        root = math.sqrt(cross * cross + (mean - low) * (high - mean))
        t = (-cross + root) / (high - mean) if high > mean else 0.0
        cosine = 1 / math.sqrt(1 + t * t)
        sine = t * cosine
        for target, axis in ((matrix, 0), (matrix, 1), (rotation, 0)):
            first, second = target.select(axis, i).clone(), target.select(axis, j).clone()
            target.select(axis, i).copy_(cosine * first + sine * second)
            target.select(axis, j).copy_(-sine * first + cosine * second)
        free.remove(i)
    return rotation


class PhiStandardizer(nn.Module):
    r"""Linear map of one teacher map to zero mean and unit variance.

    ``phi_s`` (Ranzinger et al., arXiv 2410.01680): :math:`y' = \phi^{-1} H U^T (y - \mu)` with
    :math:`\Sigma = U \Lambda U^T` and :math:`\phi = \sqrt{\mathrm{mean}(\lambda_i)}`: one scale for all
    channels, after a rotation that gives every channel the same variance, so distances within a teacher keep
    their proportions. ``channel`` divides every channel by its own deviation. ``none`` is the identity.

    Args:
        channels: channels of the map.
        kind: ``"phi_s"``, ``"channel"`` or ``"none"``.

    Raises:
        ValueError: no such kind.
    """

    mean: torch.Tensor
    matrix: torch.Tensor
    variance: torch.Tensor

    def __init__(self, channels: int, kind: str = "phi_s") -> None:
        super().__init__()
        if kind not in STANDARDIZERS:
            raise ValueError(f"standardize is {kind!r}; allowed are {', '.join(STANDARDIZERS)}.")
        self.kind = kind
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("matrix", torch.eye(channels))
        self.register_buffer("variance", torch.ones(()))

    def fit(self, statistics: StreamingCovariance) -> None:
        """Set the map from measured statistics.

        Raises:
            ValueError: the map is constant over all images.
        """
        covariance = statistics.covariance
        variance = covariance.diagonal().mean()
        if self.kind != "none" and variance < 1e-12:
            raise ValueError("a teacher map is constant over all fitted images: it holds nothing to distil.")
        self.variance.copy_(variance)
        if self.kind == "none":
            return
        if self.kind == "channel":
            deviation = covariance.diagonal().clamp_min(1e-6 * variance).sqrt()
            matrix = torch.diag(1 / deviation)
        else:
            eigenvalues, vectors = torch.linalg.eigh(covariance)
            eigenvalues = eigenvalues.clamp_min(0)
            matrix = equal_diagonal_rotation(eigenvalues) @ vectors.T / eigenvalues.mean().sqrt()
        self.mean.copy_(statistics.mean)
        self.matrix.copy_(matrix)

    def centred(self, maps: torch.Tensor) -> torch.Tensor:
        """Return ``maps`` less the mean, float32: what `matrix` is applied to."""
        return maps.float() - self.mean.view(1, -1, *[1] * (maps.ndim - 2))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the standardised map, same shape as ``maps`` ``(B, C, *spatial)``, float32."""
        if self.kind == "none":
            return maps.float()
        return torch.einsum("oc,bc...->bo...", self.matrix, self.centred(maps))
