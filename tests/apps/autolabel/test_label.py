"""Soft masks are the mean of all that may speak, at the image's size, once, and in the same way after a kill."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from monai_difom.__main__ import main
from monai_difom.apps import label_images
from monai_difom.apps.autolabel.adapted import read_adapted
from monai_difom.apps.autolabel.ranking import copy_next, mark_alike, spread
from monai_difom.apps.autolabel.teachers import MaskTeacher, open_teachers
from monai_difom.data import SoftMaskError, SoftMasks, SoftMaskWriter, train_validation
from monai_difom.transforms import apply_view, invert_view

from .tiny import DEFINITION, adaptation

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images that nobody labelled, of different sizes."""
    folder = tmp_path_factory.mktemp("unlabelled")
    rng = np.random.default_rng(1)
    for n in range(5):
        small = Image.fromarray(rng.integers(0, 255, (4, 5, 3), dtype=np.uint8))
        small.resize((40 + 3 * n, 30 + n), Image.Resampling.BICUBIC).save(folder / f"{n}.png")
    return folder


def label(teachers: list[Path], images: Any, out: Path, **options: Any) -> dict[str, Any]:
    return label_images(teachers, images, out, progress=False, **options)


@pytest.fixture(scope="session")
def labelled(adapted: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("labelled")
    label([adapted], pictures, out, dtype="float16")
    return out


def test_a_soft_mask_is_the_mean_over_members_and_views_at_the_images_own_size(
    adapted: Path, pictures: Path, labelled: Path
) -> None:
    teacher = read_adapted(adapted)
    path = pictures / "3.png"
    picture = np.asarray(Image.open(path).convert("RGB"))
    image = torch.from_numpy(teacher.facts.prepare(picture))
    said = []
    with torch.no_grad():
        for member in teacher.members:
            network = teacher.network(member)
            for view in range(8):
                found = torch.sigmoid(network(apply_view(image, view).contiguous()))
                said.append(invert_view(found, view))
    expected = F.interpolate(torch.stack(said).mean(0), picture.shape[:2], mode="bilinear")[0]
    masks = SoftMasks(labelled)
    torch.testing.assert_close(masks.read(path, picture.shape[:2]), expected, atol=2e-3, rtol=0)
    entry = masks.entry(path)
    assert entry["teachers"] == list(masks.teachers)
    assert len(entry["teachers"]) == 2
    assert not entry["learned"]
    assert 0 <= entry["certainty"] <= 1
    assert entry["disagreement"] > 0


def test_an_image_is_labelled_by_those_that_have_not_learned_its_mask(
    adapted: Path, polyps: Path, tmp_path: Path
) -> None:
    train, validation = train_validation(polyps, 0.25)
    found = label([adapted], [*train, *validation], tmp_path, views=1)
    assert found["learned"] == 0
    masks, teacher = SoftMasks(tmp_path), read_adapted(adapted)
    for item in train:
        (spoke,) = masks.entry(item["image"])["teachers"]
        member = next(m for m in teacher.members if spoke.endswith(m.name))
        assert masks.key(item["image"]) not in member.trained_on
    assert all(len(masks.entry(item["image"])["teachers"]) == 2 for item in validation)


def test_where_all_teachers_have_learned_an_image_it_is_said_and_comes_last(
    adapted: Path, polyps: Path, pictures: Path, tmp_path: Path
) -> None:
    one = tmp_path / "one"
    shutil.copytree(adapted, one)
    teacher = read_adapted(one)
    member = teacher.members[0]
    text = (one / "teacher.json").read_text().replace(teacher.members[1].trained_on[0], member.trained_on[0])
    (one / "teacher.json").write_text(text)
    learned = train_validation(polyps, 0.25)[0]
    keys = [k for k in member.trained_on if k in read_adapted(one).members[1].trained_on]
    images = [*(i["image"] for i in learned), *map(str, sorted(pictures.iterdir()))]
    found = label([one], images, tmp_path / "out", views=1, shown=0)
    assert found["learned"] == len(keys) >= 1
    rows = list(csv.DictReader((tmp_path / "out" / "label_next.csv").open()))
    assert [row["learned"] for row in rows] == ["0"] * (len(rows) - len(keys)) + ["1"] * len(keys)


def test_the_table_and_the_page_begin_with_what_is_least_certain(labelled: Path, pictures: Path) -> None:
    rows = list(csv.DictReader((labelled / "label_next.csv").open()))
    assert {Path(row["image"]).name for row in rows} == {f"{n}.png" for n in range(5)}
    uncertain = [float(row["uncertainty"]) for row in rows]
    assert uncertain == sorted(uncertain, reverse=True)
    page = (labelled / "autolabel.html").read_text()
    assert page.count("data:image/jpeg") == 10
    assert "http" not in page


def test_images_that_look_like_one_above_them_come_later() -> None:
    rng = np.random.default_rng(0)
    scene, other = (rng.integers(60, 190, 64, dtype=np.uint8) for _ in range(2))
    looks = [scene, scene + 3, other, 255 - scene]
    rows = [{"image": f"{n}.png", "look": look.tobytes().hex(), "like": ""} for n, look in enumerate(looks)]
    mark_alike(rows)
    assert [row["like"] for row in rows] == ["", "0.png", "", ""]


def test_the_images_to_label_next_are_copied_for_an_annotation_tool(
    labelled: Path, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "again").mkdir()
    shutil.copy(pictures / "0.png", tmp_path / "again" / "1.png")
    rows = [
        {"image": str(pictures / "1.png"), "learned": 0, "like": ""},
        {"image": str(pictures / "2.png"), "learned": 0, "like": "1.png"},
        {"image": str(tmp_path / "again" / "1.png"), "learned": 0, "like": ""},
        {"image": str(pictures / "3.png"), "learned": 1, "like": ""},
    ]
    copies = copy_next(rows, tmp_path / "next", 3)
    assert sorted(file.read_bytes() for file in copies) == sorted(
        Path(rows[n]["image"]).read_bytes() for n in (0, 2)
    )
    copies[0].write_bytes(b"touched")
    assert copy_next(rows, tmp_path / "next", 3) == copies
    assert copies[0].read_bytes() == b"touched"


def test_what_to_label_next_is_of_every_certainty() -> None:
    rows = [{"image": str(n), "learned": int(n >= 100), "like": "x" if n == 10 else ""} for n in range(120)]
    assert [row["image"] for row in spread(rows, 4)] == ["13", "38", "62", "87"]
    assert len({row["image"] for row in spread(rows, 98)}) == 98
    assert [row["image"] for row in spread(rows, 1000)] == [str(n) for n in range(100) if n != 10]
    assert spread([], 3) == []


def test_several_structures_have_a_channel_each(polyps: Path, pictures: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for kind, names in (("images", ("",)), ("masks", ("polyp", "all"))):
        for name in names:
            (data / kind / name).mkdir(parents=True)
    for path in sorted((polyps / "TrainDataset" / "image").iterdir()):
        shutil.copy(path, data / "images")
        shutil.copy(polyps / "TrainDataset" / "mask" / path.name, data / "masks" / "polyp")
        Image.new("L", Image.open(path).size, 255).save(data / "masks" / "all" / path.name)
    names = ["polyp", "all"]
    definition = {**DEFINITION, "out_channels": 2}
    settings = {"epochs": 10, "batch_size": 3, "learning_rate": 0.05, "val_interval": 10}
    given = {"structures": names, "definition": definition, "settings": settings, "test_sets": {}}
    adaptation(data, tmp_path / "adapt", **given).run()
    label([tmp_path / "adapt"], pictures, tmp_path / "out")
    masks = SoftMasks(tmp_path / "out")
    masks.check(map(str, pictures.iterdir()), names)
    polyp, everything = masks.read(pictures / "1.png", (31, 43))
    assert everything.mean() > polyp.mean()
    with pytest.raises(ValueError, match="structure"):
        open_teachers([tmp_path / "adapt", tmp_path / "adapt"], ["one"])


def test_a_killed_call_goes_on_where_it_was(
    adapted: Path, pictures: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = SoftMaskWriter.write
    done: list[str] = []

    def killed(self: SoftMaskWriter, key: str, name: str, *more: Any) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        written(self, key, name, *more)
        done.append(name)

    with monkeypatch.context() as patch:
        patch.setattr(SoftMaskWriter, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            label([adapted], pictures, tmp_path, dtype="float16")
    found = label([adapted], pictures, tmp_path, dtype="float16")
    assert (found["written"], found["images"]) == (3, 5)
    expected, masks = SoftMasks(labelled), SoftMasks(tmp_path)
    assert expected.entries == masks.entries
    assert masks.verify() == {}
    assert label([adapted], pictures, tmp_path, dtype="float16")["written"] == 0


def test_soft_masks_of_a_changed_teacher_or_of_other_views_are_not_mixed(
    adapted: Path, pictures: Path, labelled: Path, tmp_path: Path
) -> None:
    with pytest.raises(SoftMaskError, match="views"):
        label([adapted], pictures, labelled, dtype="float16", views=4)
    changed = tmp_path / adapted.name
    shutil.copytree(adapted, changed)
    text = (changed / "teacher.json").read_text()
    (changed / "teacher.json").write_text(text.replace(read_adapted(adapted).members[0].digest, "0" * 64))
    with pytest.raises(SoftMaskError, match=r"teachers\..*seed0_fold0"):
        label([changed], pictures, labelled, dtype="float16")


def test_a_finished_run_and_maps_of_any_program_label_together(
    finished: Path, pictures: Path, tmp_path: Path
) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    for path in pictures.iterdir():
        size = Image.open(path).size
        Image.linear_gradient("L").resize(size).save(maps / f"{path.stem}.png")
    label([finished], pictures, tmp_path / "run", views=2)
    label([finished, maps], pictures, tmp_path / "both", views=2)
    label([tmp_path / "run", maps], pictures, tmp_path / "again")
    run, both, again = (SoftMasks(tmp_path / name) for name in ("run", "both", "again"))
    path = pictures / "2.png"
    gradient = torch.from_numpy(np.asarray(Image.open(maps / "2.png"))) / 255
    torch.testing.assert_close(both.read(path)[0], (run.read(path)[0] + gradient) / 2, atol=5e-3, rtol=0)
    torch.testing.assert_close(again.read(path), both.read(path), atol=5e-3, rtol=0)
    assert both.entry(path)["disagreement"] > 0.1
    with pytest.raises(ValueError, match="cannot be the output too"):
        label([tmp_path / "run"], pictures, tmp_path / "run")
    (maps / "4.png").unlink()
    with pytest.raises(SoftMaskError, match="no map of"):
        label([maps], pictures, tmp_path / "lacking")


@pytest.mark.xdist_group("exported")
def test_exported_files_say_what_the_run_says(
    finished: Path, exported: Path, pictures: Path, tmp_path: Path
) -> None:
    path = pictures / "1.png"
    label([finished], pictures, tmp_path / "run")
    expected = SoftMasks(tmp_path / "run").read(path)
    for file in ("model.onnx", "model.ts"):
        label([exported / "models" / file], pictures, tmp_path / file)
        found = SoftMasks(tmp_path / file).read(path)
        torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)


def test_what_is_no_teacher_is_refused_with_what_is(
    finished: Path, adapted: Path, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").write_text("no maps")
    for given, kind, message in (
        ([], ValueError, "no teacher was given"),
        ([tmp_path / "nowhere"], FileNotFoundError, "no teacher at"),
        ([tmp_path / "empty"], ValueError, "is empty"),
        ([tmp_path / "text"], ValueError, "holds no maps.*adapt folder"),
    ):
        with pytest.raises(kind, match=f"(?s){message}"):
            open_teachers(given)
    with pytest.raises(ValueError, match="has 1 structure"):
        open_teachers([adapted], ["left", "right"])
    with pytest.raises(ValueError, match="views is 9"):
        label([adapted], pictures, tmp_path / "out", views=9)
    twice = [teacher.name for teacher in open_teachers([finished, finished])]
    assert len(set(twice)) == 2


def test_a_teacher_that_has_learned_nothing_is_found_out(
    adapted: Path, pictures: Path, tmp_path: Path
) -> None:
    same = tmp_path / "same"
    same.mkdir()
    for path in pictures.iterdir():
        Image.new("L", Image.open(path).size, 0).save(same / path.name)
    with pytest.raises(SoftMaskError, match="constant"):
        label([same], pictures, tmp_path / "out")


def test_the_command_says_what_it_did_and_leaves_out_what_cannot_be_read(
    adapted: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    images = tmp_path / "images"
    shutil.copytree(pictures, images)
    (images / "broken.png").write_bytes(b"no picture")
    words = [
        "autolabel",
        "--teacher",
        str(adapted),
        "--images",
        str(images),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main([*words, "--device", "cpu"]) == 2
    assert "--skip-bad" in capsys.readouterr().err
    assert main([*words, "--device", "cpu", "--skip-bad"]) == 0
    said = capsys.readouterr().out
    assert "soft masks of 5 images by 2 teacher(s)" in said
    assert "1 skipped" in said


@pytest.mark.processes
def test_two_processes_share_the_images_and_leave_what_one_leaves(
    adapted: Path, pictures: Path, labelled: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29653"]
    words += ["-m", "monai_difom", "autolabel", "--teacher", str(adapted), "--images", str(pictures)]
    words += ["--output", str(tmp_path), "--dtype", "float16", "--device", "cpu"]
    done = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("soft masks of 5 images") == 1
    assert SoftMasks(tmp_path).entries == SoftMasks(labelled).entries


def test_a_teacher_of_an_oblong_input_sees_the_views_that_keep_its_shape(
    polyps: Path, pictures: Path, tmp_path: Path
) -> None:
    adaptation(polyps, tmp_path / "oblong", image_size=[32, 48], test_sets={}).run()
    label([tmp_path / "oblong"], pictures, tmp_path / "out")
    assert len(SoftMasks(tmp_path / "out").entries) == 5
    with pytest.raises(ValueError, match="views 0 to 3"):
        label([tmp_path / "oblong"], pictures, tmp_path / "other", views=[4, 5])


def test_teachers_count_alike_however_large_their_grids() -> None:
    from monai_difom.apps.autolabel.label import _mean

    said = {"small": torch.full((8, 1, 4, 4), 0.3), "large": torch.full((4, 1, 16, 16), 0.6)}
    found = _mean(said, {"maps": torch.full((1, 10, 12), 0.9)}, (10, 12))
    torch.testing.assert_close(found, torch.full((1, 10, 12), 0.6))
    assert MaskTeacher("name", "signature", ("a",)).trained_on == frozenset()
