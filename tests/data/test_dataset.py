from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandFlipd, Transform
from PIL import Image
from torch.utils.data import DataLoader

from monai_difom.data import (
    EpochSampler,
    ViewDataset,
    loading_chain,
    make_polyps,
    open_soft_masks,
    training_augmentation,
    training_pairs,
)
from monai_difom.transforms import NormalizeImaged, RandPhotometricd, RandViewd, SplitTeacherd


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    folder = tmp_path_factory.mktemp("polyps")
    make_polyps(folder, train=6, test=0, size=48)
    return training_pairs(folder)


def augment():
    return Compose(
        [
            RandViewd(["image", "label"]),
            SplitTeacherd(),
            RandPhotometricd("image", prob=1.0),
            NormalizeImaged("image"),
        ]
    )


def dataset(items, **options):
    return ViewDataset(items, loading_chain(32), augment(), seed=3, progress=False, **options)


def batches(data, workers, epoch=2):
    sampler = EpochSampler(len(data), seed=1)
    sampler.set_epoch(epoch)
    return list(DataLoader(data, batch_size=2, sampler=sampler, num_workers=workers))


def test_items_do_not_depend_on_workers_cache_or_history(items):
    data = dataset(items)
    first = batches(data, 0)
    [data[n] for n in range(6)]
    for other in (batches(data, 2), batches(dataset(items, cache_rate=0.0), 0)):
        for a, b in zip(first, other, strict=True):
            assert all(torch.equal(a[key], b[key]) for key in ("image", "teacher_image", "label", "view"))


def test_epochs_differ_and_an_index_alone_is_epoch_zero(items):
    data = dataset(items)
    assert torch.equal(data[1]["image"], data[(0, 1)]["image"])
    assert torch.equal(data[-1]["image"], data[5]["image"])
    assert not torch.equal(data[(0, 1)]["image"], data[(1, 1)]["image"])
    with pytest.raises(IndexError, match="6 items"):
        data[6]


def test_types_and_ranges_are_what_training_expects(items):
    item = dataset(items)[0]
    assert item["teacher_image"].dtype == item["image"].dtype == item["label"].dtype == torch.float32
    assert item["image"].shape == (3, 32, 32)
    assert 0 <= item["teacher_image"].min() <= item["teacher_image"].max() <= 1
    assert set(item["label"].unique().tolist()) <= {0.0, 1.0}


def test_a_changed_item_leaves_the_cache_alone(items):
    data = ViewDataset(items, loading_chain(32), progress=False)
    before = data[0]["image"].clone()
    data[0]["image"].zero_()
    assert torch.equal(data[0]["image"], before)


def test_an_item_that_stands_in_the_list_often_is_loaded_once_and_augmented_each_time(items):
    calls = []

    class Counted(Transform):
        def __call__(self, item):
            calls.append(item["image"])
            return item

    chain = Compose([Counted(), *loading_chain(32).transforms])
    data = ViewDataset([items[0], items[1], dict(items[0])], chain, augment(), progress=False)
    assert calls == [items[0]["image"], items[1]["image"]]
    assert len(data) == 3
    assert not torch.equal(data[0]["image"], data[2]["image"])


@pytest.mark.parametrize("cache_rate", [0.0, 1.0])
def test_a_broken_file_is_named(items, tmp_path, cache_rate):
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"no image")
    with pytest.raises(RuntimeError, match=r"broken.png.*UnidentifiedImageError"):
        dataset([{**items[0], "image": str(bad)}], cache_rate=cache_rate)[0]


def test_a_failing_augmentation_names_the_files(items):
    data = ViewDataset(items, loading_chain(32), RandPhotometricd("image"), progress=False)
    with pytest.raises(RuntimeError, match=r"augmented .*synthetic_0000.png.*float RGB"):
        data[0]


def test_wrong_settings_are_refused(items):
    with pytest.raises(ValueError, match="no items"):
        ViewDataset([], loading_chain(32))
    with pytest.raises(ValueError, match="cache_rate"):
        dataset(items, cache_rate=2)
    with pytest.raises(ValueError, match="RandFlipd"):
        ViewDataset(items, Compose([RandFlipd("image")]))


def test_the_sampler_depends_on_seed_and_epoch_only():
    sampler = EpochSampler(20, seed=5)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(index for _, index in second) == list(range(20))
    assert {epoch for epoch, _ in second} == {1}
    assert [i for _, i in first] != [i for _, i in second]
    assert list(EpochSampler(20, seed=5)) == first
    assert list(EpochSampler(3, shuffle=False)) == [(0, 0), (0, 1), (0, 2)]
    for wrong in (lambda: EpochSampler(0), lambda: sampler.set_epoch(-1)):
        with pytest.raises(ValueError, match="is"):
            wrong()
    assert np.all(np.diff([index for _, index in EpochSampler(4, shuffle=False)]) == 1)


@pytest.mark.parametrize("count", [1, 5, 7, 18])
@pytest.mark.parametrize("world", [1, 3])
def test_epochs_of_any_length_bring_every_item_equally_often_and_never_twice_alike(count, world):
    samplers = [EpochSampler(7, seed=2, rank=rank, world=world, count=count) for rank in range(world)]
    drawn = []
    for epoch in range(6):
        for sampler in samplers:
            sampler.set_epoch(epoch)
            assert len(list(sampler)) == len(sampler) == count
            assert list(sampler) == list(sampler)
            drawn += list(sampler)
    assert len(set(drawn)) == len(drawn)
    times = np.bincount([index for _, index in drawn], minlength=7)
    assert times.max() - times.min() <= 1
    alone = EpochSampler(7, seed=2, count=count * world)
    together = [list(sampler) for sampler in samplers]
    alone.set_epoch(5)
    assert list(alone) == [item for items in zip(*together, strict=True) for item in items]


