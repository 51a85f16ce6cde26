"""The benchmark of the gain asks the bundle for what it has, keeps patients apart, and does each thing after what it needs."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from monai.bundle import ConfigParser
from PIL import Image

from monai_difom.data import clinicdb_sequence

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def gain() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("gain", ROOT / "benchmarks" / "gain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gain"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def centres(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Kvasir and a few frames of each sequence of a small ClinicDB, in PraNet's folders."""
    folder = tmp_path_factory.mktemp("centres")
    noise = np.random.default_rng(0)
    frames = [1, 40, 55, 70, 100, 120, 140, 170, 200, 204, 220, 240, 260, 290]
    parts = {
        ("TrainDataset", "image", "mask"): [f"k{n}" for n in range(220)] + [str(n) for n in frames[:-2]],
        ("TestDataset/Kvasir", "images", "masks"): ["t1", "t2"],
        ("TestDataset/CVC-ClinicDB", "images", "masks"): [str(n) for n in frames[-2:]],
    }
    for (place, images, masks), names in parts.items():
        for kind in (images, masks):
            (folder / place / kind).mkdir(parents=True)
        for name in names:
            Image.fromarray(noise.integers(0, 255, (12, 16, 3), np.uint8)).save(
                folder / place / images / f"{name}.png"
            )
            Image.fromarray(np.eye(12, 16, dtype=np.uint8) * 255).save(folder / place / masks / f"{name}.png")
    return folder


def test_every_training_is_a_command_of_options_that_the_bundle_knows(
    gain: ModuleType, tmp_path: Path
) -> None:
    bench = gain.Bench(tmp_path / "data", tmp_path / "weights", tmp_path / "runs")
    for job in gain.queue(None, None):
        if job.arm.startswith("masks/"):
            assert gain.label_command(job, bench, tmp_path, tmp_path)[3] == "autolabel"
            continue
        words = gain.command(job, bench)
        found = {words[i][2:]: words[i + 1] for i in range(5, len(words), 2)}
        files = ast.literal_eval(found.pop("config_file"))
        parser = ConfigParser()
        parser.read_config([str(ROOT / file) for file in files])
        assert {name.partition("#")[0] for name in found} <= set(parser.get()), job


def test_a_job_comes_after_what_it_needs(gain: ModuleType) -> None:
    jobs = gain.queue(None, None)
    for place, job in enumerate(jobs):
        assert set(gain.needs(job)) <= set(jobs[:place])


def test_no_patient_and_no_image_is_on_two_sides(gain: ModuleType, centres: Path, tmp_path: Path) -> None:
    for name, protocol in gain.PROTOCOLS.items():
        folder = gain.lay_out(centres, tmp_path / name, protocol)
        lists = json.loads((folder / "datalist.json").read_text())
        without = {file.resolve().name for file in (folder / "unlabelled").iterdir()}
        own = [Path(item["image"]).name for key in ("training", "validation") for item in lists[key]]
        tested = [Path(item["image"]) for items in lists["test"].values() for item in items]
        assert len(set(own)) == len(own)
        assert not set(own) & without
        assert not {file.name for file in tested} & (without | set(own))
        assert set(lists["test"]) == set(protocol.tests)
        sequences = {clinicdb_sequence(int(Path(file).stem)) for file in without if Path(file).stem.isdigit()}
        frames = {clinicdb_sequence(int(file.stem)) for file in tested if file.stem.isdigit()}
        assert not sequences & frames
        assert bool(sequences) == protocol.centre


def test_masks_of_other_images_are_of_others_and_of_the_right_size(
    gain: ModuleType, centres: Path, tmp_path: Path
) -> None:
    folder = gain.lay_out(centres, tmp_path / "few", gain.PROTOCOLS["few"])
    names = {file.stem for file in (folder / "unlabelled").iterdir()}
    for kind in ("truth", "shuffled"):
        assert {file.stem for file in (folder / kind).iterdir()} == names


def test_workers_that_begin_at_once_lay_out_a_protocol_once(
    gain: ModuleType, centres: Path, tmp_path: Path
) -> None:
    few = gain.PROTOCOLS["few"]
    with ThreadPoolExecutor(4) as workers:
        done = [workers.submit(gain.lay_out, centres, tmp_path / "few", few) for _ in range(4)]
        assert {future.result() for future in done} == {tmp_path / "few"}


def test_a_mark_of_a_worker_that_is_gone_is_no_claim(gain: ModuleType, tmp_path: Path) -> None:
    assert gain.claim(tmp_path)
    assert not gain.claim(tmp_path)
    (tmp_path / "worker").write_text("999999999")
    assert gain.claim(tmp_path)


