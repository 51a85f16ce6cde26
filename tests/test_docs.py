"""What the pages of docs/ show, done as they show it: their files written, their commands run, at a small size."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
import yaml
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser, scripts
from safetensors.torch import save_file

from monai_difom.__main__ import VERBS, main
from monai_difom.apps.bundle.options import option_values
from monai_difom.apps.train import command
from monai_difom.apps.train.plan import make_plan
from monai_difom.apps.train.request import Request
from monai_difom.data import make_polyps
from monai_difom.engines import Plan
from monai_difom.losses import MISSING, AnnotatedLoss
from tests.bundles.commands import first_cause, same_scores
from tests.test_readme import ROOT, blocks, page_commands

# what makes a run of the polyp bundle a matter of a second or two
SMALL: dict[str, Any] = {
    "image_size": 32,
    "batch_size": 2,
    "epochs": [1, 0, 1],
    "limit": 4,
    "progress": False,
    "report": False,
    "device": "cpu",
}
WRITTEN = ("commands", "configurations")  # pages of the reference that are of no module


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv2_100", pretrained=False, features_only=True)
    file = tmp_path_factory.mktemp("weights") / "mobilenetv2_100.safetensors"
    save_file(network.state_dict(), str(file))
    return file


@pytest.fixture
def folder(tmp_path: Path, mobilenet: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a person works in: the project's bundles and overlays, polyps, a teacher's weights."""
    for name in ("bundles", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    make_polyps(tmp_path / "data" / "polyp", train=8, test=2, size=48)
    for name in (mobilenet.name, "mobilenetv2_100_same_imagenet.safetensors"):
        (tmp_path / name).symlink_to(mobilenet)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def write_files(page: str, folder: Path) -> dict[str, str]:
    """Write the blocks of a page that begin with the name of a file, and return name -> text."""
    found = {}
    for language in ("python", "yaml"):
        for text in blocks(ROOT / "docs" / page, language):
            name = re.match(r"# (\w+\.(?:py|yaml))\n", text)
            if name is not None:
                found[name[1]] = text
                (folder / name[1]).write_text(text)
    return found


def run(words: list[str], **changes: Any) -> None:
    """Run a command of a page in this process: ``python -m monai.bundle ...`` or ``python -m monai_difom ...``.

    Args:
        words: the command.
        **changes: options in place of those of the page; for a bundle's training also what `SMALL` says.
    """
    if words[2] == "monai_difom":
        assert main(words[3:]) == 0
        return
    options = {name: DefaultParseValue(value) for name, value in option_values(words[4:]).items()}
    if words[3] == "ckpt_export":
        scripts.ckpt_export(words[4], **options)
    else:
        run_id = "run" if words[4].startswith("--") else words[4]
        small = SMALL if run_id == "training" else {"device": "cpu"}
        scripts.run(run_id, **{**options, **small, **changes})


def train(page: str, folder: Path, **changes: Any) -> list[Path]:
    """Run every training that a page shows, but what needs a shell, and return the folders of the runs."""
    write_files(page, folder)
    outputs = []
    for words in page_commands(ROOT / "docs" / page):
        if words[4:5] == ["training"] and not any("$(" in word for word in words):
            run(words, **changes)
            outputs.append(folder / option_values(words)["output_dir"])
            assert (outputs[-1] / "models" / "model.pt").is_file()
    return outputs


def summary(output: Path) -> dict[str, Any]:
    return json.loads((output / "summary.json").read_text())


def test_losses_of_ones_own_are_those_that_train(folder: Path) -> None:
    (output,) = train("own_loss.md", folder)
    config = yaml.safe_load((output / "config.yaml").read_text())
    assert config["segmentation_loss"]["_target_"] == "my_losses.BorderDice"
    assert config["terms"][1]["loss"]["_target_"] == "my_losses.AttentionTransfer"
    terms = summary(output)["phases"][0]["terms"]
    assert 0 < terms["segmentation"] < 1
    assert 0 < terms["stride8"] < 2  # squared distance of two unit vectors without negative entries
    wrapped = "{_target_: monai_difom.losses.AnnotatedLoss, loss: {_target_: my_losses.BorderDice}}"
    assert wrapped in (ROOT / "docs" / "own_loss.md").read_text()
    loss = AnnotatedLoss(sys.modules["my_losses"].BorderDice())
    label = torch.zeros(2, 2, 16, 16)
    label[0, 1] = MISSING
    assert 0 <= float(loss(torch.zeros(2, 2, 16, 16), label)) <= 1


def test_teachers_of_ones_own_teach(folder: Path) -> None:
    write_files("own_teacher.md", folder)
    from my_networks import BigNetwork

    torch.manual_seed(0)
    torch.save(BigNetwork(64).state_dict(), "big_network.pt")
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=224)
    torch.save(vit.state_dict(), "endoscopy_vit.pt")
    big, tokens = (summary(output) for output in train("own_teacher.md", folder))
    assert big["teachers"]["big"]["licence"] == "CC-BY-4.0"
    assert list(tokens["teachers"]) == ["endoscopy"]
    for found in (big, tokens):
        assert all(term["target_variance"] > 0 for term in found["collapse"].values())


