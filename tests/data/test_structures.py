"""Masks of many structures: every way to store them gives the same channels, and what is missing stays missing."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from monai_difom.data import (
    LoadStructuresd,
    ViewDataset,
    check_structures,
    evaluation_chain,
    loading_chain,
    plain_augmentation,
    read_structures,
    structure_names,
    train_validation,
    training_augmentation,
    training_pairs,
)
from monai_difom.data import test_sets as sets_of
from monai_difom.losses import MISSING

NAMES = ["bone", "bolus", "air"]
HEIGHT, WIDTH = 10, 14  # not square, so that a swap of the axes shows


def masks(overlap: bool = False) -> np.ndarray:
    """``(3, HEIGHT, WIDTH)`` of 0 and 1, each in a corner of its own."""
    found = np.zeros((3, HEIGHT, WIDTH), dtype=np.uint8)
    found[0, :3, :4] = found[1, 6:, :5] = found[2, :4, 8:] = 1
    if overlap:
        found[1, :2, :2] = 1
    return found


def picture(folder: Path, name: str = "a") -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    Image.new("L", (WIDTH, HEIGHT), 90).save(folder / "images" / f"{name}.png")


def names_file(folder: Path) -> None:
    (folder / "structures.json").write_text(json.dumps({"structures": NAMES}))


def write_folders(folder: Path, content: np.ndarray) -> None:
    for name, mask in zip(NAMES, content, strict=True):
        (folder / "masks" / name).mkdir(parents=True)
        Image.fromarray(mask * 255).save(folder / "masks" / name / "a.png")


def write_suffixes(folder: Path, content: np.ndarray) -> None:
    (folder / "masks").mkdir()
    for name, mask in zip(NAMES, content, strict=True):
        Image.fromarray(mask * 255).save(folder / "masks" / f"a_{name}.png")


def indices(content: np.ndarray) -> np.ndarray:
    return (content * np.arange(1, 4)[:, None, None]).max(0).astype(np.uint8)


def write_indexed(folder: Path, content: np.ndarray) -> None:
    (folder / "masks").mkdir()
    Image.fromarray(indices(content)).save(folder / "masks" / "a.png")


def write_palette(folder: Path, content: np.ndarray) -> None:
    (folder / "masks").mkdir()
    image = Image.fromarray(indices(content), mode="P")
    image.putpalette([0, 0, 0, 250, 20, 20, 20, 250, 20, 200, 200, 200])
    image.save(folder / "masks" / "a.png")


def write_nifti(folder: Path, content: np.ndarray) -> None:
    (folder / "masks").mkdir()
    nibabel.Nifti1Image(indices(content).T, np.eye(4)).to_filename(folder / "masks" / "a.nii.gz")


def write_nifti_slice(folder: Path, content: np.ndarray) -> None:
    (folder / "masks").mkdir()
    nibabel.Nifti1Image(indices(content).T[..., None], np.eye(4)).to_filename(folder / "masks" / "a.nii")


def write_nifti_channels(folder: Path, content: np.ndarray) -> None:
    (folder / "masks").mkdir()
    nibabel.Nifti1Image(content.T.copy(), np.eye(4)).to_filename(folder / "masks" / "a.nii.gz")


def label(folder: Path, **changes: object) -> torch.Tensor:
    (item,) = training_pairs(folder)
    data = {**item, **changes, "image": torch.zeros(3, HEIGHT, WIDTH)}
    return LoadStructuresd(read_structures(folder))(data)["label"]


@pytest.mark.parametrize(
    "write",
    [
        write_folders,
        write_suffixes,
        write_indexed,
        write_palette,
        write_nifti,
        write_nifti_slice,
        write_nifti_channels,
    ],
)
def test_every_way_to_store_masks_gives_the_same_channels(tmp_path: Path, write: object) -> None:
    picture(tmp_path)
    names_file(tmp_path)
    write(tmp_path, masks())
    found = label(tmp_path)
    assert found.dtype == torch.uint8
    assert torch.equal(found, torch.from_numpy(masks()))


@pytest.mark.parametrize("write", [write_folders, write_suffixes, write_nifti_channels])
def test_structures_may_overlap(tmp_path: Path, write: object) -> None:
    picture(tmp_path)
    names_file(tmp_path)
    write(tmp_path, masks(overlap=True))
    assert torch.equal(label(tmp_path), torch.from_numpy(masks(overlap=True)))


def test_folders_name_the_structures_themselves(tmp_path: Path) -> None:
    picture(tmp_path)
    write_folders(tmp_path, masks())
    assert read_structures(tmp_path) == sorted(NAMES)
    with pytest.raises(ValueError, match="names no structures"):
        read_structures(tmp_path / "images")


def test_a_mask_that_is_not_there_is_missing_and_an_empty_one_is_not(tmp_path: Path) -> None:
    picture(tmp_path)
    names_file(tmp_path)
    content = masks()
    content[1] = 0
    write_folders(tmp_path, content)
    (tmp_path / "masks/air/a.png").unlink()
    found = label(tmp_path)
    assert found[0].sum() == 12
    assert not found[1].any()
    assert (found[2] == MISSING).all()


def test_an_image_without_any_mask_is_kept_for_the_teachers(tmp_path: Path) -> None:
    picture(tmp_path)
    picture(tmp_path, "b")
    names_file(tmp_path)
    write_folders(tmp_path, masks())
    items = training_pairs(tmp_path)
    assert [sorted(item["label"]) for item in items] == [sorted(NAMES), []]
    item = ViewDataset(items, loading_chain(8, structures=NAMES), plain_augmentation(), progress=False)[1]
    assert (item["label"] == MISSING).all()


def test_a_datalist_names_masks_and_what_an_indexed_one_covers(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path, name)
    write_folders(tmp_path, masks())
    Image.fromarray(indices(masks())).save(tmp_path / "masks/b.png")
    content = {
        "structures": NAMES,
        "training": [
            {"image": "images/a.png", "label": {"bone": "masks/bone/a.png", "air": None}, "group": "p1"},
            {"image": "images/b.png", "label": "masks/b.png", "annotated": ["bolus"], "group": "p1"},
            {"image": "images/c.png", "label": {}},
        ],
    }
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    assert read_structures(tmp_path) == NAMES
    items = training_pairs(tmp_path)
    assert [item["group"] for item in items] == ["p1", "p1", "images/c"]
    data = ViewDataset(items, loading_chain(8, structures=NAMES), plain_augmentation(), progress=False)
    known = [[bool((channel != MISSING).all()) for channel in data[n]["label"]] for n in range(3)]
    assert known == [[True, False, False], [False, True, False], [False, False, False]]
    batch = torch.utils.data.default_collate([data[n] for n in range(3)])
    assert batch["label"].shape == (3, 3, 8, 8)


def test_wrong_datalist_items_are_refused(tmp_path: Path) -> None:
    for item in ({"image": "a.png", "label": {"bone": 3}}, {"image": "a.png"}, {"label": {}}):
        (tmp_path / "datalist.json").write_text(json.dumps({"training": [item]}))
        with pytest.raises(ValueError, match="for many structures the label may be"):
            training_pairs(tmp_path)
    good = {"image": "a.png", "label": {"bone": "nowhere.png"}}
    (tmp_path / "datalist.json").write_text(json.dumps({"training": [good]}))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        training_pairs(tmp_path)


def test_views_and_resizing_leave_nothing_half_missing(tmp_path: Path) -> None:
    picture(tmp_path)
    names_file(tmp_path)
    write_folders(tmp_path, masks())
    (tmp_path / "masks/air/a.png").unlink()
    data = ViewDataset(
        training_pairs(tmp_path), loading_chain(24, structures=NAMES), training_augmentation(), progress=False
    )
    for epoch in range(4):
        found = data[(epoch, 0)]["label"]
        assert set(found[:2].unique().tolist()) == {0.0, 1.0}
        assert (found[2] == MISSING).all()
    whole = evaluation_chain(24, structures=NAMES)(training_pairs(tmp_path)[0])
    assert whole["label"].shape == (3, HEIGHT, WIDTH)
    assert whole["image"].shape == (3, 24, 24)


def test_what_does_not_fit_is_refused_and_named(tmp_path: Path) -> None:
    picture(tmp_path)
    names_file(tmp_path)
    write_folders(tmp_path, masks())
    (tmp_path / "masks/bonny").mkdir()
    with pytest.raises(ValueError, match="Did you mean 'bone'"):
        training_pairs(tmp_path)
    (tmp_path / "masks/bonny").rmdir()
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "masks/bone/b.png")
    with pytest.raises(ValueError, match=r"belong to no image or structure: bone/b\.png"):
        training_pairs(tmp_path)
    (tmp_path / "masks/bone/b.png").unlink()
    Image.new("L", (5, 5)).save(tmp_path / "masks/bone/a.png")
    with pytest.raises(ValueError, match=r"bone.a\.png is 5x5 but its image is 10x14"):
        label(tmp_path)
    with pytest.raises(ValueError, match=r"1 problem\(s\) in 1 images(.|\n)*is 5x5 but its image"):
        check_structures(training_pairs(tmp_path), NAMES, progress=False)


def test_an_index_without_a_structure_is_refused(tmp_path: Path) -> None:
    picture(tmp_path)
    (tmp_path / "structures.json").write_text(json.dumps(NAMES[:2]))
    write_indexed(tmp_path, masks())
    with pytest.raises(ValueError, match="holds the value 3, but there are 2 structures: 1 is 'bone'"):
        label(tmp_path)
    with pytest.raises(ValueError, match="Did you mean 'bone'"):
        LoadStructuresd(NAMES)(
            {
                "image": torch.zeros(3, HEIGHT, WIDTH),
                "label": str(tmp_path / "masks/a.png"),
                "annotated": ["bona"],
            }
        )


def test_a_structure_that_nobody_annotated_is_reported(tmp_path: Path) -> None:
    picture(tmp_path)
    names_file(tmp_path)
    write_folders(tmp_path, masks())
    check_structures(training_pairs(tmp_path), NAMES, progress=False)
    (tmp_path / "masks/air/a.png").unlink()
    with pytest.raises(ValueError, match="structure 'air' is annotated in no image"):
        check_structures(training_pairs(tmp_path), NAMES, progress=False)


def test_test_sets_know_the_structures_of_their_data_set(tmp_path: Path) -> None:
    names_file(tmp_path)
    for place in ("TrainDataset", "TestDataset/one"):
        picture(tmp_path / place)
        write_suffixes(tmp_path / place, masks())
    assert sorted(sets_of(tmp_path)["one"][0]["label"]) == sorted(NAMES)


@pytest.mark.parametrize("group", [r"(p\d+)_", "frames.csv:patient"])
def test_a_split_keeps_a_patient_together(tmp_path: Path, group: str) -> None:
    (tmp_path / "masks/bone").mkdir(parents=True)
    rows = ["image,patient"]
    for patient in range(4):
        for frame in range(3):
            picture(tmp_path, f"p{patient}_f{frame}")
            rows.append(f"p{patient}_f{frame}.png,p{patient}")
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "masks/bone/p0_f0.png")
    (tmp_path / "frames.csv").write_text("\n".join(rows))
    train, validation = train_validation(tmp_path, 0.25, group=group)
    assert {item["group"] for item in train} | {item["group"] for item in validation} == {
        "p0",
        "p1",
        "p2",
        "p3",
    }
    assert len(validation) == 3
    assert len({item["group"] for item in validation}) == 1


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("(q\\d+)", "fits no part of the path of 2 image"),
        ("(", "is no regular expression"),
        ("frames.csv:person", "has no column 'person'; it has image, patient"),
        ("frames.csv:patient", "no row with a 'patient' of 1 image"),
        ("nothing.csv:patient", "no table"),
    ],
)
def test_groups_that_cannot_be_found_are_refused(tmp_path: Path, group: str, message: str) -> None:
    write_folders(tmp_path, masks())
    picture(tmp_path)
    picture(tmp_path, "b")
    (tmp_path / "frames.csv").write_text("image,patient\na,p1\n")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train_validation(tmp_path, 0.5, group=group)


def test_plain_masks_are_one_structure_and_named_ones_keep_their_names(tmp_path: Path) -> None:
    assert structure_names(tmp_path) == ["foreground"]
    names_file(tmp_path)
    assert structure_names(tmp_path) == NAMES


def test_one_structure_takes_any_binary_mask_and_an_item_without_label_is_annotated_nowhere(
    tmp_path: Path,
) -> None:
    picture(tmp_path)
    image = tmp_path / "images" / "a.png"
    mask = masks()[0]
    Image.fromarray(mask * 200 + 5 * (1 - mask)).save(tmp_path / "grey.png")
    Image.fromarray(mask * 255).save(tmp_path / "mask.png")
    item = {"image": str(image), "label": str(tmp_path / "mask.png")}
    found = loading_chain((HEIGHT, WIDTH), structures=["polyp"])(item)["label"]
    assert np.array_equal(found, mask[None])
    grey = {"image": str(image), "label": str(tmp_path / "grey.png")}
    assert np.array_equal(loading_chain((HEIGHT, WIDTH), 128, ["polyp"])(grey)["label"], mask[None])
    with pytest.raises(Exception, match="not binary") as caught:
        LoadStructuresd(["polyp"])({**grey, "image": torch.zeros(3, HEIGHT, WIDTH)})
    assert "grey.png" in str(caught.value)
    nothing = loading_chain((HEIGHT, WIDTH), structures=["polyp"])({"image": str(image)})["label"]
    assert nothing.shape == (1, HEIGHT, WIDTH)
    assert (nothing == MISSING).all()


def test_test_images_are_grouped_like_training_images(tmp_path: Path) -> None:
    for part in ("TrainDataset", "TestDataset/a"):
        for name in ("p1_0", "p1_1", "p2_0"):
            picture(tmp_path / part, name)
            for structure in NAMES:
                folder = tmp_path / part / "masks" / structure
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(masks()[0]).save(folder / f"{name}.png")
    assert [item["group"] for item in sets_of(tmp_path, r"(p\d)_")["a"]] == ["p1", "p1", "p2"]
