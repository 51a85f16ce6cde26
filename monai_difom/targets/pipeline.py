"""Teacher maps to the student's targets: standardise, fuse, resample, split."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from ..networks.teachers import Teacher, input_mismatch
from ..utils import (
    Readings,
    check_bands,
    copy_from_main,
    is_main_rank,
    of_all_ranks,
    resample,
    share_of,
    split_bands,
    unknown_name,
)
from .fuse import PCAFusion, make_fusion
from .standardize import PhiStandardizer, StreamingCovariance
from .terms import DistillationTerm

logger = logging.getLogger(__name__)
Maps = dict[str, torch.Tensor]
_CHECKED = 16  # images on which a teacher's input is checked


class TargetPipeline(nn.Module):
    """Runs the teachers and turns their maps into one target per term.

    Fitted once, on a stated number of training images; fixed afterwards. Nothing here receives a gradient,
    except the weights of a ``learned`` fusion. The teachers are no submodules: they are neither trained
    nor saved.

    Args:
        teachers: teacher name -> `Teacher`.
        terms: the distillation terms; their names must differ.
        standardize: ``"phi_s"``, ``"channel"`` or ``"none"``; see `PhiStandardizer`.
        fuse: ``"pca"``, ``"concat"`` or ``"learned"``; used by terms whose source is ``"fused"``.
        fuse_channels: channels of the fused map (ignored by ``concat``).
        fuse_whiten: whitening of a ``pca`` fusion, from 0 to 1; see `PCAFusion`.
        fuse_maps: the maps that are fused, as ``"<teacher>/<map>"``; all by default.
        fit_images: number of training images that the statistics are fitted on.

    Raises:
        ValueError: two terms share a name, or a source names no map.
    """

    fitted: torch.Tensor

    def __init__(
        self,
        teachers: Mapping[str, Teacher],
        terms: Sequence[DistillationTerm],
        standardize: str = "phi_s",
        fuse: str = "pca",
        fuse_channels: int = 128,
        fuse_whiten: float = 0.0,
        fuse_maps: Sequence[str] | None = None,
        fit_images: int = 256,
    ) -> None:
        super().__init__()
        self.teachers = dict(teachers)
        self.terms = {term.name: term for term in terms}
        if len(self.terms) != len(terms):
            raise ValueError(f"two distillation terms share a name: {sorted(term.name for term in terms)}.")
        if fit_images < 1:
            raise ValueError(f"fit_images is {fit_images}; the targets are fitted on at least one image.")
        self.map_channels = {
            f"{name}/{key}": spec.channels
            for name, teacher in teachers.items()
            for key, spec in teacher.maps.items()
        }
        for term in terms:
            if term.source != "fused" and term.source not in self.map_channels:
                options = ["fused", *self.map_channels]
                raise ValueError(unknown_name(f"source of term {term.name!r}", term.source, options))
        self.fuse_maps = tuple(fuse_maps or self.map_channels)
        for source in self.fuse_maps:
            if source not in self.map_channels:
                raise ValueError(unknown_name("map in fuse_maps", source, self.map_channels))
        self.fit_images = fit_images
        self.standardize = standardize
        needs_fusion = any(term.source == "fused" for term in terms)
        used = {term.source for term in terms if not term.raw} - {"fused"}
        used |= set(self.fuse_maps) if needs_fusion else set()
        # maps that are matched as they are: no statistics, no standardiser
        self.raw_sources = sorted({term.source for term in terms if term.raw})
        # a ModuleDict key may hold no dot, and a map name may
        self.sources = sorted(used)
        self.standardizers = nn.ModuleList(
            PhiStandardizer(self.map_channels[source], standardize) for source in self.sources
        )
        width = sum(self.map_channels[source] for source in self.fuse_maps)
        self.fusion = make_fusion(fuse, width, fuse_channels, fuse_whiten) if needs_fusion else None
        self.register_buffer("fitted", torch.tensor(0))
        self._ready = False

    def channels(self, term: str) -> int:
        """Return the number of channels of a term's target."""
        source = self.terms[term].source
        if source == "fused":
            assert self.fusion is not None  # __init__ makes it whenever a term is fused
            return self.fusion.out_channels
        return self.map_channels[source]

    def _check_inputs(self, images: torch.Tensor) -> None:
        for name, teacher in self.teachers.items():
            problem = input_mismatch(teacher, images)
            if problem is not None and is_main_rank():
                logger.warning("Teacher %r (%s): %s", name, teacher.describe(), problem)

    def teacher_maps(self, image: torch.Tensor) -> Maps:
        """Run every teacher on an RGB batch in [0, 1] and return its used maps by source name.

        Raises:
            RuntimeError: a teacher fails in any way; it is named. The others do not go on without it.
        """
        found = {}
        for name, teacher in self.teachers.items():
            readings = Readings()
            try:
                with readings.collect():
                    maps = teacher(image)
            except Exception as error:
                raise _failed(name, teacher, error) from error
            readings.pass_on(partial(_failed, name, teacher))
            for key, value in maps.items():
                found[f"{name}/{key}"] = value
        return {source: found[source] for source in {*self.sources, *self.raw_sources}}

    def standardized(self, maps: Maps) -> Maps:
        """Return the standardised maps by source name."""
        pairs = zip(self.sources, self.standardizers, strict=True)
        return {source: standardizer(maps[source]) for source, standardizer in pairs}

    def _stacked(self, standardized: Maps, grid: Sequence[int]) -> torch.Tensor:
        # a map of many channels has no more to say than one of few: each brings the same total variance
        scaled = (resample(standardized[s], grid) / self.map_channels[s] ** 0.5 for s in self.fuse_maps)
        return torch.cat(tuple(scaled), 1)

    def check_grids(self, grids: Mapping[str, Sequence[int]]) -> None:
        """Refuse grids on which a term's band would be empty."""
        for name, grid in grids.items():
            term = self.terms[name]
            if term.band is not None:
                try:
                    check_bands(grid, term.cutoff, term.transition, term.shape)
                except ValueError as error:
                    raise ValueError(f"term {name!r} at tap {term.tap!r}: {error}") from error

    @torch.no_grad()
    def fit(self, images: Iterable[torch.Tensor], shared: bool = True) -> dict[str, Any]:
        """Fit standardisers and fusion on the teachers' images, batches in [0, 1]; the iterable is read twice.

        Only the first `fit_images` images are used. The processes of a run each bring a share of them, measure together and
        have the same fit.

        Args:
            images: batches; in a run of several processes those of this one.
            shared: measure together with the other processes, which all must call this; False fits alone.

        Returns:
            The report of `report`.

        Raises:
            ValueError: a map is constant, there are no images, or they come as an iterator, which can be read
                only once.
        """
        if isinstance(images, Iterator) and isinstance(self.fusion, PCAFusion):
            raise ValueError(
                "the images are read twice, and an iterator can be read only once. Give a list or a loader."
            )
        statistics = {source: StreamingCovariance(self.map_channels[source]) for source in self.sources}
        count = 0
        wanted = share_of(self.fit_images) if shared else self.fit_images
        for batch in _first(images, wanted):
            count += batch.shape[0]
            if not self.sources:
                break  # nothing to fit
            maps = self.teacher_maps(batch)
            if count == batch.shape[0]:
                self._check_inputs(batch[:_CHECKED])
            for source in self.sources:
                statistics[source].update(maps[source])
        for source, standardizer in zip(self.sources, self.standardizers, strict=True):
            try:
                if shared:
                    statistics[source].join_ranks()
                standardizer.fit(statistics[source])  # type: ignore[operator]
            except ValueError as error:
                raise ValueError(f"{source}: {error}") from error
        if isinstance(self.fusion, PCAFusion):
            joint = StreamingCovariance(self.fusion.matrix.shape[1])
            for batch in _first(images, wanted):
                maps = self.standardized(self.teacher_maps(batch))
                # the grid of the finest map: nothing that a teacher shows is averaged away before the fit
                sizes = (maps[source].shape[2:] for source in self.fuse_maps)
                grid = max(sizes, key=lambda size: size.numel())
                joint.update(self._stacked(maps, grid))
            if shared:
                joint.join_ranks()
            self.fusion.fit(joint)
        if shared:
            count = int(sum(of_all_ranks(torch.tensor(count))))
        self.fitted.fill_(count)
        if shared:
            copy_from_main(self)  # two machines may turn an eigenvector differently
        return self.report()

    def report(self) -> dict[str, Any]:
        """Return what was fitted: images, variance of every raw map, variance that a PCA fusion explains."""
        pairs = zip(self.sources, self.standardizers, strict=True)
        variance = {source: float(standardizer.variance) for source, standardizer in pairs}  # type: ignore[arg-type]
        report: dict[str, Any] = {"images": int(self.fitted), "variance": variance}
        if isinstance(self.fusion, PCAFusion):
            report["explained_variance"] = float(self.fusion.explained)
            report["fused_channels"] = self.fusion.out_channels
        return report

    def forward(self, image: torch.Tensor, grids: Mapping[str, Sequence[int]]) -> Maps:
        """Return the targets of the named terms.

        Args:
            image: RGB batch ``(B, 3, H, W)`` in [0, 1], before the student's normalisation.
            grids: term name -> spatial size of the student's map.

        Returns:
            Term name -> ``(B, channels(term), *grid)``, float32.

        Raises:
            RuntimeError: `fit` was never called.
        """
        # looked at once: a look at every batch would make the host wait for the device
        self._ready = self._ready or bool(self.fitted)
        if not self._ready:
            raise RuntimeError(
                "the targets are not fitted: call fit() with batches of training images first."
            )
        return self.split(self.target_maps(image, grids), grids)

    def target_maps(self, image: torch.Tensor, grids: Mapping[str, Sequence[int]]) -> Maps:
        """Return what the terms' targets are split from: teacher maps standardised, fused and resampled.

        Terms that read the same source on the same grid share one map. This is what a feature store holds.

        Args:
            image: RGB batch ``(B, 3, H, W)`` in [0, 1], before the student's normalisation.
            grids: term name -> spatial size of the student's map.

        Returns:
            `map_name` of each term -> ``(B, channels, *grid)``, float32.
        """
        maps = self.teacher_maps(image)
        # the teachers may run in mixed precision; what is made of their maps must not
        with torch.autocast(image.device.type, enabled=False):
            return self.resampled(maps, grids)

    def map_name(self, term: str, grid: Sequence[int]) -> str:
        """Return the name of the map that a term's target is split from, for example ``fused@22x22``."""
        source = f"{self.terms[term].source}{':raw' if self.terms[term].raw else ''}"
        return f"{source}@{'x'.join(str(int(side)) for side in grid)}"

    def resampled(self, maps: Maps, grids: Mapping[str, Sequence[int]]) -> Maps:
        """Return `target_maps` of the maps that `teacher_maps` gave."""
        wanted = {self.map_name(name, grid): (self.terms[name], grid) for name, grid in grids.items()}
        fused = {key: grid for key, (term, grid) in wanted.items() if term.source == "fused"}
        found: Maps = self._fused(maps, fused) if fused else {}
        standardizers = dict(zip(self.sources, self.standardizers, strict=True))
        for key, (term, grid) in wanted.items():
            if key not in found:
                own = maps[term.source]
                own = own.float() if term.raw else standardizers[term.source](own)
                found[key] = resample(own, grid)
        return found

    def _fused(self, maps: Maps, grids: Mapping[str, Sequence[int]]) -> Maps:
        """Return the fused map on each grid."""
        assert self.fusion is not None
        if not isinstance(self.fusion, PCAFusion):
            standardized = self.standardized(maps)
            return {key: self.fusion(self._stacked(standardized, grid)) for key, grid in grids.items()}
        # Standardiser and components are linear, so a map needs one multiplication in place of two; and it commutes with
        # resampling, so the side with fewer channels is resampled. Same result to rounding, at a third of the work.
        standardizers = dict(zip(self.sources, self.standardizers, strict=True))
        parts = self.fusion.matrix.split([self.map_channels[source] for source in self.fuse_maps], 1)
        offset = -(self.fusion.matrix @ self.fusion.mean)
        found: Maps = {}
        for source, part in zip(self.fuse_maps, parts, strict=True):
            standardizer = cast(PhiStandardizer, standardizers[source])
            matrix = part @ standardizer.matrix / self.map_channels[source] ** 0.5
            own = standardizer.centred(maps[source])
            few = own.shape[1] <= matrix.shape[0]
            projected = own if few else torch.einsum("oc,bc...->bo...", matrix, own)
            for key, grid in grids.items():
                share = resample(projected, grid)
                share = torch.einsum("oc,bc...->bo...", matrix, share) if few else share
                found[key] = found[key] + share if key in found else share
        return {key: value + offset.view(1, -1, *[1] * (value.ndim - 2)) for key, value in found.items()}

    def split(self, target_maps: Maps, grids: Mapping[str, Sequence[int]]) -> Maps:
        """Return term name -> target, float32: the map of `target_maps`, or the band of it that the term asks for."""
        targets = {}
        for name, grid in grids.items():
            term, target = self.terms[name], target_maps[self.map_name(name, grid)]
            target = target.float()
            if term.band is not None:
                with torch.autocast(target.device.type, enabled=False):
                    low, high = split_bands(target, term.cutoff, term.transition, term.shape)
                target = low if term.band == "low" else high
            targets[name] = target
        return targets

    def definition(self) -> dict[str, Any]:
        """Return the settings that the fitted parts depend on, as plain data."""
        return {
            "sources": list(self.sources),
            "standardize": self.standardize,
            "fuse": type(self.fusion).__name__,
            "fuse_channels": getattr(self.fusion, "out_channels", None),
            "fuse_whiten": getattr(self.fusion, "whiten", 0.0),
            "fuse_maps": list(self.fuse_maps) if self.fusion is not None else [],
            "fit_images": self.fit_images,
        }

    @property
    def trained(self) -> bool:
        """Whether a part of the targets is trained with the student, so that they change from step to step."""
        return any(True for _ in self.parameters())

    def signatures(self) -> dict[str, str]:
        """Return teacher name -> signature, for checkpoints."""
        return {name: teacher.signature for name, teacher in self.teachers.items()}

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> TargetPipeline:
        # the teachers move with the fitted parts, by to() and cuda() alike, and when a parent module is moved
        for teacher in self.teachers.values():
            teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)


def _failed(name: str, teacher: Teacher, error: Exception) -> RuntimeError:
    return RuntimeError(f"teacher {name!r} ({teacher.describe()}) failed: {type(error).__name__}: {error}")


def _first(images: Iterable[torch.Tensor], count: int) -> Iterator[torch.Tensor]:
    """Yield batches up to so many images."""
    for batch in images if count else ():
        yield batch[:count]
        count -= min(count, batch.shape[0])
        if count == 0:
            return