def test_a_student_of_ones_own_is_trained_scored_and_written_as_torchscript(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    train("own_student.md", folder)
    for words in page_commands(ROOT / "docs" / "own_student.md"):
        if words[4:5] != ["training"]:
            run(words)
    shown = capsys.readouterr().out
    assert re.search(r"deep .*128", shown)
    output = Path("runs/my_student")
    scores = json.loads((output / "evaluation" / "evaluation.json").read_text())["test_sets"]
    assert scores["synthetic"] == same_scores(summary(output)["test_sets"]["synthetic"])
    assert torch.jit.load(str(output / "model.ts"))(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 32, 32)
    assert Path("deployed/my_student/models/model.onnx").is_file()
    words = ["export", "--bundle", str(output), "--output", "refused", "--format", "torchscript"]
    assert main(words) == 2
    assert "--trust my_network" in capsys.readouterr().err


def test_data_of_ones_own_are_read_as_the_page_says(folder: Path) -> None:
    (text,) = blocks(ROOT / "docs" / "own_data.md", "json")
    listed = json.loads(text)
    # the two commands are of two data sets: two folders with names and patients, and a list
    pictures = sorted((folder / "data" / "polyp" / "TrainDataset" / "image").iterdir())
    for n, image in enumerate(pictures):
        mask = image.parents[1] / "mask" / image.name
        place(image, folder / f"data/mine/photos/patient{n // 2}_{n}.png")
        place(mask, folder / f"data/mine/annotations/patient{n // 2}_{n}_mask.png")
    every = (*listed["training"], *listed["test"])
    for item, image in zip(every, pictures[: len(every)], strict=True):
        place(image, folder / "data/split" / item["image"].replace(".jpg", ".png"))
        place(image.parents[1] / "mask" / image.name, folder / "data/split" / item["label"])
    (folder / "data/split/datalist.json").write_text(text.replace("1.jpg", "1.png").replace(".jpg", ".png"))
    mine, split = train("own_data.md", folder, val_fraction=0.3)
    prepared = json.loads((mine / "data" / "datalist.json").read_text())
    patients = [{item["group"] for item in prepared[part]} for part in ("training", "test")]
    assert not patients[0] & patients[1]
    assert {"patient0", "patient1", "patient2", "patient3"} == patients[0] | patients[1]
    assert summary(split)["test_sets"]["test"]["n"] == 1


def place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)


def test_the_loop_with_a_person_in_it_adapts_labels_trains_and_asks(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    make_polyps(folder / "drawn", train=5, test=0, size=48, seed=9)
    (folder / "drawn/TrainDataset/image").rename(folder / "data/unlabelled")
    adapt, label, training, export, serve = page_commands(ROOT / "docs" / "autolabel.md")[:5]
    run(adapt, image_size=32, teacher_size=32, adapt_epochs=1, batch_size=2, progress=False)
    run(label)
    soft = Path("runs/round1/soft")
    asked = (soft / "label_next.csv").read_text().splitlines()
    assert len(asked) == 6
    for column in re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "autolabel.md").read_text(), re.M):
        assert column in asked[0].split(",")
    assert 0 < len(list((soft / "next").iterdir())) <= 5
    assert (soft / "autolabel.html").is_file()
    run(training)
    assert json.loads(Path("runs/student1/run.json").read_text())["train_images"] == SMALL["limit"] + 5
    run(export)
    assert serve[3] == "label"
    assert Path(option_values(serve[4:])["model"]) == Path("exported/student1")
    assert "soft masks of 5 images by 3 teacher(s)" in capsys.readouterr().out


def test_the_recipe_of_the_page_adapts_labels_and_trains_on_images_without_masks(folder: Path) -> None:
    page = ROOT / "docs" / "recipes.md"
    training = page_commands(page)[0]
    run(training, teacher_size=32, adapt_epochs=1, limit=2, epochs=[0, 1, 0])
    summary = json.loads(Path("runs/soft/summary.json").read_text())
    assert (summary["recipe"], summary["labelled"], summary["unlabelled"]) == ("soft_masks", 2, 5)
    options = yaml.safe_load(Path("bundles/polyp_difom/configs/train.yaml").read_text())
    for row in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", page.read_text(), re.M):
        assert set(re.findall(r"`(\w+)`", row)) <= set(options)


