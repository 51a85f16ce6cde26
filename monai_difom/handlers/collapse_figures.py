"""How much of a target the student explains, and how much there is to explain."""

from __future__ import annotations

import math

import torch

from ..targets.standardize import StreamingCovariance


def figures(target: StreamingCovariance, error: float) -> dict[str, float]:
    """Return a term's ``r2, target_variance, effective_rank``.

    Args:
        target: statistics of the target.
        error: squared error of the student, summed over positions and channels.
    """
    eigenvalues = torch.linalg.eigvalsh(target.scatter / target.count).clamp_min(0)
    total = float(eigenvalues.sum())
    shares = eigenvalues / max(total, 1e-30)
    entropy = float(-(shares * shares.clamp_min(1e-30).log()).sum())
    alive = total > 1e-12
    return {
        "r2": 1 - error / (total * target.count) if alive else 0.0,
        "target_variance": total / len(eigenvalues),
        "effective_rank": math.exp(entropy) if alive else 0.0,
    }


class Explained:
    """What a student explains of a target, against what a student without eyes could say: its mean vector, and its mean image.

    The mean image also knows what is the same at a place of every image: borders, the dark corners of an endoscope. Batches
    are merged as in `StreamingCovariance`. Maps of several sizes have no mean image.
    """

    def __init__(self) -> None:
        self.error, self.images, self.positions = 0.0, 0, 0
        self._vector: torch.Tensor | None = None
        self._image: torch.Tensor | None = None
        self._about_vector = self._about_image = 0.0
        self._one_size = True

    def update(self, student: torch.Tensor, target: torch.Tensor) -> None:
        """Add maps ``(B, C, *spatial)`` of student and target."""
        maps = target.detach().cpu().double()
        self.error += float((student.detach().cpu().double() - maps).pow(2).sum())
        self._about_vector, self._vector, self.positions = _joined(
            maps.movedim(1, -1).reshape(-1, maps.shape[1]), self._about_vector, self._vector, self.positions
        )
        self._one_size &= self._image is None or self._image.shape == maps.shape[1:]
        if self._one_size:
            self._about_image, self._image, self.images = _joined(
                maps, self._about_image, self._image, self.images
            )

    def figures(self) -> dict[str, float]:
        """Return ``r2``, and of two or more images of one size ``r2_image`` and ``same``.

        They are R2 about the mean image, and the share of the target's variance that is the same in every image.
        """
        if self._about_vector <= 1e-12 * max(self.positions, 1):
            return {"r2": 0.0}
        found = {"r2": 1 - self.error / self._about_vector}
        if self._one_size and self.images > 1:
            found["same"] = 1 - self._about_image / self._about_vector
            if self._about_image > 1e-9 * self._about_vector:
                found["r2_image"] = 1 - self.error / self._about_image
        return found


def _joined(
    rows: torch.Tensor, spread: float, mean: torch.Tensor | None, count: int
) -> tuple[float, torch.Tensor, int]:
    """Take more rows into a sum of squares about a mean; return both and the new count."""
    own, new = rows.mean(0), rows.shape[0]
    spread += float((rows - own).pow(2).sum())
    if mean is None:
        return spread, own, new
    total, delta = count + new, own - mean
    return spread + float(delta.pow(2).sum()) * count * new / total, mean + delta * (new / total), total
