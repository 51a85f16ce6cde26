"""The feature store in use: what is stored is what the teachers say, a training reads it, and nothing breaks it."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from monai_difom.apps import FeatureBuilder
from monai_difom.data import FeatureStore, StoreError
from monai_difom.data.feature_store import RAW, shards
from monai_difom.data.feature_store.build import is_finished
from monai_difom.data.feature_store.shards import shard_paths
from monai_difom.engines import DistillationTrainer, Phase, Plan
from monai_difom.handlers import CollapseMonitor, PicturePanel
from monai_difom.networks.teachers import NetworkTeacher
from monai_difom.targets import DistillationTerm
from monai_difom.transforms import RandViewd, SplitTeacherd

from ..tiny import make_builder, make_data, make_teacher, make_terms, make_trainer, validation_loader

ENTRIES = 9 * 8 + 3  # nine training images in eight views, three validation images in one


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("polyps"))


@pytest.fixture(scope="module")
def built(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store of eight targets a shard."""
    folder = tmp_path_factory.mktemp("store") / "a"
    make_builder(data, folder).build()
    return folder


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    """A copy of the finished store, to break."""
    return Path(shutil.copytree(built, tmp_path / "copy"))


def trained(data: Path, **changes: Any) -> DistillationTrainer:
    trainer = make_trainer(data, **changes)
    trainer.run()
    return trainer


def shard_times(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in (folder / "shards").glob("*.safetensors")}


def forked(work: Callable[[], Any], environment: dict[str, str] | None = None) -> Any:
    """Start work in a process of its own."""

    def run() -> None:
        os.environ.update(environment or {})
        work()

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def slow_builder(data: Path, folder: Path, seconds: float = 0.03) -> FeatureBuilder:
    """A builder whose teacher takes its time, so that something can happen meanwhile."""
    teacher = make_teacher()
    teacher.register_forward_pre_hook(lambda *_: time.sleep(seconds))
    return make_builder(data, folder, teacher=teacher)


def stored(folder: Path) -> dict[tuple[str, int], dict[str, torch.Tensor]]:
    store = FeatureStore(folder)
    return {entry: {k: v.clone() for k, v in store.read(*entry).items()} for entry in store.rows}


def assert_same(first: Path, second: Path) -> None:
    one, other = stored(first), stored(second)
    assert one.keys() == other.keys()
    for entry, maps in one.items():
        for name, value in maps.items():
            torch.testing.assert_close(other[entry][name], value, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 2e-3)])
def test_training_from_the_store_ends_like_training_with_the_teachers(
    data: Path, tmp_path: Path, dtype: str, tolerance: float
) -> None:
    make_builder(data, tmp_path, dtype=dtype).build()
    live, cached = trained(data), trained(data, features=FeatureStore(tmp_path))
    fitted = cached.targets.state_dict()
    assert all(torch.equal(value, fitted[key]) for key, value in live.targets.state_dict().items())
    found = cached.distiller.state_dict()
    for key, value in live.distiller.state_dict().items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=tolerance)


def test_no_teacher_runs_in_a_training_from_the_store(data: Path, built: Path, tmp_path: Path) -> None:
    store = FeatureStore(built)
    loader = validation_loader(data, store)
    teacher = make_teacher()

    def refuse(*_: Any) -> None:
        raise AssertionError("a teacher was run")

    teacher.register_forward_pre_hook(refuse)
    monitor = CollapseMonitor(loader)
    trained(data, features=store, teacher=teacher, handlers=[monitor, PicturePanel(loader, tmp_path, 2)])
    assert set(monitor.results) == {"low", "high"}
    assert (tmp_path / "pictures" / "001_align.png").is_file()


