"""The student with the heads that speak the teachers' language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from ..networks.student import as_student
from ..networks.taps import Tap, evaluating, get_module, probe_taps, read_taps
from ..targets import TargetPipeline
from ..utils import unknown_name
from ..utils.seeds import drawn_apart


def make_head(kind: str, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
    """Return a head from a tap's channels to a target's: ``linear``, ``conv``, ``mlp`` or ``identity``.

    Every head ends in a linear layer: targets are negative as often as positive.
    """
    conv = Conv[Conv.CONV, spatial_dims]
    if kind == "linear":
        return conv(in_channels, out_channels, 1)
    if kind == "conv":
        return conv(in_channels, out_channels, 3, padding=1)
    if kind == "mlp":
        return nn.Sequential(
            conv(in_channels, out_channels, 1), nn.GELU(), conv(out_channels, out_channels, 1)
        )
    if kind == "identity":
        if in_channels != out_channels:
            raise ValueError(
                f"an identity head needs equal channels; the tap has {in_channels}, the target {out_channels}. "
                "Use head: linear, or a tap or fusion with these channels."
            )
        return nn.Identity()
    raise ValueError(unknown_name("head", kind, ("linear", "conv", "mlp", "identity")))


class Distiller(nn.Module):
    """A student and one head per distillation term. Only the student is exported.

    Args:
        student: a segmentation network, called as ``student(image)``.
        targets: the pipeline whose terms are matched.
        taps: tap name -> module path, for a student that declares no `taps` of its own; channels and strides are
            found by one forward pass.
        spatial_dims: 2 or 3.
        probe_size: image side of that pass.
        in_channels: image channels of that pass.

    Raises:
        ValueError: a term reads a tap that the student does not have.
    """

    def __init__(
        self,
        student: nn.Module,
        targets: TargetPipeline,
        taps: Mapping[str, str] | None = None,
        spatial_dims: int = 2,
        probe_size: int = 64,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.student = student
        if taps is not None:
            known = probe_taps(student, taps, torch.zeros(1, in_channels, *[probe_size] * spatial_dims))
        else:
            known = dict(as_student(student).taps)
        if any(term.tap == "output" for term in targets.terms.values()) and "output" not in known:
            image = torch.zeros(1, in_channels, *[probe_size] * spatial_dims)
            known.update(probe_taps(student, {"output": ""}, image))
        if not known and targets.terms:
            raise ValueError(
                f"{type(student).__name__} names no taps. Pass taps={{name: module path}} to the distiller to say "
                "where to read it."
            )
        self.taps: dict[str, Tap] = {}
        self.term_names = list(targets.terms)
        self.heads = nn.ModuleList()
        for name, term in targets.terms.items():
            if term.tap not in known:
                raise ValueError(unknown_name(f"tap of term {name!r}", term.tap, known))
            self._use(known, term.tap)
            channels = targets.channels(name)
            if term.raw and known[term.tap].channels != channels:
                raise ValueError(
                    f"term {name!r} compares predictions: the teacher gives {channels} classes ({term.source}), the "
                    f"student {known[term.tap].channels} (tap {term.tap!r}). Give both the same out_channels."
                )
            with drawn_apart(f"head {name}"):
                self.heads.append(make_head(term.head, spatial_dims, known[term.tap].channels, channels))
        self.term_taps = {name: term.tap for name, term in targets.terms.items()}
        self._grids: dict[tuple[int, ...], dict[str, Sequence[int]]] = {}

    def _use(self, known: Mapping[str, Tap], name: str) -> None:
        source = known[name].source
        if source is not None:
            self._use(known, source)
        self.taps[name] = known[name]

    def forward(
        self, image: torch.Tensor
    ) -> tuple[torch.Tensor | list[torch.Tensor], dict[str, torch.Tensor]]:
        """Return ``(logits, {term: (B, target channels, *grid)})`` of an image batch ``(B, C, *spatial)``.

        Of a student with side outputs, the logits are a list in train mode.
        """
        logits, maps = read_taps(self.student, image, self.taps)
        return logits, self.mapped(maps)

    def mapped(self, maps: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return term -> head output, of the maps at the student's taps."""
        heads = zip(self.term_names, self.heads, strict=True)
        return {name: head(maps[self.term_taps[name]]) for name, head in heads}

    def grids(self, image: torch.Tensor) -> dict[str, Sequence[int]]:
        """Return term -> grid of the student's map of images of this size, found by one forward pass for each size.

        Args:
            image: ``(B, C, *spatial)``; one image is enough.
        """
        size = tuple(image.shape[2:])
        if size not in self._grids:
            with evaluating(self):
                _, mapped = self(image)
            self._grids[size] = {name: value.shape[2:] for name, value in mapped.items()}
        return self._grids[size]

    def frozen_modules(self, names: tuple[str, ...]) -> list[nn.Module]:
        """Return the student's modules named in a phase's ``freeze``.

        Raises:
            ValueError: a name is no module of the student.
        """
        return [get_module(self.student, name) for name in names]
