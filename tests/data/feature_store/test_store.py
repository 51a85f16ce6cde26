"""Reading a feature store: the same maps in every process, and no geometry that was not stored."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.transforms import (
    Compose,
    MapTransform,
    OneOf,
    Rand2DElasticd,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandSpatialCropd,
    Rotate90d,
)
from torch.utils.data import DataLoader

from monai_difom.data import EpochSampler, FeatureStore, StoreError, ViewDataset, loading_chain, open_store
from monai_difom.data.feature_store import thumbnail
from monai_difom.data.feature_store.policies import POLICIES, teacher_chain
from monai_difom.data.feature_store.shards import Shard, write_shard
from monai_difom.transforms import (
    NormalizeImaged,
    RandGeometryd,
    RandPhotometricd,
    RandViewd,
    SplitTeacherd,
)

from ...tiny import SIZE, make_builder, make_data

PAIR = ["image", "label"]
WORKERS = {"fork": 2, "spawn": 1}  # a spawned worker imports everything anew
NAMED = "'online'.*'views'.*'frozen'"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("polyps"))


@pytest.fixture(scope="module")
def built(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished store, and the training items that it is of."""
    builder = make_builder(data, tmp_path_factory.mktemp("store"))
    builder.build()
    return builder.store.folder, builder.train.data


def dataset(built: Any, *chain: Any, policy: str = "views") -> ViewDataset:
    folder, items = built
    store = FeatureStore(folder, policy)
    return ViewDataset(items, loading_chain(SIZE), Compose(chain), progress=False, features=store)


def plain(built: Any, policy: str = "views") -> ViewDataset:
    chain = [RandViewd(PAIR), SplitTeacherd(), RandPhotometricd("image", prob=1.0), NormalizeImaged("image")]
    return dataset(built, *chain, policy=policy)


def targets(data: ViewDataset, **options: Any) -> list[dict[str, torch.Tensor]]:
    loader = DataLoader(data, batch_size=4, sampler=EpochSampler(len(data), seed=1), **options)
    return [batch["targets"] for batch in loader]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_loader_workers_read_what_one_process_reads(built: Any, start: str) -> None:
    data = plain(built)
    expected = targets(data)
    for batch, other in zip(
        expected, targets(data, num_workers=WORKERS[start], multiprocessing_context=start), strict=True
    ):
        assert batch.keys() == other.keys() != set()
        assert all(torch.equal(value, other[name]) for name, value in batch.items())


def test_a_store_travels_to_a_worker_by_its_path_alone(built: Any) -> None:
    store = FeatureStore(built[0])
    key, view = next(iter(store.rows))
    store.read(key, view)
    assert len(pickle.dumps(store)) < 1000
    assert pickle.loads(pickle.dumps(store)).read(key, view).keys() == store.read(key, view).keys()


def test_what_is_read_is_a_view_on_the_file_and_writing_to_it_changes_nothing(built: Any) -> None:
    first, second = FeatureStore(built[0]), FeatureStore(built[0])
    key, view = next(iter(first.rows))
    maps = first.read(key, view)
    before = {name: value.clone() for name, value in maps.items()}
    for value in maps.values():
        value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in second.read(key, view).items())


@pytest.mark.parametrize(
    "transform",
    [
        RandFlipd(PAIR, prob=0.1),
        RandAffined(PAIR, prob=0.1, rotate_range=0.1),
        RandSpatialCropd(PAIR, roi_size=(16, 16)),
        Rand2DElasticd(PAIR, spacing=(8, 8), magnitude_range=(1, 2)),
        Rotate90d(PAIR),
        OneOf([RandFlipd(PAIR), Compose([RandAffined(PAIR)])]),
    ],
    ids=lambda transform: type(transform).__name__,
)
@pytest.mark.parametrize("policy", ["views", "frozen"])
def test_geometric_augmentation_beside_stored_targets_is_refused(
    built: Any, transform: Any, policy: str
) -> None:
    with pytest.raises(StoreError, match=rf"\w+d beside stored targets is refused.*{NAMED}"):
        dataset(built, transform, SplitTeacherd(), policy=policy)


