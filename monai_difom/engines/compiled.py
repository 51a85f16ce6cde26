"""The student's forward pass in a training: compiled by PyTorch, or as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from ..networks.taps import complete_maps, map_of, tapped_module
from .distiller import Distiller


class CompiledDistiller:
    """Runs a distiller, within its context through `torch.compile`.

    A network is otherwise read by hooks that live for one call, which a compiler would have to trace in every call. Here they
    stay for as long as the context, are part of the compiled pass, and keep nothing when somebody else runs the network.

    Args:
        distiller: student and heads; changed in nothing but the hooks.
        options: False to call it as it is, True to compile it, or the arguments of `torch.compile`.

    Raises:
        ValueError: ``options`` is something else.
    """

    def __init__(self, distiller: Distiller, options: bool | Mapping[str, Any] = False) -> None:
        if not isinstance(options, (bool, Mapping)):
            raise ValueError(
                f"compile is {options!r}; allowed are true, false, or arguments of torch.compile such as "
                "{mode: max-autotune}."
            )
        self.distiller = distiller
        self.options = dict(options) if isinstance(options, Mapping) else {}
        self.wanted = options is not False
        self._run: Callable[[torch.Tensor], Any] = distiller
        self._maps: dict[str, torch.Tensor] = {}
        self._reading = False
        self._handles: list[Any] = []

    def __enter__(self) -> CompiledDistiller:
        if self.wanted:
            student, taps = self.distiller.student, self.distiller.taps
            for name, tap in taps.items():
                if tap.source is None:
                    keep = partial(self._keep, name, tap.module)
                    self._handles.append(tapped_module(student, tap).register_forward_hook(keep))
            self._run = torch.compile(self._pass, **self.options)
        return self

    def __exit__(self, *_error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._run = [], self.distiller

    def __call__(self, image: torch.Tensor) -> Any:
        """Return what the distiller returns."""
        self._reading = True
        try:
            return self._run(image)
        finally:
            self._reading = False
            self._maps.clear()

    def _keep(self, name: str, path: str, _module: nn.Module, _args: object, output: object) -> None:
        if self._reading:
            self._maps[name] = map_of(output, path)

    def _pass(self, image: torch.Tensor) -> Any:
        distiller = self.distiller
        logits = distiller.student(image)
        return logits, distiller.mapped(complete_maps(distiller.student, distiller.taps, dict(self._maps)))
