"""What the targets are fitted on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch


class TeacherImages:
    """The teacher images of a loader, batch by batch, as often as they are asked for."""

    def __init__(self, loader: Any, device: torch.device) -> None:
        self.loader, self.device = loader, device

    def __iter__(self) -> Iterator[torch.Tensor]:
        for batch in self.loader:
            yield batch["teacher_image"].to(self.device)