def test_an_epoch_of_no_items_is_refused():
    with pytest.raises(ValueError, match="count is 0"):
        EpochSampler(3, count=0)


@pytest.mark.parametrize("length", [4, 10, 11])
@pytest.mark.parametrize(("world", "batch"), [(1, 2), (2, 1), (2, 2), (3, 1)])
def test_processes_deal_out_the_batches_of_one(length: int, world: int, batch: int) -> None:
    alone = [index for _, index in EpochSampler(length, seed=3)]
    shares = [[i for _, i in EpochSampler(length, seed=3, rank=rank, world=world)] for rank in range(world)]
    assert {len(share) for share in shares} == {length // world}
    dealt = [index for share in shares for index in share]
    assert len(set(dealt)) == len(dealt)
    for number in range(length // (world * batch)):
        joint = {index for share in shares for index in share[number * batch : (number + 1) * batch]}
        assert joint == set(alone[number * batch * world : (number + 1) * batch * world])


@pytest.mark.parametrize("length", [1, 5, 7])
def test_padded_shares_hold_every_item_and_are_of_one_length(length: int) -> None:
    samplers = [EpochSampler(length, rank=rank, world=3, pad=True) for rank in range(3)]
    shares = [[index for _, index in sampler] for sampler in samplers]
    assert {len(share) for share in shares} == {len(samplers[0])}
    assert {index for share in shares for index in share} == set(range(length))


def test_too_few_items_for_the_processes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 item\(s\) cannot be dealt out to 3 processes"):
        EpochSampler(2, world=3)
    with pytest.raises(ValueError, match=r"rank is 2; allowed is 0 to 1"):
        EpochSampler(9, rank=2, world=2)


@pytest.fixture
def soft(items, tmp_path):
    """Soft masks of the first four images: 200/255 where the drawn mask is, 40/255 elsewhere."""
    folder = tmp_path / "maps"
    folder.mkdir()
    for item in items[:4]:
        drawn = np.asarray(Image.open(item["label"]).convert("L")) > 0
        levels = np.where(drawn, 200, 40).astype(np.uint8)
        Image.fromarray(levels).save(folder / f"{Path(item['image']).stem}.png")
    return open_soft_masks(folder)


def without_labels(items):
    return [{"image": item["image"], "group": item["group"]} for item in items]


def moving(**options):
    return training_augmentation(rotate=180, scale=(0.7, 1.4), shift=0.1, elastic=0.03, channels=1, **options)


def test_image_drawn_mask_and_soft_mask_move_alike(items, soft):
    drawn = ViewDataset(items[:4], loading_chain(32), moving(trust=0), progress=False, soft_masks=soft)
    said = ViewDataset(
        without_labels(items[:4]), loading_chain(32), moving(), progress=False, soft_masks=soft
    )
    for epoch in range(4):
        for index in range(4):
            a, b = drawn[(epoch, index)], said[(epoch, index)]
            assert torch.equal(a["image"], b["image"])
            hard, probability = a["label"], b["label"]
            assert set(hard.unique().tolist()) <= {0.0, 1.0}
            # apart from the borders, where one is blurred
            assert float(((probability > 0.47) == (hard > 0)).float().mean()) > 0.95
            assert probability.min() > 0.1
            assert probability.max() < 0.8


def test_labelled_and_unlabelled_items_have_the_same_keys_and_make_a_batch(items, soft):
    both = [*items[3:6], *without_labels(items[:2])]
    data = ViewDataset(both, loading_chain(32), moving(), progress=False, soft_masks=soft)
    assert data.labelled == 3
    batch = next(iter(DataLoader(data, batch_size=5)))
    assert batch["label"].shape == (5, 1, 32, 32)
    assert batch["label"].dtype == torch.float32
    mixed = [set((batch["label"][i] * 255).round().int().unique().tolist()) <= {0, 255} for i in range(5)]
    assert mixed == [False, True, True, False, False]  # only the first labelled one has a soft mask too


def test_soft_masks_are_kept_in_memory_at_the_images_size_in_eight_bits(items, soft):
    data = ViewDataset(
        without_labels(items[:4]), loading_chain(32), moving(), progress=False, soft_masks=soft
    )
    kept = data._loaded[0]["soft_mask"]
    assert (kept.dtype, kept.shape) == (torch.uint8, (1, 32, 32))
    for file in soft.folder.iterdir():
        file.unlink()  # nothing is read again
    assert data[(1, 0)]["label"].max() > 0.5


def test_an_image_without_any_mask_is_refused_by_name(items, soft):
    with pytest.raises(RuntimeError, match=r"has no map of .*synthetic_0004"):
        ViewDataset(without_labels(items), loading_chain(32), moving(), progress=False, soft_masks=soft)


def test_an_augmentation_that_would_leave_soft_masks_behind_is_refused(items, soft):
    for wrong, message in (
        (RandViewd(["image", "label"]), "RandViewd changes the image and not the soft mask"),
        (RandFlipd(["image", "label"]), "RandFlipd changes the image and not the soft mask"),
        (NormalizeImaged("image"), "never uses the soft masks"),
    ):
        with pytest.raises(ValueError, match=message):
            ViewDataset(items, loading_chain(32), wrong, progress=False, soft_masks=soft)