def test_the_second_round_of_the_page_is_two_trainings_of_which_the_first_teaches_the_second(
    folder: Path, mobilenet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planned as the page says; that a finished run teaches is shown by the tests of `train`."""
    make_polyps(folder / "data/mine", train=6, test=2, size=32)
    make_polyps(folder / "drawn", train=5, test=0, size=32, seed=9)
    (folder / "drawn/TrainDataset/image").rename(folder / "data/unlabelled")
    (folder / "efficientnet_lite2.safetensors").symlink_to(mobilenet)
    (folder / "runs/large/bundle/configs").mkdir(parents=True)
    (folder / "runs/large/bundle/configs/metadata.json").write_text("{}")
    plans = []

    def planned(request: Request, *_: Any) -> SimpleNamespace:
        plans.append(make_plan(request))
        return SimpleNamespace(show=lambda: None)

    monkeypatch.setattr(command, "_train", planned)
    for words in page_commands(ROOT / "docs" / "recipes.md")[1:]:
        run(words)
    large, small = plans
    assert ConfigParser(small.config).get_parsed_content("label_teachers") == [str(large.folder)]
    assert {plan.config["recipe"] for plan in plans} == {"soft_masks"}


def test_a_run_is_resumed_by_the_command_of_the_page(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = (words for words in page_commands(ROOT / "docs" / "resume.md")[:2])
    assert option_values(second[4:]) == {
        **option_values(first[4:]),
        "resume": "runs/unet/models/last.pt",
    }
    run(first)
    before = Path("runs/unet/models/last.pt").stat().st_mtime_ns
    run(second)
    assert (
        Path("runs/unet/models/last.pt").stat().st_mtime_ns == before
    )  # it was finished: nothing is trained
    with pytest.raises(RuntimeError, match="Failed to evaluate") as refused:
        run(second, epochs=[1, 0, 2])
    assert "belongs to another run: its plan is" in first_cause(refused.value)


def test_the_phases_of_the_page_on_concepts_are_a_plan() -> None:
    (text,) = blocks(ROOT / "docs" / "concepts.md", "yaml")
    parser = ConfigParser(yaml.safe_load(text))
    plan = Plan(parser.get_parsed_content("phases"))
    assert [phase.name for phase in plan.phases] == ["align", "refine"]
    assert plan.phases[1].weight("stride8", 0.5) == 0.25
    plan.check_terms(["bottleneck", "stride8"])


def test_the_way_of_the_first_page_leads_to_a_report_and_to_masks(
    folder: Path, mobilenet: Path, capsys: pytest.CaptureFixture
) -> None:
    page = ROOT / "docs" / "get_started.md"
    draw, moves = next(text for text in blocks(page, "") if text.startswith("python -c ")).split("\n", 1)
    exec(shlex.split(draw)[2].replace("train=60", "train=10"), {})
    subprocess.run(["bash", "-euc", moves], check=True)
    small = {key: value for key, value in SMALL.items() if key != "report"}
    # the machine of the tests has no network: the weights are in a file, as the page says
    values = [
        f"{key}={json.dumps(value)}" for key, value in {**small, "teacher_weights": str(mobilenet)}.items()
    ]
    for words in page_commands(page):
        if words[3] == "train" and "--control" in words:
            assert main([*words[3:], "--set", *values]) == 0
        if words[3] == "doctor":
            assert main(words[3:]) in (0, 1)  # 1: there is something to do
        if words[3] in ("compare", "predict", "export"):
            run(words)
    shown = capsys.readouterr().out
    assert "runs/distilled/control" in shown
    assert "gain over the control" in shown
    assert Path("runs/distilled/report.html").stat().st_size > 10_000
    assert len(list(Path("runs/found/masks").iterdir())) == 10
    assert Path("exported/mine/models/model.ts").is_file()


def test_the_html_has_no_broken_link_and_every_public_name(tmp_path: Path) -> None:
    build = pytest.importorskip("sphinx.cmd.build")
    pytest.importorskip("myst_parser")
    pytest.importorskip("furo")
    strict = ["-W", "--keep-going"]
    assert build.build_main([*strict, "-q", "-c", str(ROOT / "docs"), str(ROOT), str(tmp_path)]) == 0
    for page in sorted((ROOT / "docs" / "reference").glob("*.rst")):
        html = (tmp_path / "docs" / "reference" / f"{page.stem}.html").read_text()
        module = importlib.import_module(f"monai_difom.{page.stem}") if page.stem not in WRITTEN else None
        for name in getattr(module, "__all__", ()):
            # of a constant the file that it is from is named too
            assert re.search(rf'id="monai_difom\.{page.stem}\.(\w+\.)*{name}"|class="pre">{name}<', html), (
                name
            )
    for verb in VERBS:
        assert f"python -m monai_difom {verb}" in (tmp_path / "docs/reference/commands.html").read_text()
    index = (tmp_path / "docs" / "index.html").read_text()
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert pages - set(re.findall(r'href="(\w+)\.html"', index)) == {"index"}  # the map names every page
