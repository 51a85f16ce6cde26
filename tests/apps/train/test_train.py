"""One line trains: it finds the images, writes what it does, and says nothing that is not true of the run."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from monai.bundle import ConfigParser
from PIL import Image

import monai_difom
from monai_difom.__main__ import main
from monai_difom.apps.bundle.shipped import overlays
from monai_difom.apps.train.command import how_on, parse_settings
from monai_difom.apps.train.layout import find_layout
from monai_difom.apps.train.plan import control_of, make_plan
from monai_difom.apps.train.request import Request
from monai_difom.apps.train.teachers import find_teachers
from monai_difom.data import make_polyps
from monai_difom.utils import save_state
from monai_difom.zoo import ZOO

SMALL = {
    "image_size": 32,
    "batch_size": 4,
    "network_def#features": [4, 4, 8, 8, 8],
    "train#trainer#max_epochs": 1,
    "report": False,
    "progress": False,
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve grey pictures of bright discs with masks, under folder names of their own."""
    folder = tmp_path_factory.mktemp("data") / "cells"
    rows, columns = np.mgrid[:40, :48]
    for number in range(12):
        disc = (rows - 12 - number) ** 2 + (columns - 20) ** 2 < 90
        for name, array in (("photos", 60 + 120 * disc), ("annotations", 255 * disc)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            suffix = "_mask" if name == "annotations" else ""
            Image.fromarray(array.astype(np.uint8)).save(folder / name / f"{number}{suffix}.png")
    return folder


def request(cells: Path, tmp_path: Path, **more: object) -> Request:
    names = {"images": "photos", "masks": "annotations", "suffix": "_mask"}
    return Request(cells, **{**names, "settings": SMALL, "output": tmp_path / "run", **more})  # type: ignore[arg-type]


def test_a_folder_of_pairs_is_trained_scored_and_described_without_a_word_of_other_tasks(
    cells: Path, tmp_path: Path
) -> None:
    asked = request(cells, tmp_path, structure="nucleus", modality="microscopy")
    run = monai_difom.train(
        cells, images="photos", masks="annotations", suffix="_mask", structure="nucleus", modality="microscopy",
        output=asked.output, settings=SMALL,
    )  # fmt: skip
    assert set(run.scores) == {"test"}
    assert next(run.model.parameters()).ndim == 4
    assert "nucleus" in (run.bundle / "configs" / "metadata.json").read_text()
    # seen by one look at every text that the run left
    texts = [
        file
        for file in run.folder.rglob("*")
        if file.suffix in (".json", ".yaml", ".md", ".html", ".csv", ".conf")
    ]
    assert len(texts) > 10
    assert not [file for file in texts if re.search("polyp|colonosc", file.read_text(), re.IGNORECASE)]


def test_the_printed_command_names_one_configuration_that_holds_all_that_was_asked(
    cells: Path, tmp_path: Path
) -> None:
    plan = make_plan(request(cells, tmp_path, student="unetpp"))
    plan.write()
    words = shlex.split(plan.command())
    assert words[:5] == ["python", "-m", "monai.bundle", "run", "training"]
    written = yaml.safe_load(Path(words[words.index("--config_file") + 1]).read_text())
    assert written == plan.config
    assert written["network_def"]["_target_"].endswith("DifomUNetPlusPlus")
    assert written["image_size"] == 32
    assert written["train"]["trainer"]["max_epochs"] == 1
    assert written["dataset_dir"] == str(cells.resolve())


def test_the_control_differs_in_teachers_and_folders_alone(cells: Path, tmp_path: Path) -> None:
    plan = make_plan(request(cells, tmp_path, teachers=("imagenet_hub",)))
    twin = control_of(plan)
    changed = {key for key in plan.config if plan.config[key] != twin.config.get(key)}
    assert changed - {"recipe"} == {
        "teachers",
        "terms",
        "phases",
        "output_dir",
        "ckpt_dir",
        "bundle_root",
        "prepared_dir",
    }
    assert not twin.config["teachers"]
    assert all(set(phase["weights"]) == {"segmentation"} for phase in twin.config["phases"])
    assert [phase["epochs"] for phase in twin.config["phases"]] == [
        p["epochs"] for p in plan.config["phases"]
    ]


def test_the_control_of_soft_masks_has_the_steps_of_the_run_and_neither_teacher_nor_soft_masks(
    tmp_path: Path,
) -> None:
    make_polyps(tmp_path / "with", train=10, test=2, size=32)
    make_polyps(tmp_path / "others", train=9, test=2, size=32, seed=1)
    extra = tmp_path / "others/TrainDataset/image"
    plan = make_plan(
        Request(
            tmp_path / "with",
            teachers=("efficientnet_lite2",),
            recipe="soft_masks",
            unlabelled=extra,
            output=tmp_path / "run",
            settings={"batch_size": 4},
        )
    )
    run, twin = (ConfigParser(config.config) for config in (plan, control_of(plan)))
    for parser in (run, twin):
        parser.parse()
    steps = (9 + 9) // 4  # one of ten is for validation
    assert twin.get_parsed_content("epoch_steps") == steps
    assert len(twin.get_parsed_content("unlabelled_data")) == 0
    assert twin.get_parsed_content("stages") == ["student"]
    assert twin.get_parsed_content("soft_masks_of") is None
    assert len(run.get_parsed_content("unlabelled_data")) == 9


@pytest.mark.parametrize(
    ("teacher", "extra", "recipe", "found"),
    [
        ("efficientnet_lite2", True, None, "soft_masks"),
        ("efficientnet_lite2", True, "features", "features"),
        ("efficientnet_lite2", False, None, "features"),
        ("imagenet_hub", True, None, "features"),  # it is not adapted to a task
    ],
)
def test_images_without_masks_and_a_teacher_that_can_be_adapted_make_the_recipe(
    teacher: str, extra: bool, recipe: str | None, found: str, tmp_path: Path
) -> None:
    make_polyps(tmp_path / "with", train=10, test=2, size=32)
    folder = tmp_path / "with/TestDataset/synthetic/images"
    plan = make_plan(
        Request(
            tmp_path / "with",
            teachers=(teacher,),
            recipe=recipe,
            unlabelled=folder if extra else None,
            output=tmp_path / "run",
        )
    )
    assert plan.config["recipe"] == found
    assert ("images without masks" in plan.notes[1]) == (found == "soft_masks")


def test_test_sets_that_are_there_are_kept_and_others_are_split_off_and_said(tmp_path: Path) -> None:
    make_polyps(tmp_path / "with", train=6, test=3, size=32)
    kept = make_plan(Request(tmp_path / "with", output=tmp_path / "a"))
    assert "synthetic 3" in kept.notes[0]
    assert "prepared" not in kept.config
    (tmp_path / "without").mkdir()
    for name, source in (("images", "image"), ("masks", "mask")):
        (tmp_path / "without" / name).symlink_to(tmp_path / "with/TrainDataset" / source)
    split = make_plan(Request(tmp_path / "without", output=tmp_path / "b"))
    assert "20 %" in split.notes[0]
    assert "prepared" in split.config


def test_a_limit_is_said_where_the_images_are_counted(tmp_path: Path) -> None:
    make_polyps(tmp_path / "data", train=6, test=2, size=32)
    asked = Request(tmp_path / "data", settings={"limit": 2})
    assert "2 of 6 images with their masks to train on" in find_layout(asked).note
    assert "6 images to train on" in find_layout(Request(tmp_path / "data", settings={"limit": 9})).note


def test_a_quick_trial_is_quick_on_a_large_data_set_too(tmp_path: Path) -> None:
    """It takes 64 images and says so; a number that is asked for goes before that."""
    make_polyps(tmp_path / "data", train=70, test=2, size=32)
    asked = Request(tmp_path / "data", quick=True, output=tmp_path / "run")
    assert "64 of 70 images with their masks" in find_layout(asked).note
    assert make_plan(asked).config["limit"] == 64
    more = Request(tmp_path / "data", quick=True, output=tmp_path / "run", settings={"limit": 66})
    assert "66 of 70" in find_layout(more).note
    assert make_plan(more).config["limit"] == 66


def test_after_a_failure_only_what_was_reached_is_offered_to_go_on_from(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = make_plan(request(cells, tmp_path))
    assert "the same command again" in how_on(plan)
    assert "--resume" not in how_on(plan)
    save_state(tmp_path / "run" / "models" / "last.pt", {"epoch": 1})
    assert how_on(plan).endswith("monai-difom train --resume run")
    # the run itself is finished when its control fails, and both are gone on with as one
    control = dataclasses.replace(plan, folder=plan.folder / "control")
    assert how_on(control).endswith("monai-difom train --resume run")


def test_every_overlay_and_every_hub_model_is_a_teacher_by_name() -> None:
    for name in overlays("teachers"):
        assert find_teachers([name]).overlays
    for entry in ZOO:
        if entry.on_hub:
            definition = next(iter(find_teachers([entry.name]).teachers.values()))
            assert hasattr(monai_difom.networks.teachers, definition["_target_"].rpartition(".")[2])
    with pytest.raises(ValueError, match="dinov2-base"):
        find_teachers(["dinov2-bas"])


def test_a_folder_with_the_name_of_a_teacher_is_not_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "efficientnet_lite2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "label_teachers" not in find_teachers(["efficientnet_lite2"]).options


def test_a_weight_file_of_unknown_content_asks_for_its_contract(tmp_path: Path) -> None:
    (tmp_path / "some.safetensors").write_bytes(b"0" * 100)
    with pytest.raises(ValueError, match="not known by its content"):
        find_teachers([str(tmp_path / "some.safetensors")])


@pytest.mark.real_data
def test_known_weight_files_get_their_own_contract(shared_data: Path) -> None:
    for file in sorted((shared_data.parent / "weights").glob("*.safetensors")):
        found = find_teachers([str(file)])
        assert found.options["teacher_weights"] == str(file)
        text = overlays("teachers")[found.overlays[0].partition("/")[2]].read_text()
        assert len(yaml.safe_load(text)["teachers"]["imagenet"]["mean"]) == 3


def test_a_finished_run_teaches_by_the_masks_it_gives_to_images_without_any(
    cells: Path, tmp_path: Path
) -> None:
    """The recipe of soft masks, with nothing adapted."""
    names = {"images": "photos", "masks": "annotations", "suffix": "_mask", "settings": SMALL}
    large = monai_difom.train(cells, output=tmp_path / "large", **names)
    make_polyps(tmp_path / "others", train=9, test=2, size=32)
    extra = tmp_path / "others/TrainDataset/image"
    small = monai_difom.train(
        cells, teacher=tmp_path / "large", unlabelled=extra, output=tmp_path / "small", **names
    )
    summary = json.loads((small.folder / "summary.json").read_text())
    assert summary["recipe"] == "soft_masks"
    assert summary["unlabelled"]
    assert not (small.folder / "adapt").exists()
    assert small.scores.keys() == large.scores.keys()


def test_a_finished_run_cannot_teach_where_there_is_nothing_to_label(cells: Path, tmp_path: Path) -> None:
    (tmp_path / "large/bundle/configs").mkdir(parents=True)
    (tmp_path / "large/bundle/configs/metadata.json").write_text("{}")
    taught = [str(tmp_path / "large")]
    with pytest.raises(ValueError, match="--unlabelled DIR"):
        make_plan(request(cells, tmp_path, teachers=taught))
    with pytest.raises(ValueError, match="Name teachers of one kind"):
        make_plan(request(cells, tmp_path, teachers=[*taught, "imagenet_hub"], unlabelled=cells))
    with pytest.raises(ValueError, match="neither a finished run, nor a bundle"):
        make_plan(request(cells, tmp_path, teachers=[str(cells)], unlabelled=cells))
    with pytest.raises(ValueError, match="the recipe features does not ask of it"):
        make_plan(request(cells, tmp_path, teachers=taught, unlabelled=cells, recipe="features"))
    plan = make_plan(request(cells, tmp_path, teachers=taught, settings={**SMALL, "limit": 4}))
    assert ConfigParser(plan.config).get_parsed_content("label_teachers") == taught


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "no data set at nowhere"),
        ([], "one of the two"),
        (["DATA", "--student", "unetp"], "unetpp"),
        (["DATA", "--bundle", "polyps"], "polyp_difom"),
        (["DATA", "--set", "image_siz=64"], "image_size"),
        (["DATA", "--set", "image_size"], "id=value"),
        (["DATA", "--teacher", "sam-vit_b"], "are not on this machine"),
        (["DATA", "--masks", "annotation"], "annotation"),
        (["--resume", "DATA"], "was not started by `train`"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    words: list[str], message: str, cells: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(cells) if word == "DATA" else word for word in words]
    if words[:1] == ["DATA"] and "--masks" not in words:
        given += ["--images", "photos", "--masks", "annotations", "--suffix", "_mask"]
    assert main(["train", *given]) in (1, 2)
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_settings_are_read_as_yaml() -> None:
    assert parse_settings(["image_size=64", "epochs=[1, 2, 3]", "amp=true", "limit=", "a#b=x=y"]) == {
        "image_size": 64,
        "epochs": [1, 2, 3],
        "amp": True,
        "limit": "",
        "a#b": "x=y",
    }
