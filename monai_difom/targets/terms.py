"""One distillation term: where the student is read, what it must match there, and how far off it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch

from ..losses import FeatureDistillationLoss, LogitDistillationLoss
from ..networks.teachers import Teacher
from ..utils import look_up
from ..utils.bands import Shape


@dataclass
class DistillationTerm:
    """One named term of the distillation loss.

    Args:
        name: name of the term in phases, logs and the summary, for example ``"low"`` or ``"feature/sam"``.
        tap: tap of the student that is compared.
        source: ``"fused"``, or one standardised map of one teacher as ``"<teacher>/<map>"``.
        band: None for the whole map, or the ``"low"`` or ``"high"`` band of it on the student's grid.
        cutoff: border of the bands, cycles per pixel of the student's grid.
        transition: width of the smooth border, cycles per pixel.
        shape: ``"smooth"`` or ``"ideal"`` mask.
        head: from tap channels to target channels: ``"linear"`` (1x1), ``"conv"`` (3x3), ``"mlp"`` (two 1x1
            with GELU) or ``"identity"`` (the channels must agree).
        loss: distance of head output and target, called as ``loss(student, target)``.
        raw: match the teacher's map as it is, without standardising it: its values mean something (logits).
    """

    name: str
    tap: str
    source: str = "fused"
    band: Literal["low", "high"] | None = None
    cutoff: float = 0.2
    transition: float = 0.1
    shape: Shape = "smooth"
    head: str = "linear"
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = field(
        default_factory=FeatureDistillationLoss
    )
    raw: bool = False

    def __post_init__(self) -> None:
        if self.name == "segmentation":
            raise ValueError("a distillation term cannot be named 'segmentation': that is the mask loss.")
        if self.band not in (None, "low", "high"):
            raise ValueError(
                f"term {self.name!r}: band is {self.band!r}; allowed are null, 'low' and 'high'."
            )
        if self.raw and (self.source == "fused" or self.band is not None):
            raise ValueError(
                f"term {self.name!r} takes a teacher's map as it is, so it has no band, and its source is one map, "
                f"'<teacher>/<map>'; found source {self.source!r} and band {self.band!r}."
            )


@dataclass
class LogitTerm(DistillationTerm):
    """A term on predictions: the student's logits against a teacher's, by temperature KL, with no head between them.

    Args:
        name: name of the term.
        tap: tap of the student; ``"output"`` is what the network returns.
        source: a map of logits, as ``"<teacher>/logits"``; both must have the same classes in the same order.
        loss: distance of predictions.

    Example::

        LogitTerm("logit", source="sam/logits", loss=LogitDistillationLoss("sigmoid", temperature=2.0))
    """

    name: str = "logit"
    tap: str = "output"
    source: str = ""
    head: str = "identity"
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = field(default_factory=LogitDistillationLoss)
    raw: bool = True


def layer_terms(
    layers: Mapping[str, str], teacher: str = "task", distance: str = "mse", head: str = "linear"
) -> list[DistillationTerm]:
    """Return one term a hidden layer: the teacher's map, standardised, against the student's tap through a head of its own.

    Args:
        layers: map of the teacher -> tap of the student, such as ``{"layer2": "layer6", "layer4": "layer12"}``. A term is
            named after the teacher's map.
        teacher: name of the teacher.
        distance: see `FeatureDistillationLoss`.
        head: see `DistillationTerm`.

    Raises:
        ValueError: no layers, or no such distance.
    """
    if not layers:
        raise ValueError("no hidden layers to match: give a map of teacher layer -> student tap.")
    return [
        DistillationTerm(
            name, tap=tap, source=f"{teacher}/{name}", head=head, loss=FeatureDistillationLoss(distance)
        )
        for name, tap in layers.items()
    ]


def one_head_each(
    teachers: Mapping[str, Teacher],
    tap: str = "bottleneck",
    head: str = "mlp",
    maps: Mapping[str, str] | None = None,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
) -> list[DistillationTerm]:
    """Return one term for every teacher, named after it: all heads read the student at the same place.

    The agglomeration of Zeng et al. (arXiv 2504.02351): one projection head per teacher on the student's embedding, patch
    tokens only.

    Args:
        teachers: name -> teacher.
        tap: tap of the student that all heads read.
        head: kind of every head, see `DistillationTerm`.
        maps: teacher -> the map of it that is matched; by default its last one, which is the deepest.
        loss: distance of head output and target; `FeatureDistillationLoss` by default.

    Raises:
        ValueError: ``maps`` names a teacher or a map that there is not.
    """
    wanted = dict(maps or {})
    for name in wanted:
        look_up("teacher in maps", name, teachers)
    terms = []
    for name, teacher in teachers.items():
        chosen = wanted.get(name, list(teacher.maps)[-1])
        look_up(f"map of teacher {name!r}", chosen, teacher.maps)
        distance = loss if loss is not None else FeatureDistillationLoss()
        terms.append(DistillationTerm(name, tap, f"{name}/{chosen}", head=head, loss=distance))
    return terms