def test_photometric_changes_stay_free(built: Any) -> None:
    light = [RandPhotometricd("image", prob=1.0), RandAdjustContrastd("image", prob=1.0)]
    data = dataset(built, RandViewd(PAIR), SplitTeacherd(), *light)
    data.check_features()
    assert data[0]["targets"]
    frozen = dataset(built, SplitTeacherd(), *light, policy="frozen")
    assert frozen[0]["targets"]


def test_free_geometry_rests_while_stored_maps_are_read_and_comes_back_when_none_is(
    built: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    chain = [RandViewd(PAIR), RandGeometryd(PAIR, ["bilinear", "nearest"]), SplitTeacherd()]
    data = dataset(built, *chain)
    assert "rests in phases that read stored maps" in caplog.text
    data.check_features()
    still = dataset(built, RandViewd(PAIR), SplitTeacherd())
    assert torch.equal(data[(3, 0)]["image"], still[(3, 0)]["image"])
    assert data[0]["targets"]
    data.features.active = False
    assert not torch.equal(data[(3, 0)]["image"], still[(3, 0)]["image"])


class _Shift(MapTransform):
    """A geometric change that no list of names knows."""

    def __call__(self, data: Any) -> dict:
        d = dict(data)
        for key in self.keys:
            d[key] = torch.roll(d[key], 2, -1)
        return d


def test_a_geometry_that_hides_its_name_is_found_by_what_the_teachers_would_see(built: Any) -> None:
    data = dataset(built, RandViewd(PAIR), _Shift(PAIR), SplitTeacherd())
    with pytest.raises(StoreError, match=rf"is not what they saw when it was stored.*{NAMED}"):
        [data[index] for index in range(len(data))]


def test_a_view_that_was_never_stored_is_refused_with_the_policies(built: Any) -> None:
    store = FeatureStore(built[0])
    key = next(
        key for key, view in store.rows if view == 0 and (key, 1) not in store.rows
    )  # of the validation
    with pytest.raises(
        StoreError, match=rf"view 3 of image .* was never stored; stored are views \[0\].*{NAMED}"
    ):
        store.read(key, 3)
    with pytest.raises(StoreError, match=rf"image {'f' * 32} was never stored.*{NAMED}"):
        store.read("f" * 32, 0)


def test_policy_and_folder_must_go_together(tmp_path: Path) -> None:
    assert open_store(None, "online") is None
    for policy in POLICIES:
        if policy != "online":
            assert open_store(tmp_path, policy) is not None
            with pytest.raises(StoreError, match=rf"there is no feature_store.*{NAMED}"):
                open_store(None, policy)
    with pytest.raises(StoreError, match=NAMED):
        open_store(tmp_path, "online")
    with pytest.raises(ValueError, match=rf"Did you mean 'views'.*{NAMED}"):
        open_store(tmp_path, "view")


def test_a_chain_without_a_teachers_image_is_refused() -> None:
    with pytest.raises(StoreError, match="put SplitTeacherd"):
        teacher_chain(Compose([RandViewd(PAIR)]), 0)


def test_the_thumbnail_shows_a_shift_by_one_pixel() -> None:
    image = torch.rand(3, 4, 4).repeat_interleave(40, 1).repeat_interleave(40, 2)
    moved = torch.roll(image, 1, -1)
    assert int((thumbnail(image).short() - thumbnail(moved).short()).abs().max()) > 2


def test_an_index_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text('{"format": 99}')
    with pytest.raises(StoreError, match="format 99"):
        _ = FeatureStore(tmp_path).index
    (tmp_path / "store.json").write_text('{"format')
    with pytest.raises(StoreError, match="is no index of a feature store"):
        _ = FeatureStore(tmp_path).index


def test_a_shard_holds_what_was_written_to_the_bit(tmp_path: Path) -> None:
    entries = [("a", 0), ("a", 1), ("b", 0)]
    tensors = {
        "half": torch.randn(3, 2, 5).half(),
        "odd": torch.randint(0, 9, (3, 7), dtype=torch.uint8),
        "full": torch.randn(3, 4),
    }
    write_shard(tmp_path, "x", entries, tensors)
    shard = Shard(tmp_path, "x")
    shard.check()
    assert shard.entries == entries
    for row in range(3):
        for name, value in shard.read(row, list(tensors)).items():
            assert torch.equal(value, tensors[name][row])
    mode = (tmp_path / "x.json").stat().st_mode
    assert (tmp_path / "x.safetensors").stat().st_mode == mode  # others of the group may read it too
