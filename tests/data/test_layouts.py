"""Published data sets in their own folders, in small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from monai_difom.data import (
    ViewDataset,
    class_names,
    evaluation_chain,
    loading_chain,
    prepare_layout,
    test_sets,
    train_validation,
)
from tests import layouts


def lists(folder: Path, layout: str, **options: Any) -> tuple[list, list, list]:
    prepared = prepare_layout(layout, folder, folder.parent / f"prepared_{layout}", **options)
    train, validation = train_validation(prepared, 0.3)
    return train, validation, test_sets(prepared).get("test", [])


def shapes(items: list) -> set:
    return {tuple(evaluation_chain(32)(item)["label"].shape) for item in items}


@pytest.mark.parametrize(("picture", "mask"), [("tif", "gif"), ("png", "png")])
def test_drive_keeps_its_split_and_blackens_what_is_outside_the_field(
    tmp_path: Path, picture: str, mask: str
) -> None:
    layouts.make_drive(tmp_path / "DRIVE", picture, mask)
    train, validation, test = lists(tmp_path / "DRIVE", "drive")
    assert [Path(item["image"]).stem for item in test] == ["01", "02"]
    assert sorted(Path(i["image"]).stem for i in train + validation) == ["21", "22", "23", "24"]
    item = loading_chain(48)(train[0])
    assert set(item["label"].unique().tolist()) == {0, 1}
    pixels = np.asarray(Image.open(train[0]["image"]))
    assert pixels[0, 0].max() == 0
    assert pixels[24, 24].min() > 0
    assert shapes(test) == {(1, 50, 48)}


def test_ph2_is_read_from_a_folder_a_case(tmp_path: Path) -> None:
    layouts.make_ph2(tmp_path / "PH2Dataset")
    train, validation, test = lists(tmp_path / "PH2Dataset", "ph2")
    assert len(train + validation) == 8
    assert len(test) == 2
    assert not {i["image"] for i in train + validation} & {i["image"] for i in test}
    assert shapes(test) == {(1, 40, 50)}


def test_the_test_set_does_not_depend_on_the_seed_of_a_training(tmp_path: Path) -> None:
    layouts.make_ph2(tmp_path / "PH2Dataset")
    one, two = (prepare_layout("ph2", tmp_path / "PH2Dataset", tmp_path / name) for name in "ab")
    assert test_sets(one) == test_sets(two)
    assert train_validation(one, 0.3, seed=1) != train_validation(one, 0.3, seed=2)


def test_autooral_pairs_images_and_masks_of_each_part(tmp_path: Path) -> None:
    layouts.make_autooral(tmp_path / "data")
    train, validation, test = lists(tmp_path / "data", "autooral")
    assert (len(train + validation), len(test)) == (5, 2)
    assert shapes(train) == {(1, 40, 40)}


@pytest.mark.parametrize("polygons", [False, True])
def test_kidneyus_capsule_leaves_out_images_without_a_mask(tmp_path: Path, polygons: bool) -> None:
    layouts.make_kidneyus(tmp_path / "kidneyUS", polygons)
    train, validation, test = lists(tmp_path / "kidneyUS", "kidneyus", target_mask="capsule")
    names = sorted(Path(i["image"]).stem for i in train + validation + test)
    assert len(names) == 7
    assert "9_IM-0009-0001_anon" not in names
    groups = [{i["group"] for i in part} for part in (train, validation, test)]
    assert not groups[0] & groups[1]
    assert not (groups[0] | groups[1]) & groups[2]
    mask = evaluation_chain(32)(train[0])["label"]
    assert 0.1 < float((mask > 0).float().mean()) < 0.6


@pytest.mark.parametrize("polygons", [False, True])
def test_kidneyus_regions_are_three_classes(tmp_path: Path, polygons: bool) -> None:
    layouts.make_kidneyus(tmp_path / "kidneyUS", polygons)
    train, _, _ = lists(tmp_path / "kidneyUS", "kidneyus", target_mask="regions")
    assert class_names(tmp_path / "prepared_kidneyus") == ["central_echo_complex", "medulla", "cortex"]
    label = loading_chain(64, classes=3)(train[0])["label"]
    assert label.shape == (3, 64, 64)
    assert (label.flatten(1).sum(1) > 0).all()
    assert int(label.sum(0).max()) == 1
    two = loading_chain(64, classes=2)
    with pytest.raises(RuntimeError, match=r"anon\.png: the mask holds class 3, but 2 classes are expected"):
        ViewDataset(train[:1], two, progress=False)


def test_chaos_ct_is_windowed_and_split_by_patient(tmp_path: Path) -> None:
    make_chaos(tmp_path / "CHAOS")
    train, validation, test = lists(tmp_path / "CHAOS", "chaos", modality="CT")
    items = train + validation + test
    assert len(items) == 6  # two of three slices show the liver
    assert len({i["group"] for i in items}) == 3
    pixels = np.asarray(Image.open(items[0]["image"]))
    assert pixels[0, 0] == 0  # air
    assert pixels[20, 20] == round(255 * (60 + 160) / 400)
    assert shapes(items) == {(1, 32, 32)}


def test_chaos_mr_gives_one_organ_or_all(tmp_path: Path) -> None:
    make_chaos(tmp_path / "CHAOS")
    one = prepare_layout(
        "chaos",
        tmp_path / "CHAOS",
        tmp_path / "spleen",
        modality="MR",
        organ="spleen",
        sequences=["T1OUT", "T2SPIR"],
    )
    content = json.loads((Path(one) / "datalist.json").read_text())
    assert "structures" not in content
    first = content["training"][0]
    assert set(np.unique(Image.open(first["label"]))) == {0, 255}
    every = prepare_layout("chaos", tmp_path / "CHAOS", tmp_path / "all", modality="MR", organ="all")
    assert class_names(every) == ["liver", "right_kidney", "left_kidney", "spleen"]
    label = json.loads((Path(every) / "datalist.json").read_text())["training"][0]["label"]
    assert set(np.unique(Image.open(label))) == {0, 1, 2, 3, 4}


def test_chaos_is_read_from_nifti_too(tmp_path: Path) -> None:
    base = tmp_path / "CHAOS" / "MR"
    for number in range(3):
        for part, suffix in (("imagesTr", "_0000"), ("labelsTr", "")):
            (base / part).mkdir(parents=True, exist_ok=True)
            volume = np.zeros((20, 30, 4), np.int16)
            volume[4:8, 10:20, 1:3] = 100 if part == "imagesTr" else 1
            nibabel.save(
                nibabel.Nifti1Image(volume, np.eye(4)), base / part / f"case_{number}{suffix}.nii.gz"
            )
    train, validation, test = lists(tmp_path / "CHAOS", "chaos", modality="MR")
    items = train + validation + test
    assert len(items) == 6
    pixels, mask = (np.asarray(Image.open(items[0][key])) for key in ("image", "label"))
    assert pixels.shape == (30, 20)
    assert (pixels[10:20, 12:16] == 255).all()  # hung: the patient's right on the left
    assert np.array_equal(mask > 0, pixels > 0)


def test_what_does_not_look_like_the_data_set_shows_what_would(tmp_path: Path) -> None:
    (tmp_path / "empty" / "stuff").mkdir(parents=True)
    for layout in ("drive", "ph2", "autooral", "kidneyus", "chaos"):
        with pytest.raises(ValueError, match=r"stuff|Unpack CHAOS"):
            prepare_layout(layout, tmp_path / "empty", tmp_path / layout)
    with pytest.raises(ValueError, match=r"unknown data layout 'drvie'\. Did you mean 'drive'"):
        prepare_layout("drvie", tmp_path / "empty", tmp_path / "x")
    with pytest.raises(FileNotFoundError, match="there is no data set"):
        prepare_layout("drive", tmp_path / "absent", tmp_path / "x")


def test_prepared_lists_are_used_again_and_not_mixed_up(tmp_path: Path) -> None:
    layouts.make_ph2(tmp_path / "PH2Dataset")
    prepare_layout("ph2", tmp_path / "PH2Dataset", tmp_path / "lists")
    before = (tmp_path / "lists" / "datalist.json").stat().st_mtime_ns
    prepare_layout("ph2", tmp_path / "PH2Dataset", tmp_path / "lists")
    assert (tmp_path / "lists" / "datalist.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"holds other data.*Give another prepared_dir"):
        prepare_layout("ph2", tmp_path / "PH2Dataset", tmp_path / "lists", 0.5)


def test_broken_data_is_named(tmp_path: Path) -> None:
    make_chaos(tmp_path / "CHAOS")
    next((tmp_path / "CHAOS/Train_Sets/CT/2/Ground").glob("*.png")).unlink()
    with pytest.raises(ValueError, match="3 DICOM files and 2 masks in Ground"):
        prepare_layout("chaos", tmp_path / "CHAOS", tmp_path / "a", modality="CT")
    layouts.make_ph2(tmp_path / "PH2Dataset")
    next((tmp_path / "PH2Dataset/PH2 Dataset images/IMD003/IMD003_lesion").glob("*")).unlink()
    with pytest.raises(ValueError, match=r"9 cases are whole, 1 not \(IMD003\)"):
        prepare_layout("ph2", tmp_path / "PH2Dataset", tmp_path / "b")


@pytest.mark.real_data
def test_drive_as_it_is(shared_data: Path, tmp_path: Path) -> None:
    prepared = prepare_layout("drive", shared_data / "DRIVE", tmp_path / "lists")
    train, validation = train_validation(prepared, 0.2)
    test = test_sets(prepared)["test"]
    assert (len(train), len(validation), len(test)) == (16, 4, 20)
    item = evaluation_chain(96)(test[0])
    assert item["label"].shape == (1, 584, 565)
    assert 0.05 < float(item["label"].float().mean()) < 0.15
    corner = np.asarray(Image.open(test[0]["image"]))[:20, :20]
    assert corner.max() == 0


@pytest.mark.parametrize("group", [r"(patient\d+)_", "frames.csv:patient"])
def test_pairs_of_one_patient_are_in_one_of_training_validation_and_test(tmp_path: Path, group: str) -> None:
    rows = ["image,patient"]
    for n in range(12):
        name = f"patient{n // 3}_{n}.png"
        rows.append(f"{name},patient{n // 3}")
        for folder in ("images", "masks"):
            _png(tmp_path / "data" / folder / name, np.eye(8) * 255)
    (tmp_path / "data" / "frames.csv").write_text("\n".join(rows))
    parts = lists(tmp_path / "data", "pairs", group=group)
    patients = [{Path(item["image"]).stem.split("_")[0] for item in part} for part in parts]
    assert all(patients)
    assert sum(map(len, patients)) == 4


def _dicom(path: Path, pixels: np.ndarray, intercept: int = 0) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.Rows, file.Columns = pixels.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 0
    file.RescaleSlope, file.RescaleIntercept = 1, intercept
    file.PixelData = pixels.astype(np.uint16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(str(path), file)


def make_chaos(root: Path) -> None:
    """Three patients of three slices: CT, and MR in both sequences."""
    for patient in ("1", "2", "10"):
        ct, mr = (root / "Train_Sets" / modality / patient for modality in ("CT", "MR"))
        for z in range(3):
            body = np.zeros((32, 32))
            body[8:24, 8:24] = 1084  # 60 HU above -1024
            _dicom(ct / "DICOM_anon" / f"i{z:04d},0000b.dcm", body, -1024)
            liver = np.where(body > 0, 255 * (z > 0), 0)
            organs = np.zeros((32, 32))
            for i, value in enumerate((63, 126, 189, 252)):
                organs[4 + 6 * i : 8 + 6 * i, 6:20] = value
            _png(ct / "Ground" / f"liver_GT_{z:03d}.png", liver)
            for folder, phases in (("T2SPIR", ("",)), ("T1DUAL", ("InPhase", "OutPhase"))):
                for phase in phases:
                    _dicom(mr / folder / "DICOM_anon" / phase / f"IMG-0004-{z:05d}.dcm", organs * 3 + z)
                _png(mr / folder / "Ground" / f"IMG-0004-{z:05d}.png", organs)


def _png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
