"""A mask loss on every output of a network that has side outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

Outputs = torch.Tensor | Sequence[torch.Tensor]


class DeepSupervision(nn.Module):
    r"""Weighted sum of one mask loss over several outputs, and optionally over their sum.

    .. math:: L = \sum_i w_i\, \ell(o_i, g_i) + w_\Sigma\, \ell\bigl(\textstyle\sum_i o_i, g\bigr)

    with :math:`g_i` the mask on the grid of output :math:`o_i`. PraNet's loss is `StructureLoss` with four weights of
    1; EMCADNet's adds the sum of its four outputs with weight 1. `monai.losses.DeepSupervisionLoss` knows no sum.

    Args:
        loss: mask loss, called as ``loss(logits, mask)``.
        weights: one weight per output, in the order in which the network lists them; None gives equal weights that add
            up to 1, so that the loss has the scale of one output's.
        sum_weight: weight of the loss on the sum of all outputs, which must then have one size.
        mask_mode: how a mask gets to the grid of a smaller output: ``"nearest-exact"``, which keeps its values, or
            ``"area"``, the share of foreground, for losses that take masks between 0 and 1.

    Raises:
        ValueError: a negative weight or an unknown mode; in ``forward``, another number of outputs than weights, or
            outputs of several sizes where their sum has a weight.

    Example:
        >>> loss = DeepSupervision(StructureLoss(), weights=[1, 1, 1, 1])
        >>> mask = torch.zeros(2, 1, 64, 64)
        >>> float(loss([torch.zeros(2, 1, 64, 64)] * 4, mask)) > 0
        True
    """

    def __init__(
        self,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        weights: Sequence[float] | None = None,
        sum_weight: float = 0.0,
        mask_mode: str = "nearest-exact",
    ) -> None:
        super().__init__()
        if mask_mode not in ("nearest-exact", "area"):
            raise ValueError(f"mask_mode is {mask_mode!r}; allowed are 'nearest-exact' and 'area'.")
        if min([*(weights or ()), sum_weight]) < 0:
            raise ValueError(f"weights are {weights}, sum_weight is {sum_weight}; none may be below 0.")
        self.loss = loss
        self.weights = None if weights is None else tuple(float(weight) for weight in weights)
        self.sum_weight = float(sum_weight)
        self.mask_mode = mask_mode

    def forward(self, input: Outputs, target: torch.Tensor) -> torch.Tensor:  # noqa: A002
        """Return the loss.

        Args:
            input: logits ``(B, K, *spatial)``, one tensor or several, each on its own grid; one tensor is scored as it
                is, without weights.
            target: mask ``(B, K, *spatial)`` at full size.
        """
        if isinstance(input, torch.Tensor):
            return self.loss(input, target)
        weights = self.weights if self.weights is not None else (1 / len(input),) * len(input)
        if len(weights) != len(input):
            raise ValueError(
                f"there are {len(weights)} weights for the {len(input)} outputs of the network; give one an output."
            )
        used = [(output, weight) for output, weight in zip(input, weights, strict=True) if weight > 0]
        losses = [weight * self.loss(output, self._mask(target, output)) for output, weight in used]
        if self.sum_weight > 0:
            sizes = {tuple(output.shape[2:]) for output in input}
            if len(sizes) > 1:
                raise ValueError(
                    f"outputs of several sizes {sorted(sizes)} have no sum; set sum_weight to 0."
                )
            total = torch.stack(list(input)).sum(0)
            losses.append(self.sum_weight * self.loss(total, self._mask(target, total)))
        if not losses:
            raise ValueError(f"no output has a weight: weights are {list(weights)}.")
        return torch.stack(losses).sum(0)

    def _mask(self, mask: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """The mask on the grid of an output."""
        if mask.shape[2:] == output.shape[2:]:
            return mask
        resized = F.interpolate(mask.float(), size=output.shape[2:], mode=self.mask_mode)
        return resized.to(mask.dtype) if self.mask_mode == "nearest-exact" else resized