def test_the_tables_of_the_pages_are_those_of_the_results(gain: ModuleType) -> None:
    import gain_results

    file = ROOT / "benchmarks" / "gain.json"
    if not file.is_file():
        pytest.skip("nothing is measured yet")
    results = json.loads(file.read_text())
    assert gain_results.readme_table(results) in (ROOT / "README.md").read_text(encoding="utf-8")
    page = (ROOT / "benchmarks" / "gain.md").read_text(encoding="utf-8")
    assert gain_results.tables(results) in page
    students = gain_results.of_students(results)
    assert students == json.loads(gain_results.STUDENTS.read_text())
    assert gain_results.students_table(students) in page


def test_the_table_of_the_images_without_masks_is_that_of_its_results(gain: ModuleType) -> None:
    import gain_fit

    results = json.loads(gain_fit.RESULTS.read_text())
    assert gain_fit.table(results) in gain_fit.PAGE.read_text(encoding="utf-8")
    alone, soft = (results["few"]["ClinicDB"][arm] for arm in ("alone", "soft masks"))
    said = f"{np.mean(alone['dice']):.3f} to {np.mean(soft['dice']):.3f}, {soft['gain']:+.3f}, "
    said += f"interval {soft['low']:+.3f} to {soft['high']:+.3f}"
    assert said in (ROOT / "README.md").read_text(encoding="utf-8")


def test_an_arm_is_compared_with_alone_on_the_same_images(gain: ModuleType) -> None:
    import gain_fit

    said = gain_fit.Said(groups=["a", "a", "b"])
    for truth in (0.5, 0.6, 0.7):
        said.note(gain_fit.TEACHER, 0, truth + 0.3, 1.0)
        said.note(gain_fit.ALONE, 0, truth, 0.4)
        said.note("soft masks", 0, truth + 0.1, 0.8)
    rows = said.rows()
    assert rows["soft masks"]["gain"] == pytest.approx(0.1)
    assert rows["soft masks"]["against_the_teacher"] == [0.8]
    assert "gain" not in rows[gain_fit.ALONE]
    both = np.zeros((4, 4), bool), np.eye(4, dtype=bool)
    assert (gain_fit.dice(both[0], both[0]), gain_fit.dice(*both), gain_fit.dice(both[1], both[1])) == (
        1,
        0,
        1,
    )


def test_the_results_are_those_of_the_scores_that_are_kept(gain: ModuleType, tmp_path: Path) -> None:
    import gain_results

    file = ROOT / "benchmarks" / "gain.json"
    if not file.is_file():
        pytest.skip("nothing is measured yet")
    bench = gain.Bench(tmp_path, tmp_path, tmp_path)
    assert json.loads(json.dumps(gain_results.collect(bench))) == json.loads(file.read_text())


def test_what_is_kept_is_not_trained_again_but_its_needs_are_where_they_are_used(
    gain: ModuleType, tmp_path: Path
) -> None:
    scores = tmp_path / "scores"
    bench = gain.Bench(tmp_path, tmp_path, tmp_path / "runs", scores)
    (scores / gain.Job("few", "soft masks").name).mkdir(parents=True)
    (scores / gain.Job("few", "teacher/efficientnet_lite2").name).mkdir(parents=True)
    names = [job.name for job in gain.queue(["few:alone", "few:soft masks"], [0], bench)]
    assert names == [gain.Job("few", "alone").name]
    names = [job.name for job in gain.queue(["few:soft masks"], [1], bench)]
    assert gain.Job("few", "teacher/efficientnet_lite2").name in names


def test_two_taught_arms_are_compared_on_the_seeds_that_both_have(gain: ModuleType, tmp_path: Path) -> None:
    import gain_results

    def scores(arm: str, seed: int, dice: float) -> None:
        for name in ("Kvasir", "ClinicDB-9"):
            table = tmp_path / gain.Job("few", arm, seed).name / "last" / "few" / f"{name}.csv"
            table.parent.mkdir(parents=True, exist_ok=True)
            table.write_text("image,group,dice\n" + "".join(f"{i},{i},{dice}\n" for i in range(4)))

    for seed, more in ((0, 0.1), (1, 0.2), (2, 0.9)):
        scores("soft masks", seed, 0.5)
        if seed < 2:
            scores("student ensemble", seed, 0.5 - more)
    bench = gain.Bench(tmp_path, tmp_path, tmp_path, tmp_path)
    text = gain_results.difference(bench, "few:soft masks", "few:student ensemble")
    assert "seeds 0, 1\nKvasir, last weights: +0.150 (" in text
    with pytest.raises(SystemExit, match="no seed in common"):
        gain_results.difference(bench, "few:soft masks", "few:features")
