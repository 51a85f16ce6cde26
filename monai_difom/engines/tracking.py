"""Trackers of experiments: what MONAI's handler for MLflow needs to know of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from monai.handlers import MLFlowHandler


def prepare_trackers(handlers: Iterable[Any], noted: Mapping[str, Any]) -> None:
    """Have every MLflow handler note the settings of a run, unless it was given its own, and the loss as one number."""
    for handler in handlers:
        if isinstance(handler, MLFlowHandler):
            handler.experiment_param = handler.experiment_param or dict(noted)
            handler.output_transform = _Single(handler.output_transform)


class _Single:
    """MONAI's ``from_engine`` gives a tuple of one number where the output is one dict; a tracker wants the number."""

    def __init__(self, transform: Callable[[Any], Any]) -> None:
        self.transform = transform

    def __call__(self, output: Any) -> Any:
        found = self.transform(output)
        return found[0] if isinstance(found, tuple) and len(found) == 1 else found
