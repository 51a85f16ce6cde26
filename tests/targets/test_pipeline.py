"""The target pipeline on a tiny teacher with two maps of different grids."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from monai_difom.networks.teachers import InputContract, Teacher, TeacherMap
from monai_difom.targets import DistillationTerm, TargetPipeline
from tests.testers import band_energy


class TwoMaps(Teacher):
    """A fine map of 6 channels at stride 2 and a coarse map of 10 channels at stride 4; counts its images."""

    def __init__(self, seed: int = 0, scale: float = 1.0) -> None:
        maps = {"fine.0": TeacherMap(6, 2), "coarse": TeacherMap(10, 4)}
        super().__init__(maps, InputContract(multiple_of=4), "none", "a test")
        torch.manual_seed(seed)
        self.fine = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.coarse = nn.Conv2d(6, 10, 3, stride=2, padding=1)
        self.scale = scale
        self.seen = 0
        self.freeze()

    def extract(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        self.seen += len(image)
        fine = self.fine(image)
        return {"fine.0": self.scale * fine, "coarse": self.scale * self.coarse(fine.tanh())}


TERMS = [
    DistillationTerm("whole", tap="stride4"),
    DistillationTerm("low", tap="stride4", band="low", cutoff=0.25),
    DistillationTerm("high", tap="stride4", band="high", cutoff=0.25),
    DistillationTerm("high_fine", tap="stride2", band="high", cutoff=0.25),
    DistillationTerm("a", tap="stride2", source="one/coarse"),
]
GRIDS = {"whole": (6, 8), "low": (6, 8), "high": (6, 8), "high_fine": (12, 16), "a": (12, 16)}


def _images(count: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 24, 32, generator=torch.Generator().manual_seed(seed))


def _teachers(scale: float = 1.0) -> dict[str, Teacher]:
    return {"one": TwoMaps(0), "two": TwoMaps(1, scale)}


def _pipeline(
    terms: list[DistillationTerm] | None = None, fit: bool = True, **changes: Any
) -> TargetPipeline:
    teachers = changes.pop("teachers", None) or _teachers()
    pipeline = TargetPipeline(teachers, terms or TERMS, **{"fuse_channels": 7, **changes})
    if fit:
        pipeline.fit(_images().split(4))
    return pipeline


@pytest.mark.parametrize(("fuse", "fused"), [("pca", 7), ("concat", 32), ("learned", 7)])
def test_targets_have_the_declared_channels_and_the_asked_grids(fuse: str, fused: int) -> None:
    pipeline = _pipeline(fuse=fuse)
    targets = pipeline(_images(2), GRIDS)
    assert list(targets) == list(GRIDS)
    for name, target in targets.items():
        assert pipeline.channels(name) == (10 if name == "a" else fused)
        assert target.shape == (2, pipeline.channels(name), *GRIDS[name]), name
        assert target.dtype == torch.float32


@pytest.mark.parametrize("fuse", ["pca", "concat", "learned"])
@torch.no_grad()
def test_low_and_high_of_one_source_and_grid_add_up_to_the_whole(fuse: str) -> None:
    targets = _pipeline(fuse=fuse)(_images(2), GRIDS)
    torch.testing.assert_close(targets["low"] + targets["high"], targets["whole"], atol=1e-5, rtol=1e-4)
    assert min(targets[band].pow(2).mean() for band in ("low", "high")) > 1e-3


@pytest.mark.parametrize("standardize", ["phi_s", "channel", "none"])
@pytest.mark.parametrize("channels", [4, 8, 24])  # fewer than any map has, between them, more than any
@torch.no_grad()
def test_the_fused_map_is_what_standardising_stacking_and_fusing_give_one_after_the_other(
    standardize: str, channels: int
) -> None:
    pipeline = _pipeline(standardize=standardize, fuse_channels=channels, fuse_whiten=0.5)
    targets = pipeline(_images(2), GRIDS)
    standardized = pipeline.standardized(pipeline.teacher_maps(_images(2)))
    assert pipeline.fusion is not None
    expected = pipeline.fusion(pipeline._stacked(standardized, GRIDS["whole"]))
    torch.testing.assert_close(targets["whole"], expected, atol=1e-5, rtol=1e-4)


def test_each_term_holds_its_own_band() -> None:
    targets = _pipeline()(_images(2), GRIDS)
    for name, target in targets.items():
        share = band_energy(target, 0.25)
        if name == "low":
            assert share["low"] > 4 * share["high"]
        elif name.startswith("high"):
            assert share["high"] > 4 * share["low"]


def test_only_the_terms_of_the_given_grids_are_computed() -> None:
    assert list(_pipeline()(_images(1), {"a": (12, 16)})) == ["a"]


@pytest.mark.parametrize("fuse", ["pca", "concat"])
def test_targets_carry_no_gradient(fuse: str) -> None:
    pipeline = _pipeline(fuse=fuse)
    targets = pipeline(_images(2).requires_grad_(), GRIDS)
    assert not any(target.requires_grad for target in targets.values())
    assert not list(pipeline.parameters())


def test_a_gradient_reaches_a_learned_fusion_and_stops_there() -> None:
    pipeline = _pipeline(fuse="learned")
    targets = pipeline(_images(2), GRIDS)
    targets["low"].pow(2).sum().backward()
    assert len(list(pipeline.parameters())) == 2
    assert all(parameter.grad is not None for parameter in pipeline.parameters())
    assert not targets["a"].requires_grad


@pytest.mark.parametrize("scale", [1, 1000])
def test_no_teacher_wins_by_its_variance(scale: float) -> None:
    plain, loud = _pipeline(), _pipeline(teachers=_teachers(scale))
    images = _images(2, seed=3)
    torch.testing.assert_close(loud(images, GRIDS), plain(images, GRIDS), atol=1e-3, rtol=1e-3)


def test_without_standardisation_the_loud_teacher_does_win() -> None:
    report = _pipeline(teachers=_teachers(1000), standardize="none", fuse_channels=1).report()
    assert report["variance"]["two/coarse"] > 1000 * report["variance"]["one/coarse"]


def test_targets_before_the_fit_are_refused() -> None:
    with pytest.raises(RuntimeError, match="not fitted: call fit"):
        _pipeline(fit=False)(_images(1), GRIDS)


def test_an_unknown_source_is_answered_with_the_nearest() -> None:
    terms = [DistillationTerm("a", tap="stride2", source="one/corse")]
    with pytest.raises(ValueError, match=r"source of term 'a' 'one/corse'\. Did you mean 'one/coarse'\?"):
        _pipeline(terms, fit=False)


def test_an_unknown_map_to_fuse_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"fuse_maps 'two/fine'\. Did you mean 'two/fine\.0'\?"):
        _pipeline(fit=False, fuse_maps=["two/fine"])


def test_two_terms_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two distillation terms share a name"):
        _pipeline([TERMS[0], TERMS[0]], fit=False)


def test_a_band_that_is_empty_on_its_grid_is_refused_with_term_and_tap() -> None:
    terms = [DistillationTerm("low", tap="bottleneck", band="low", cutoff=0.2)]
    with pytest.raises(
        ValueError, match=r"term 'low' at tap 'bottleneck': the low band is empty on a 2x3 grid"
    ):
        _pipeline(terms, fit=False).check_grids({"low": (2, 3)})
    _pipeline(terms, fit=False).check_grids({"low": (12, 16)})


def test_only_the_chosen_maps_are_fused_and_only_used_maps_are_fitted() -> None:
    pipeline = _pipeline([TERMS[0]], fuse_maps=["one/coarse", "two/fine.0"], fuse="concat")
    assert pipeline.sources == ["one/coarse", "two/fine.0"]
    assert pipeline.channels("whole") == 16
    assert sorted(pipeline.report()["variance"]) == ["one/coarse", "two/fine.0"]


def test_every_fused_map_brings_the_same_total_variance() -> None:
    pipeline = _pipeline([TERMS[0]], fuse="concat", fuse_maps=["one/fine.0", "two/fine.0", "two/coarse"])
    images = _images()
    fused = pipeline(images, {"whole": (12, 16)})["whole"]  # the fine maps' own grid
    total = [fused[:, part].var((0, 2, 3), correction=0).sum() for part in (slice(6), slice(6, 12))]
    torch.testing.assert_close(torch.stack(total), torch.ones(2), atol=1e-3, rtol=0)


def test_teachers_are_neither_parameters_nor_saved() -> None:
    pipeline = _pipeline()
    assert not list(pipeline.parameters())
    assert all(key.split(".")[0] in ("standardizers", "fusion", "fitted") for key in pipeline.state_dict())
    assert not any(isinstance(module, Teacher) for module in pipeline.modules())


@pytest.mark.parametrize("fuse", ["pca", "concat", "learned"])
@torch.no_grad()
def test_the_state_dict_brings_back_identical_targets(fuse: str) -> None:
    pipeline, other = _pipeline(fuse=fuse), _pipeline(fuse=fuse, fit=False)
    other.load_state_dict(pipeline.state_dict(), strict=True)
    images = _images(2, seed=5)
    found, expected = other(images, GRIDS), pipeline(images, GRIDS)
    assert all(torch.equal(found[name], expected[name]) for name in GRIDS)
    assert other.report() == pipeline.report()


def test_the_fit_uses_exactly_the_stated_number_of_images() -> None:
    teachers = _teachers()
    first = _pipeline(teachers=teachers, fit_images=6)
    assert first.report()["images"] == 6
    assert [teacher.seen for teacher in teachers.values()] == [12, 12]  # type: ignore[attr-defined] (two readings)
    other = _pipeline(fit=False, fit_images=6)
    other.fit([torch.cat([_images()[:6], torch.ones(4, 3, 24, 32)])])
    torch.testing.assert_close(other.state_dict(), first.state_dict(), atol=1e-4, rtol=1e-4)


def test_fewer_images_than_stated_are_all_used() -> None:
    assert _pipeline(fit_images=100).report()["images"] == 8


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("standardize", ["phi_s", "channel"])
def test_the_fit_does_not_depend_on_the_batch_size(batch: int, standardize: str) -> None:
    reference = _pipeline(standardize=standardize)
    pipeline = _pipeline(standardize=standardize, fit=False)
    pipeline.fit(_images().split(batch))
    images = _images(2, seed=5)
    torch.testing.assert_close(pipeline(images, GRIDS), reference(images, GRIDS), atol=1e-3, rtol=1e-3)


def test_the_report_tells_what_a_person_would_ask() -> None:
    report = _pipeline().report()
    assert report["images"] == 8
    assert report["fused_channels"] == 7
    assert 0.3 < report["explained_variance"] < 1
    assert all(variance > 0 for variance in report["variance"].values())


def test_a_constant_map_is_refused_with_its_name() -> None:
    teachers = {"one": TwoMaps(0), "two": TwoMaps(1, scale=0)}
    with pytest.raises(ValueError, match=r"^two/coarse: a teacher map is constant"):
        _pipeline(teachers=teachers)


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="fewer than two positions"):
        _pipeline(fit=False).fit([])
    with pytest.raises(ValueError, match="fit_images is 0"):
        _pipeline(fit=False, fit_images=0)


def test_an_iterator_that_would_be_empty_at_the_second_reading_is_refused() -> None:
    with pytest.raises(ValueError, match="read twice, and an iterator can be read only once"):
        _pipeline(fit=False).fit(iter(_images().split(4)))


def test_signatures_are_those_of_the_teachers() -> None:
    teachers = _teachers()
    found = _pipeline(teachers=teachers, fit=False).signatures()
    assert found == {name: teacher.signature for name, teacher in teachers.items()}


@pytest.mark.parametrize("nested", [False, True])
def test_the_teachers_move_with_the_pipeline(nested: bool) -> None:
    pipeline = _pipeline(fit=False)
    (nn.ModuleList([pipeline]) if nested else pipeline).to(torch.float64)
    assert pipeline.standardizers[0].matrix.dtype == torch.float64
    assert all(
        p.dtype == torch.float64 for teacher in pipeline.teachers.values() for p in teacher.parameters()
    )
    assert pipeline.fitted.dtype == torch.int64


def test_mixed_precision_reaches_the_teachers_and_not_the_targets() -> None:
    pipeline = _pipeline()
    expected = pipeline(_images(2), GRIDS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = pipeline(_images(2), GRIDS)
    for name, target in found.items():
        assert target.dtype == torch.float32
        torch.testing.assert_close(target, expected[name], atol=0.2, rtol=0.05)


HEADS = [
    DistillationTerm("a_fine", tap="stride4", source="one/fine.0"),
    DistillationTerm("a_coarse", tap="stride4", source="one/coarse"),
    DistillationTerm("b_coarse", tap="stride4", source="two/coarse"),
]


def test_teachers_of_several_grids_meet_on_the_grid_of_one_tap() -> None:
    pipeline = _pipeline(HEADS, fuse="concat")
    assert pipeline.fusion is None
    targets = pipeline(_images(2), dict.fromkeys(("a_fine", "a_coarse", "b_coarse"), (5, 7)))
    shapes = {name: tuple(target.shape) for name, target in targets.items()}
    assert shapes == {"a_fine": (2, 6, 5, 7), "a_coarse": (2, 10, 5, 7), "b_coarse": (2, 10, 5, 7)}


def test_phi_s_gives_every_teacher_the_same_spread_and_raw_targets_keep_their_own() -> None:
    grids = {"a_fine": (12, 16), "a_coarse": (6, 8), "b_coarse": (6, 8)}  # their own: nothing is resampled
    spread = {}
    for kind in ("phi_s", "none"):
        pipeline = _pipeline(HEADS, teachers=_teachers(scale=50.0), standardize=kind)
        targets = pipeline(_images(), grids)
        spread[kind] = [float(target.var((0, 2, 3)).mean()) for target in targets.values()]
    assert spread["phi_s"] == pytest.approx([1.0, 1.0, 1.0], rel=0.02)
    assert spread["none"][2] > 100 * spread["none"][1]


class Broken(TwoMaps):
    """A teacher that does something wrong from its second batch on."""

    def __init__(self, fault: str) -> None:
        super().__init__(1)
        self.fault = fault
        self.batches = 0

    def extract(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        found = super().extract(image)
        self.batches += 1
        if self.batches < 2:
            return found
        if self.fault == "raises":
            raise MemoryError("no memory left")
        if self.fault == "nan":
            found["coarse"][0, 0, 0, 0] = torch.nan
        if self.fault == "grid":
            found["coarse"] = found["coarse"][..., :-2]
        if self.fault == "batch":
            found["coarse"] = found["coarse"][:1]
        if self.fault == "missing":
            del found["coarse"]
        return found


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raises", "MemoryError: no memory left"),
        ("nan", "map 'coarse' holds NaN or infinity"),
        ("grid", r"map 'coarse' has shape \(4, 10, 6, 6\).* the grid should be \(6, 8\)"),
        ("batch", r"map 'coarse' has shape \(1, 10, 6, 8\) for 4 images"),
        ("missing", "gave no map 'coarse'"),
    ],
)
def test_one_teacher_of_several_that_goes_wrong_stops_everything_and_is_named(
    fault: str, message: str
) -> None:
    with pytest.raises(RuntimeError, match=rf"teacher 'two' \(Broken\(a test\)\) failed: .*{message}"):
        _pipeline(teachers={"one": TwoMaps(0), "two": Broken(fault)})
