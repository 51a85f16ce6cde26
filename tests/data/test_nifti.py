"""NIfTI volumes: lists, grids, and slices that are upright whatever the orientation of the file."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_difom.data import check_pairs, prepare_layout, train_validation, volume_slices, voxel_size
from monai_difom.data import test_sets as sets_of
from monai_difom.data.nifti import volume_sets
from monai_difom.data.volume_grids import grid_distance
from monai_difom.transforms import PictureReader
from tests.volumes import AFFINES, make_volume, make_volumes


def test_volumes_in_the_folders_of_the_decathlon_and_nnu_net_are_paired(tmp_path: Path) -> None:
    for part, number in (("Tr", 4), ("Ts", 2)):
        for n in range(number):
            make_volume(tmp_path / "raw", f"{part}{n}", np.eye(4), (4, 5, 6))
            for kind, name in (("images", f"{part}{n}_0000.nii.gz"), ("masks", f"{part}{n}.nii.gz")):
                folder = tmp_path / "data" / f"{'labels' if kind == 'masks' else kind}{part}"
                folder.mkdir(parents=True, exist_ok=True)
                (tmp_path / "raw" / kind / f"{part}{n}.nii.gz").rename(folder / name)
    train, validation, tests = volume_sets(tmp_path / "data", val_fraction=0.25)
    assert [len(train), len(validation), len(tests["test"])] == [3, 1, 2]
    assert {item["group"] for item in [*train, *validation]} == {f"Tr{n}" for n in range(4)}


def test_no_volume_is_in_two_sets_where_the_data_set_has_no_test_set(tmp_path: Path) -> None:
    make_volumes(tmp_path, 6)
    train, validation, tests = volume_sets(tmp_path, 0.3, 0.25, seed=5)
    names = [item["image"] for item in [*train, *validation, *tests["test"]]]
    assert len(set(names)) == len(names) == 6
    assert volume_sets(tmp_path, 0.3, 0.25, seed=6)[2] == tests  # the same test set for every seed


def test_a_volume_without_mask_is_named(tmp_path: Path) -> None:
    make_volumes(tmp_path, 3)
    (tmp_path / "masks" / "case_1.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"1 without mask in .*case_1\.nii\.gz"):
        train_validation(tmp_path)


def test_a_datalist_of_volumes_groups_them_by_name_and_takes_a_spacing(tmp_path: Path) -> None:
    make_volume(tmp_path, "a", np.eye(4))
    item = {"image": "images/a.nii.gz", "label": "masks/a.nii.gz", "spacing": [1, 2.5]}
    (tmp_path / "datalist.json").write_text(json.dumps({"training": [item], "test": [item]}))
    (found,) = sets_of(tmp_path)["test"]
    assert found["group"] == "images/a"
    assert found["spacing"] == [1.0, 2.5]
    (tmp_path / "datalist.json").write_text(json.dumps({"test": [{**item, "spacing": [0, 1]}]}))
    with pytest.raises(ValueError, match=r"the spacing of item 0 is \[0, 1\]"):
        sets_of(tmp_path)


def test_check_pairs_reads_volumes_and_reports_all_that_is_wrong(tmp_path: Path) -> None:
    make_volumes(tmp_path, 3)
    items = [item for part in train_validation(tmp_path, 0.4) for item in part]
    check_pairs(items, progress=False)
    moved = nibabel.load(tmp_path / "masks" / "case_0.nii.gz")
    shifted = nibabel.Nifti1Image(np.asarray(moved.dataobj), moved.affine + 3 * np.eye(4, k=3))
    nibabel.save(shifted, tmp_path / "masks" / "case_0.nii.gz")
    broken = tmp_path / "images" / "case_2.nii.gz"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(
        ValueError, match=r"(?s)2 problem.*3\.00 mm apart.*case_2\.nii\.gz: cannot be read"
    ) as caught:
        check_pairs(sorted(items, key=lambda item: item["image"]), progress=False)
    assert "case_1" not in str(caught.value)


def test_the_distance_of_two_grids_is_that_of_their_farthest_corners() -> None:
    turned = np.eye(4)
    turned[:2, :2] = [[0, -1], [1, 0]]
    assert grid_distance(np.eye(4), np.eye(4), (3, 4, 5)) == 0
    assert grid_distance(np.eye(4), turned, (3, 3, 5)) == pytest.approx(6)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "SRA", "PIR"])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_slices_are_hung_alike_whatever_the_orientation_of_the_file(
    codes: str, plane: str, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).integers(0, 200, (4, 5, 6)).astype(np.int16)
    plain = nibabel.Nifti1Image(values, np.diag([1.0, 2.0, 3.0, 1.0]))
    start, end = (nibabel.orientations.axcodes2ornt(c) for c in ("RAS", codes))
    turned = plain.as_reoriented(nibabel.orientations.ornt_transform(start, end))
    assert "".join(nibabel.aff2axcodes(turned.affine)) == codes
    nibabel.save(turned, tmp_path / "turned.nii.gz")
    slices, spacing = volume_slices(tmp_path / "turned.nii.gz", plane)
    # RAS: the first axis runs to the right, the second to the front, the third up
    expected = {
        "axial": (values[::-1, ::-1].transpose(2, 1, 0), (2, 1)),
        "coronal": (values[::-1, :, ::-1].transpose(1, 2, 0), (3, 1)),
        "sagittal": (values[:, ::-1, ::-1].transpose(0, 2, 1), (3, 2)),
    }[plane]
    np.testing.assert_array_equal(slices, expected[0])
    assert spacing == pytest.approx(expected[1])


def test_the_layout_of_slices_keeps_volumes_together_and_knows_the_size_of_a_pixel(tmp_path: Path) -> None:
    make_volumes(tmp_path / "data", 5)
    prepared = prepare_layout("nifti_slices", tmp_path / "data", tmp_path / "out", 0.4, window=[-100, 200])
    train, validation = train_validation(prepared, 0.3)
    tests = sets_of(prepared)["test"]
    groups = [{item["group"] for item in items} for items in (train, validation, tests)]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 5
    assert all(len(item["spacing"]) == 2 for item in [*train, *tests])
    for item in train[:3]:
        image, mask = (np.asarray(Image.open(item[key])).astype(int) for key in ("image", "label"))
        assert set(np.unique(mask)) == {0, 255}
        assert image[mask == 255].mean() > image[mask == 0].mean() + 80
        assert PictureReader("gray").get_data(item["label"])[0].ndim == 2


def test_masks_without_the_wanted_values_are_refused(tmp_path: Path) -> None:
    make_volumes(tmp_path / "data", 2)
    with pytest.raises(ValueError, match=r"no slice shows the values \[7\]"):
        prepare_layout("nifti_slices", tmp_path / "data", tmp_path / "out", foreground=[7])


@pytest.mark.parametrize("kind", AFFINES)
def test_the_size_of_a_voxel_follows_the_axes_of_the_array(kind: str, tmp_path: Path) -> None:
    from monai.transforms import LoadImage

    make_volume(tmp_path, "a", AFFINES[kind])
    file = tmp_path / "images" / "a.nii.gz"
    loaded = LoadImage(image_only=True, ensure_channel_first=True, reader="NibabelReader")(file)
    assert voxel_size(loaded) == pytest.approx(nibabel.load(file).header.get_zooms(), abs=1e-4)


def test_masks_with_a_suffix_are_paired_and_a_lonely_image_is_named(tmp_path: Path) -> None:
    for part, suffix in (("photos", ""), ("drawn", "_mask")):
        (tmp_path / part).mkdir()
        for n in range(5):
            Image.new("L", (8, 8)).save(tmp_path / part / f"case {n}{suffix}.png")
    given = {"images": "photos", "masks": "drawn", "mask_suffix": "_mask"}
    train, _ = train_validation(prepare_layout("pairs", tmp_path, tmp_path / "out", **given), 0.25)
    assert all(Path(i["label"]).stem == f"{Path(i['image']).stem}_mask" for i in train)
    (tmp_path / "drawn" / "case 2_mask.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 5 images have no mask \(case 2\.png\)"):
        prepare_layout("pairs", tmp_path, tmp_path / "again", **given)
