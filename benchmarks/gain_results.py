"""Collects finished runs of `benchmarks/gain.py` into its tables: Dice, gain over the student alone, share of the gap."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from gain_arms import EPOCH_STEPS, EPOCHS, OTHERS, PLAN, Job
from gain_data import PROTOCOLS, SAME_LABELS, VALIDATION

from monai_difom.apps.runs.run import Table, merge, read_run
from monai_difom.handlers.checkpoint import kept_weights
from monai_difom.metrics import compare_paired
from monai_difom.utils import write_json

if TYPE_CHECKING:
    from gain import Bench

#: of the epoch with the best validation, and of the last step
WEIGHTS = ("best", "last")
MARKS = ("<!-- results -->", "<!-- end of results -->")
STUDENTS = Path(__file__).parent / "polyp_students.json"
STUDENTS_MARKS = ("<!-- students -->", "<!-- end of students -->")
README = Path(__file__).resolve().parents[1] / "README.md"
README_MARKS = ("<!-- gain -->", "<!-- end of gain -->")
#: protocol -> what its rows say of the labelled images, and of those without masks
LABELS = {
    "very few": ("25 of Kvasir", "other Kvasir, ClinicDB"),
    "few": ("100 of Kvasir", "other Kvasir, ClinicDB"),
    "unseen": ("100 of Kvasir", "other Kvasir"),
    "all": ("all of Kvasir", "ClinicDB"),
}
#: what a protocol says of a test set
TESTED = {
    "Kvasir": "Kvasir",
    "ClinicDB-9": "ClinicDB, other patients",
    "ClinicDB-612": "ClinicDB, a centre never used",
}


def tables_of(runs: Sequence[Path], weights: str, protocol: str, name: str) -> Table | None:
    """Return the scores of several seeds on one test set; None where there are none."""
    folders = [run / weights / protocol.replace(" ", "_") for run in runs]
    tables = [read_run(folder).tables.get(name) for folder in folders if list(folder.glob("*.csv"))]
    found = [table for table in tables if table is not None]
    return merge(found, [str(folder) for folder in folders]) if found else None


def compare(alone: Table, other: Table) -> dict[str, float]:
    """Return the gain in Dice with its interval, over whole sequences and seeds."""
    found = compare_paired(alone.columns["dice"], other.columns["dice"], alone.groups).difference
    return {"gain": found.mean, "low": found.low, "high": found.high}


def deployed(protocol: str) -> str:
    """Return which weights the recipe keeps of the students of a protocol, by the number of its validation images."""
    return kept_weights(min(PROTOCOLS[protocol].labels or VALIDATION, VALIDATION))


def entry(
    arm: Sequence[Path], alone: Sequence[Path], teachers: Sequence[Path], protocol: str, name: str
) -> dict[str, Any]:
    """Return one cell of the results: Dice by seed, gain over alone, share of the gap to the teacher.

    It is that of the weights that the recipe keeps, which ``weights`` names; that of the others stands in it under their name.
    """
    cells: dict[str, dict[str, Any]] = {}
    taught = tables_of(teachers, "best", protocol, name)
    for weights in WEIGHTS:
        scores = tables_of(arm, weights, protocol, name)
        base = tables_of(alone, weights, protocol, name)
        if scores is None:
            continue
        found: dict[str, Any] = {"dice": [round(float(x), 4) for x in scores.columns["dice"].mean(1)]}
        if base is not None and list(arm) != list(alone) and scores.images == base.images:
            found |= compare(base, scores)
            if taught is not None:
                lead = float(taught.columns["dice"].mean() - base.columns["dice"].mean())
                found |= {"teacher_lead": lead, "share_of_gap": found["gain"] / lead if lead > 0 else None}
        cells[weights] = found
    if not cells:
        return {}
    chosen = deployed(protocol) if deployed(protocol) in cells else next(iter(cells))
    others = {weights: cell for weights, cell in cells.items() if weights != chosen}
    return {"weights": chosen, **cells[chosen], **others}


def of_weights(cell: dict[str, Any], weights: str) -> dict[str, Any]:
    """Return the cell of the best or of the last weights; empty where there is none."""
    return cell if cell.get("weights") == weights else cell.get(weights, {})


def keep(bench: Bench) -> None:
    """Write the Dice of every image of what is finished into the folder of scores.

    Scores that are there stay: a teacher that another machine trained again, to go on from it, does not replace the one that the
    pages speak of.
    """
    there = {place.name for place in bench.scores.glob("*")}
    for done in sorted(bench.runs.glob("*/done.json")):
        if done.parent.name in there:
            continue
        for table in sorted(done.parent.glob("*/*/*.csv")):
            weights, protocol, name = table.relative_to(done.parent).parts
            if weights not in WEIGHTS:
                continue
            place = bench.scores / done.parent.name / weights / protocol / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with open(table, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            with open(place, "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["image", "group", "dice"])
                for row in rows:
                    image = Path(row["image"]).stem
                    writer.writerow([image, row.get("group") or image, f"{float(row['dice']):.4f}"])


def control_of(arm: str) -> str:
    """Return the arm of the same student alone, for as many steps; *alone* for twice the steps is compared with *alone*."""
    name, _, student = arm.rpartition(", ")
    own = f", {student}" if student in OTHERS else ""
    longer = ", twice the steps" if name == "soft masks, twice the steps" else ""
    return f"alone{longer}{own}"


def collect(bench: Bench) -> dict[str, Any]:
    """Return all results of what is finished."""
    results: dict[str, Any] = {"steps": EPOCH_STEPS * EPOCHS}
    for protocol, facts in PROTOCOLS.items():

        def folders(arm: str, seeds: Sequence[int] = (0, 1, 2), own: str = protocol) -> list[Path]:
            jobs = [Job(own, arm, seed) for seed in seeds]
            places = [bench.scores / job.name for job in jobs]
            return [place for place in places if place.is_dir()]

        base = SAME_LABELS.get(protocol, protocol)
        arms = {arm: folders(arm) for place, arm, _ in PLAN if place == protocol}
        arms["alone"] = folders("alone", own=base)
        for encoder in ("efficientnet_lite2", "mobilenetv2"):
            arms[f"teacher/{encoder}"] = folders(f"teacher/{encoder}", own=base)
        arms["teacher"] = folders("masks/teachers", (0,), base)
        arms["second teacher"] = folders("masks/second", (0,), base)
        for arm, runs in arms.items():
            alone = arms["alone"]
            if "teacher" not in arm:
                # same first weights and batches: with few seeds their luck would otherwise be read as the arm's gain
                seeds = [int(run.name.rpartition("_")[2]) for run in runs]
                control = control_of(arm)
                alone = folders(control, seeds, base if control == "alone" else protocol)
            taught = arms["second teacher" if arm.startswith("second round") else "teacher"]
            for name in facts.tests:
                cell = entry(runs, alone, taught, protocol, name) if runs else {}
                if cell:
                    results.setdefault(protocol, {}).setdefault(arm, {})[name] = cell
    return results


def cell_text(cell: dict[str, Any]) -> str:
    """Return a cell of the Markdown table."""
    text = f"{mean(cell['dice']):.3f}"
    if len(cell["dice"]) > 1:
        text += f" ({', '.join(f'{x:.3f}' for x in cell['dice'])})"
    if "gain" in cell:
        text += f"; {cell['gain']:+.3f} ({cell['low']:+.3f} to {cell['high']:+.3f})"
        if cell.get("share_of_gap") is not None and cell["teacher_lead"] >= 0.03:
            text += f", {cell['share_of_gap']:.0%} of the gap"
    return text


def tables(results: dict[str, Any]) -> str:
    """Return one Markdown table per protocol: Dice (by seed); gain over alone (95 % interval), share of the gap."""
    lines: list[str] = []
    for protocol in (name for name in results if name != "steps"):
        names = list(next(iter(results[protocol].values())))
        heads = [f"{name}, {weights} weights" for name in names for weights in WEIGHTS]
        lines += [
            f"### {protocol}",
            "",
            "| arm | " + " | ".join(heads) + " |",
            "|---" * (len(heads) + 1) + "|",
        ]
        for arm, cells in results[protocol].items():
            texts = []
            for name in names:
                cell = cells.get(name, {})
                parts = [of_weights(cell, weights) for weights in WEIGHTS]
                texts += [cell_text(part) if part else "" for part in parts]
            lines.append(f"| {arm} | " + " | ".join(texts) + " |")
        lines.append("")
    return "\n".join(lines)


#: arm of the README's table -> its student
SHOWN = {
    "soft masks": "U-Net, 0.4 M",
    "soft masks, unet": "U-Net, 1.6 M",
    "soft masks, light_mobilenetv3": "MobileNetV3, 1.0 M",
}


def readme_table(results: dict[str, Any]) -> str:
    """Return the short table of the README: one row per protocol, student and test set that is measured."""
    lines = [
        "| labelled | without masks | student | tested on | alone | soft masks | gain (95 % interval) | the teacher | seeds |",
        "|---" * 9 + "|",
    ]
    for protocol, (labelled, without) in LABELS.items():
        arms = results.get(protocol, {})
        for arm, student in SHOWN.items():
            for name, cell in arms.get(arm, {}).items():
                if "gain" not in cell:
                    continue
                taught = arms.get("teacher", {}).get(name)
                values = [
                    labelled,
                    without,
                    student,
                    TESTED[name],
                    f"{mean(cell['dice']) - cell['gain']:.3f}",  # of the same seeds
                    f"{mean(cell['dice']):.3f}",
                ]
                values += [f"{cell['gain']:+.3f} ({cell['low']:+.3f} to {cell['high']:+.3f})"]
                values += [f"{mean(taught['dice']):.3f}" if taught else "", str(len(cell["dice"]))]
                lines.append("| " + " | ".join(values) + " |")
    return "\n".join(lines) if len(lines) > 2 else "Nothing is measured yet."


def of_students(results: dict[str, Any], protocol: str = "few") -> dict[str, dict[str, Any]]:
    """Return the results of a protocol as test set -> ``student: arm`` -> cell, of the students that have both arms."""
    found: dict[str, dict[str, Any]] = {}
    for student, end in (("unet_small", ""), *((name, f", {name}") for name in OTHERS)):
        arms = {arm: results.get(protocol, {}).get(arm + end, {}) for arm in ("alone", "soft masks")}
        for name in (name for name in arms["soft masks"] if name in arms["alone"]):
            found.setdefault(name, {}).update(
                {f"{student}: {arm}": cells[name] for arm, cells in arms.items()}
            )
    return found


def students_table(results: dict[str, dict[str, Any]]) -> str:
    """Return one row per student: Dice alone and with soft masks, and the gain, by test set."""
    heads = [f"{name}, {text}" for name in results for text in ("alone", "soft masks", "gain")]
    lines = ["| student | " + " | ".join(heads) + " | seeds |", "|---" * (len(heads) + 2) + "|"]
    names = dict.fromkeys(name.partition(": ")[0] for cells in results.values() for name in cells)
    for student in names:
        texts, seeds = [], 0
        for cells in results.values():
            soft = cells[f"{student}: soft masks"]
            seeds = len(soft["dice"])
            gain = f"{soft['gain']:+.3f} ({soft['low']:+.3f} to {soft['high']:+.3f})"
            texts += [f"{mean(soft['dice']) - soft['gain']:.3f}", f"{mean(soft['dice']):.3f}", gain]
        lines.append(f"| {student} | " + " | ".join(texts) + f" | {seeds} |")
    return "\n".join(lines)


def put_between(file: Path, marks: tuple[str, str], text: str) -> None:
    """Replace what stands between two marks of a page."""
    before, rest = file.read_text(encoding="utf-8").split(marks[0])
    after = rest.split(marks[1])[1]
    file.write_text(f"{before}{marks[0]}\n{text}\n{marks[1]}{after}", encoding="utf-8")


def report(bench: Bench, file: Path, readme: Path = README) -> None:
    """Write ``gain.json``, the tables between the marks of ``gain.md`` beside it, and the short one of the README."""
    keep(bench)
    results = collect(bench)
    write_json(file, results)
    text = tables(results)
    put_between(file.with_suffix(".md"), MARKS, text)
    put_between(readme, README_MARKS, readme_table(results))
    students = of_students(results)
    write_json(STUDENTS, students)
    put_between(file.with_suffix(".md"), STUDENTS_MARKS, students_table(students))
    print(text)


def difference(bench: Bench, one: str, other: str) -> str:
    """Return what one arm has more than another, on the same seeds, by test set and weights; arms are ``protocol:arm``.

    Raises:
        SystemExit: an arm has no scores, or they have no seed in common.
    """
    protocols, arms = zip(*(name.split(":", 1) for name in (one, other)), strict=True)
    seeds = [
        seed
        for seed in (0, 1, 2)
        if all(
            (bench.scores / Job(*names, seed).name).is_dir() for names in zip(protocols, arms, strict=True)
        )
    ]
    if not seeds:
        raise SystemExit(f"{one} and {other} have no seed in common in {bench.scores}.")
    lines = [f"{one} less {other}, seeds {', '.join(map(str, seeds))}"]
    for name in PROTOCOLS[protocols[0]].tests:
        for weights in WEIGHTS:
            runs = [
                [bench.scores / Job(p, a, s).name for s in seeds]
                for p, a in zip(protocols, arms, strict=True)
            ]
            left, right = (tables_of(r, weights, protocols[0], name) for r in runs)
            if left is not None and right is not None:
                found = compare(right, left)
                lines.append(
                    f"{name}, {weights} weights: {found['gain']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"
                )
    return "\n".join(lines)


def score_runs(runs: Sequence[Path], dataset_dir: Path) -> None:
    """Score finished students on every test set of a folder and print one table; the last line is one JSON object."""
    found: dict[str, dict[str, float]] = {}
    for run in runs:
        bundle = run / "bundle" if (run / "bundle").is_dir() else run
        with tempfile.TemporaryDirectory() as place:
            words = [sys.executable, "-m", "monai.bundle", "run", "evaluating", "--bundle_root", str(bundle)]
            words += [
                "--config_file",
                str(bundle / "configs/evaluate.yaml"),
                "--dataset_dir",
                str(dataset_dir),
            ]
            done = subprocess.run(
                [*words, "--output_dir", place], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(f"{run} cannot be scored on {dataset_dir}:\n{done.stderr[-2000:]}")
            scores = json.loads((Path(place) / "evaluation.json").read_text(encoding="utf-8"))["test_sets"]
        found[run.name] = {name: float(part["dice"]) for name, part in scores.items()}
    sets = list(next(iter(found.values())))
    print("| run | " + " | ".join(sets) + " | mean |\n" + "|---" * (len(sets) + 2) + "|")
    for name, own in found.items():
        cells = [*(own[each] for each in sets), mean(own.values())]
        print(f"| {name} | " + " | ".join(f"{x:.4f}" for x in cells) + " |")
    print(json.dumps(found))