def test_a_phase_without_distillation_reads_no_targets(
    data: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, phases, read = FeatureStore(built), set(), FeatureStore.read
    trainer = make_trainer(data, features=store)
    monkeypatch.setattr(FeatureStore, "read", lambda *words: phases.add(trainer.phase.name) or read(*words))
    trainer.run()
    weighed = {phase.name for phase in trainer.plan.phases if any(map(phase.uses, trainer.targets.terms))}
    assert phases == weighed != {phase.name for phase in trainer.plan.phases}


def test_a_training_without_distillation_needs_no_store(data: Path, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "absent")
    trainer = make_trainer(data, Plan([Phase("alone", 1, {"segmentation": 1.0})]), features=store)
    trainer.run()
    assert next(iter(validation_loader(data, store)))["image"].shape[0] == 2


def test_the_monitor_finds_the_same_from_the_store_as_from_the_teachers(data: Path, built: Path) -> None:
    found = []
    for store in (None, FeatureStore(built)):
        monitor = CollapseMonitor(validation_loader(data, store))
        trained(data, features=store, handlers=[monitor])
        found.append(monitor.results["low"])
    assert found[0]["target_variance"] == pytest.approx(found[1]["target_variance"], rel=0.01)
    assert found[0]["r2"] == pytest.approx(found[1]["r2"], abs=0.01)


def test_every_view_is_a_teacher_pass_of_its_own_and_not_a_warped_map(data: Path, built: Path) -> None:
    store = FeatureStore(built)
    key = next(key for key, view in store.rows if view == 7)
    name = next(name for name in store.maps if name.startswith("fused@16"))
    plain, flipped = store.read(key, 0)[name].float(), store.read(key, 1)[name].float()
    assert not torch.allclose(plain.flip(-1), flipped, atol=0.05)


def test_verify_finds_the_teachers_in_the_store(data: Path, built: Path) -> None:
    report = make_builder(data, built).verify(samples=10)
    assert report["ok"]
    assert report["samples"] == 10
    assert min(report["cosine"].values()) > 0.9999


def test_verify_says_when_the_store_is_not_what_the_teachers_say(data: Path, copy: Path) -> None:
    # shards with right checksums, and the maps of another teacher
    store = FeatureStore(copy)
    for name in store.index["shards"]:
        shard = store.shard(name)
        wrong = {key: value.flip(0).clone() for key, value in shard.tensors.items()}
        shards.write_shard(copy / "shards", name, shard.entries, wrong)
    assert not make_builder(data, copy).verify(samples=10)["ok"]


def test_frozen_stores_one_view_and_trains_on_it(data: Path, tmp_path: Path) -> None:
    def frozen() -> dict[str, Any]:
        return {"augment": [RandViewd(["image", "label"], [0]), SplitTeacherd()]}

    report = make_builder(data, tmp_path, policy="frozen", **frozen()).build()
    assert report["rows"] == 12
    trained(data, features=FeatureStore(tmp_path, "frozen"), **frozen())
    with pytest.raises(StoreError, match=r"view 1, which was never stored .*'online'.*'views'.*'frozen'"):
        make_trainer(data, features=FeatureStore(tmp_path, "frozen"))
    with pytest.raises(StoreError, match=r"view 1, which was never stored .*'online'.*'views'.*'frozen'"):
        trained(data, features=FeatureStore(tmp_path))


def test_raw_maps_are_stored_on_request(data: Path, tmp_path: Path) -> None:
    builder = make_builder(data, tmp_path, dtype="float32", raw=True)
    builder.build()
    store = FeatureStore(tmp_path)
    assert {f"{RAW}tiny/fine", f"{RAW}tiny/coarse"} <= set(store.maps)
    key, (dataset, index) = next(iter(builder.places.items()))
    image = dataset.teacher_images(index, [0])[0][None]
    live = make_teacher()(image)["fine"][0]
    torch.testing.assert_close(store.read(key, 0, [f"{RAW}tiny/fine"])[f"{RAW}tiny/fine"], live)
    assert RAW not in "".join(store.read(key, 0))


def test_targets_are_kilobytes_where_raw_maps_are_not(data: Path, built: Path) -> None:
    cost = make_builder(data, built).estimate()
    assert cost["rows"] == 0
    assert cost["row_bytes"] == (6 * 8 * 8 + 6 * 16 * 16) * 2 + 3 * 16 * 16


def test_estimate_says_bytes_and_time_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    builder = make_builder(data, tmp_path / "new")
    cost = builder.estimate()
    assert (cost["images"], cost["rows"]) == (12, ENTRIES)
    assert cost["seconds"] > 0
    assert not (tmp_path / "new").exists()
    builder.build()
    size = sum(file.stat().st_size for file in (tmp_path / "new" / "shards").glob("*.safetensors"))
    assert size == pytest.approx(cost["bytes"], rel=0.1)


def weights_changed(data: Path) -> dict[str, Any]:
    return {"teacher": make_teacher(seed=6)}


def input_changed(data: Path) -> dict[str, Any]:
    network = make_teacher().network
    return {
        "teacher": NetworkTeacher(
            network, {"fine": "1", "coarse": "3"}, mean=[0.5] * 3, std=[0.5] * 3, input_size=64
        )
    }


def tap_changed(data: Path) -> dict[str, Any]:
    return {"terms": [make_terms()[0], DistillationTerm("high", tap="stride1", band="high", cutoff=0.25)]}


def standardiser_changed(data: Path) -> dict[str, Any]:
    return {"fuse": "concat"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (weights_changed, r"teachers.tiny: \w{12} in the store, \w{12} here"),
        (input_changed, r"teachers.tiny: \w{12} in the store, \w{12} here"),
        (tap_changed, r"terms.high.tap: stride2 in the store, stride1 here"),
        (standardiser_changed, r"targets.fuse: PCAFusion in the store, ConcatFusion here"),
    ],
)
def test_a_store_of_other_targets_is_refused_with_the_field_that_differs(
    data: Path, built: Path, change: Callable[[Path], dict], message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        trained(data, features=FeatureStore(built), **change(data))
    with pytest.raises(StoreError, match=message):
        make_builder(data, built, **change(data)).build()


def test_another_image_size_is_refused(data: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.tiny.SIZE", 64)
    with pytest.raises(StoreError, match=r"image_size is \[32, 32\] in the store, \[64, 64\] here"):
        trained(data, features=FeatureStore(built))
    with pytest.raises(StoreError, match=r"image_size: \[32, 32\] in the store, \[64, 64\] here"):
        make_builder(data, built).build()


def test_changed_fitted_parts_are_refused(data: Path, copy: Path) -> None:
    file = copy / "targets.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(StoreError, match=r"targets.safetensors has changed: fitted is \w{12}"):
        trained(data, features=FeatureStore(copy))


def test_one_changed_image_byte_is_refused_and_build_adds_the_new_image(
    data: Path, copy: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(data, tmp_path / "other"))
    victim = sorted((other / "TrainDataset" / "image").iterdir())[0]
    for file in sorted((other / "TrainDataset" / "image").iterdir()):
        if any(file.name == Path(i["image"]).name for i in make_trainer(other).data_loader.dataset.data):
            victim = file
    victim.write_bytes(victim.read_bytes() + b"\0")
    with pytest.raises(StoreError, match=rf"image \S*{victim.name} has changed: the digest of its bytes is"):
        trained(other, features=FeatureStore(copy))
    assert make_builder(other, copy).build()["rows"] == 8
    trained(other, features=FeatureStore(copy))


def test_another_number_type_in_the_same_store_is_refused(data: Path, built: Path) -> None:
    with pytest.raises(StoreError, match="dtype: float16 in the store, float32 here"):
        make_builder(data, built, dtype="float32").build()


def test_a_training_before_the_build_says_how_to_build(data: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no feature store at .* Build it first"):
        trained(data, features=FeatureStore(tmp_path))


def test_trained_targets_cannot_be_stored(data: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"fuse: learned.*cannot be stored"):
        make_builder(data, tmp_path, fuse="learned").build()


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 100)


def flip_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-300] ^= 4
    file.write_bytes(content)


def flip_header_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[12] ^= 1
    file.write_bytes(content)


def remove_checksums(file: Path) -> None:
    file.with_suffix(".json").unlink()


@pytest.mark.parametrize("damage", [truncate, flip_bit, flip_header_bit, remove_checksums])
def test_a_damaged_shard_is_named_and_build_repairs_it_alone(
    data: Path, built: Path, copy: Path, damage: Callable[[Path], None]
) -> None:
    file, _ = shard_paths(copy / "shards", "000003")
    damage(file)
    before = shard_times(copy)
    with pytest.raises(StoreError, match=r"000003\.safetensors .*build` repairs this shard alone"):
        stored(copy)  # a training checks what it reads
    damaged = make_builder(data, copy).verify(samples=2)["damaged"]
    assert len(damaged) == 1
    assert "000003" in damaged[0]
    report = make_builder(data, copy).build()
    assert report["shards"] == 1
    after = shard_times(copy)
    assert {name for name in before if before[name] != after[name]} == {file.name}
    assert_same(built, copy)


def test_a_build_that_is_killed_resumes_where_it_was(data: Path, built: Path, tmp_path: Path) -> None:
    process = forked(lambda: slow_builder(data, tmp_path).build())
    while len(shard_times(tmp_path)) < 3:
        assert process.is_alive()
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    kept = {
        name: at
        for name, at in shard_times(tmp_path).items()
        if (tmp_path / "shards" / f"{name[:6]}.json").exists()
    }
    assert 0 < len(kept) < 10
    assert make_builder(data, tmp_path).build()["kept"] == len(kept)
    assert {name: shard_times(tmp_path)[name] for name in kept} == kept
    assert not list(tmp_path.rglob("*.part"))
    assert_same(built, tmp_path)


@pytest.mark.parametrize("ranks", [False, True], ids=["two commands", "two ranks"])
def test_two_builders_both_finish_and_write_nothing_twice(
    data: Path, built: Path, tmp_path: Path, ranks: bool
) -> None:
    def work(number: int) -> Callable[[], Any]:
        def run() -> None:
            report = slow_builder(data, tmp_path / "store", 0.02).build()
            (tmp_path / f"{number}.json").write_text(json.dumps(report))
            assert all(is_finished(FeatureStore(tmp_path / "store"), f"{n:06d}") for n in range(10))

        return run

    environments = [{"RANK": str(n), "WORLD_SIZE": "2"} if ranks else {} for n in range(2)]
    processes = [forked(work(number), environments[number]) for number in range(2)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    reports = [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(2)]
    assert sum(report["rows"] for report in reports) == ENTRIES
    assert all(report["rows"] > 0 for report in reports)
    assert_same(built, tmp_path / "store")


def test_without_space_nothing_starts_and_the_message_says_how_much_is_missing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
    with pytest.raises(StoreError, match=r"97\.7 KiB are free, \S+ KiB are missing"):
        make_builder(data, tmp_path).build()
    assert not (tmp_path / "store.json").exists()


def test_a_disk_that_fills_up_leaves_a_valid_store(
    data: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def save(path: Path, *arguments: Any) -> None:
        written.append(path)
        if len(written) > 4:
            Path(path).with_name(".half.part").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save_tensors(path, *arguments)

    save_tensors = shards.save_tensors
    monkeypatch.setattr(shards, "save_tensors", save)
    with pytest.raises(StoreError, match=r"no space left .*: \d of 10 shards are missing, \S+ KiB"):
        make_builder(data, tmp_path).build()
    monkeypatch.undo()
    store = FeatureStore(tmp_path)
    assert sum(is_finished(store, name, deep=True) for name in store.index["shards"]) == 4
    assert make_builder(data, tmp_path).build()["kept"] == 4
    assert_same(built, tmp_path)


def test_values_that_half_precision_cannot_hold_are_refused(data: Path, tmp_path: Path) -> None:
    builder = make_builder(data, tmp_path)
    builder.build()
    builder.targets.fusion.matrix.mul_(1e9)
    with pytest.raises(StoreError, match=r"float16 cannot hold\. Set feature_dtype to float32"):
        builder.compute(torch.rand(1, 3, 32, 32))


def flipped(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1 << (place % 7)
    file.write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder / "shards").iterdir()}


@pytest.mark.parametrize("damage", ["one bit", "half", "empty", "gone", "a list", "a name"])
def test_a_damaged_index_is_named_and_made_anew_with_every_whole_shard(
    damage: str, copy: Path, built: Path, data: Path
) -> None:
    folder = copy
    file, before = folder / "store.json", contents(folder)
    text = file.read_text()
    if damage == "one bit":
        flipped(file, len(text) // 2)
    elif damage == "gone":
        file.unlink()
    elif damage == "a name":
        file.write_text(json.dumps({**json.loads(text), "shardS": {}}))
    else:
        file.write_text({"half": text[: len(text) // 2], "empty": "", "a list": "[1]"}[damage])
    if damage != "gone":
        with pytest.raises(StoreError, match=r"store\.json is no index.*it is damaged.*features build"):
            FeatureStore(folder).views  # noqa: B018
    report = make_builder(data, folder).build()
    assert report["shards"] == 0
    assert contents(folder) == before
    assert FeatureStore(folder).rows.keys() == FeatureStore(built).rows.keys()
    assert make_builder(data, folder).verify(4)["ok"]


def test_one_bit_anywhere_in_a_shards_checksums_is_named_and_repaired(copy: Path, data: Path) -> None:
    folder = copy
    before = contents(folder)
    notes = sorted((folder / "shards").glob("*.json"))[0]
    content = notes.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 40)):
        notes.write_bytes(content)
        flipped(notes, place)
        report = make_builder(data, folder).verify(1)
        assert len(report["damaged"]) == 1, place
        assert "features build" in report["damaged"][0]
    assert make_builder(data, folder).build()["shards"] == 1
    assert contents(folder) == before


def test_lost_fitted_targets_are_fitted_again_and_the_shards_kept(copy: Path, data: Path) -> None:
    folder = copy
    file, before = folder / "targets.safetensors", contents(folder)
    expected = file.read_bytes()
    for damage in (file.unlink, lambda: flipped(file, len(expected) - 9), lambda: file.write_bytes(b"")):
        damage()
        with pytest.raises(StoreError, match=r"targets\.safetensors (is|has) .*features build"):
            FeatureStore(folder).fitted_state()
        assert make_builder(data, folder).build()["shards"] == 0
        assert (file.read_bytes(), contents(folder)) == (expected, before)


def test_shards_of_other_targets_are_not_taken_for_these(copy: Path, data: Path) -> None:
    folder = copy
    (folder / "store.json").unlink()
    report = make_builder(data, folder, teacher=make_teacher(9)).build()
    assert report["kept"] == 0
