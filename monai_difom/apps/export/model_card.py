"""The documentation of an exported bundle: scores, pictures, formats, how to run each, teachers and licences."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ..deployed.facts import DEPLOYMENT
from ..runs.compare import gains_over_control
from ..runs.examples import load_examples
from ..runs.folder import RunFolder
from ..runs.run import read_run, read_tables
from ..scoring.score_files import scores_section
from .formats import FORMATS
from .parity import parity_table
from .training_config import TRAIN

# sections of the trained bundle's page that speak of making it, or that are written anew
_LEFT_OUT = ("Training", "Export", "Evaluation and inference", "Input and output")
_TRAINING = """Training

MONAI Label trains this student further, on labels that were saved there: `configs/train.yaml`, with the package monai_difom."""
_COLORS = {"truth": (255, 255, 255), "prediction": (86, 180, 233)}  # those of the report


def write_card(
    source: Path,
    bundle: Path,
    metadata: Mapping[str, Any],
    run: Path | None,
    needs: Sequence[str],
    pictures: Sequence[tuple[str, str]],
) -> None:
    """Write ``docs/README.md`` of an exported bundle.

    Args:
        source: the trained bundle, whose page is taken over.
        bundle: the exported bundle.
        metadata: of the exported bundle.
        run: the run's folder, for all its scores; None keeps the trained bundle's table.
        needs: what of this package the bundle's inference needs.
        pictures: of `save_pictures`.
    """
    title, *sections = (source / "docs" / "README.md").read_text(encoding="utf-8").split("\n## ")
    scores = _run_scores(run)
    dropped = (*_LEFT_OUT, "Scores") if scores else _LEFT_OUT
    kept = {s.partition("\n")[0].strip(): s.rstrip() for s in sections if s.partition("\n")[0] not in dropped}
    new = {
        "Scores": scores or kept.pop("Scores", ""),
        "Gain": gain_section(run),
        "Pictures": _pictures_section(pictures),
        "Formats": _formats_section(metadata["formats"]),
        "Use": _use_section(metadata, needs),
        "Training": _TRAINING if (bundle / TRAIN).is_file() else "",
        "Input and output": _network_section(metadata),
    }
    body = [title.rstrip(), *(text for text in new.values() if text), *kept.values()]
    file = bundle / "docs" / "README.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n\n## ".join(body) + "\n", encoding="utf-8")


def save_pictures(run: Path, docs: Path) -> list[tuple[str, str]]:
    """Draw the worst, the median and the best image of every test set of a run with both outlines.

    Args:
        run: folder with ``examples``; of none, nothing is drawn.
        docs: folder of the documentation; files go to ``pictures`` in it.

    Returns:
        ``(caption, file below docs)`` of each.
    """
    listed = []
    for name, entries in load_examples(run).items():
        for kind, entry, dice in extremes(entries, _table_dice(run, name)):
            safe = re.sub(r"[^\w.-]", "_", name).lstrip(".")
            file = f"pictures/{safe}_{kind}.jpg"
            (docs / "pictures").mkdir(parents=True, exist_ok=True)
            _draw(entry).save(docs / file, quality=85)
            listed.append((f"{name}, {kind}: Dice {dice:.3f}", file))
    return listed


def extremes(
    entries: Mapping[str, Mapping[str, Any]], scores: Mapping[str, float]
) -> list[tuple[str, Mapping[str, Any], float]]:
    """Return the worst, the median and the best image that a picture was kept of, as ``(kind, entry, Dice)``.

    Args:
        entries: path -> entry, of `load_examples`.
        scores: path -> Dice of the table of scores, which counts; of an image that is not in it, the entry's own.
    """
    dice = {path: scores.get(path, entry["dice"]) for path, entry in entries.items()}
    middle = float(np.median(list(dice.values()))) if dice else 0.0
    left = sorted((path for path, entry in entries.items() if "jpeg" in entry), key=dice.__getitem__)
    found = {}
    if left:
        found["worst"] = left.pop(0)
    if left:
        found["best"] = left.pop()
    if left:
        found["median"] = min(left, key=lambda path: abs(dice[path] - middle))
    return [(k, entries[found[k]], dice[found[k]]) for k in ("worst", "median", "best") if k in found]


def _table_dice(run: Path, name: str) -> dict[str, float]:
    """Path -> Dice of the table of a test set, its mean over structures; empty where there is none."""
    table = next((table for test_set, table in read_tables(run).items() if test_set == name), None)
    found: dict[str, list[float]] = {}
    if table is not None:
        for path, dice in zip(table.paths, table.columns["dice"][0], strict=True):
            found.setdefault(path, []).append(float(dice))
    return {path: float(np.nanmean(values)) for path, values in found.items() if not np.isnan(values).all()}


def _draw(entry: Mapping[str, Any]) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(entry["jpeg"]))).convert("RGB")
    scale = image.width / entry["width"]
    pen = ImageDraw.Draw(image)
    for kind, color in _COLORS.items():
        for line in re.findall(r"M([^MZ]+)Z", entry[kind]):
            points = [tuple(scale * float(n) for n in point.split()) for point in line.split("L")]
            pen.line([*points, points[0]], fill=(0, 0, 0), width=5)
            pen.line([*points, points[0]], fill=color, width=3)
    return image


def _run_scores(run: Path | None) -> str:
    files = RunFolder(run) if run is not None else None
    sets = ((files.read(files.summary) if files else None) or {}).get("test_sets", {})
    return scores_section(sets) if sets else ""


def gain_section(run: Path | None) -> str:
    """What the teachers gave: the difference to the undistilled twin of ``train --control``, where there is one."""
    files = RunFolder(run) if run else None
    if files is None or not RunFolder(files.control).summary.is_file():
        return ""
    rows = [
        f"| {name} | {gain} |"
        for name, gain in gains_over_control(read_run(files.path), files.control).items()
    ]
    words = "Dice beyond that of the same student, trained as long on the same labels without teachers; 95 % interval."
    return "\n".join(["Gain", "", words, "", "| test set | gain |", "|---|---|", *rows])


def _pictures_section(pictures: Sequence[tuple[str, str]]) -> str:
    if not pictures:
        return ""
    shown = [f"![{caption}]({file})\n\n{caption}\n" for caption, file in pictures]
    return "\n".join(["Pictures", "", "White: the mask. Blue: what the student found.", "", *shown]).rstrip()


def _formats_section(formats: Mapping[str, Mapping[str, Any]]) -> str:
    files = [f"| {name} | `{entry['file']}` |" for name, entry in formats.items()]
    count = max((int(entry["parity"]["pictures"]) for entry in formats.values()), default=0)
    parts = [
        "Formats",
        "",
        "| format | file |",
        "|---|---|",
        *files,
        "",
        f"Each against the trained network in PyTorch, on {count} real pictures, probabilities at the size of the picture:",
        "",
        parity_table({name: entry["parity"] for name, entry in formats.items()}),
    ]
    return "\n".join(parts)


def _network_section(metadata: Mapping[str, Any]) -> str:
    facts = metadata[DEPLOYMENT]
    mean, std, (height, width) = facts["mean"], facts["std"], facts["size"]
    names = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    listed = ", ".join(f"{i} {name}" for i, name in names.items())
    channels = "RGB" if len(mean) == 3 else "Grey"
    lines = [
        "Input and output",
        "",
        f"Input: `(B, {len(mean)}, {height}, {width})`, float32. {channels}, upright, squashed to that size",
        f"with an antialiased filter, divided by 255, minus {mean}, divided by {std}.",
        "",
        f"Output: logits of the same size. Channels: {listed}. Probabilities are their {facts['activation']}, brought to",
        f"the size of the picture; a pixel counts from {facts['threshold']} on.",
    ]
    return "\n".join(lines)


def _use_section(metadata: Mapping[str, Any], needs: Sequence[str]) -> str:
    formats, facts = metadata["formats"], metadata[DEPLOYMENT]
    alone = [f"`{Path(form.file).name}`" for form in FORMATS.values() if form.opener]
    if needs:
        need = f"The bundle needs the package monai_difom ({', '.join(needs)}). {', '.join(alone)} need neither it nor MONAI."
    else:
        need = "MONAI runs the bundle; nothing else is needed. Scoring (`configs/evaluate.yaml`) needs monai_difom."
    lines = [
        "Use",
        "",
        need,
        "",
        "    python -m monai.bundle run --bundle_root . --config_file configs/inference.yaml \\",
        "      --dataset_dir images --output_dir masks",
    ]
    prepare = [
        "import numpy as np",
        "from PIL import Image, ImageOps",
        "",
        f"picture = ImageOps.exif_transpose(Image.open('image.png')).convert('{'RGB' if len(facts['mean']) == 3 else 'L'}')",
        f"small = picture.resize(({facts['size'][1]}, {facts['size'][0]}), Image.Resampling.BILINEAR)",
        "small = np.asarray(small, np.float32) / 255",
        f"x = (small.reshape(*small.shape[:2], -1) - {facts['mean']}) / {facts['std']}",
        "x = np.ascontiguousarray(x.transpose(2, 0, 1)[None], dtype=np.float32)",
    ]
    end = (
        ["probability = 1 / (1 + np.exp(-logits))"]
        if facts["activation"] == "sigmoid"
        else [
            "e = np.exp(logits - logits.max(1, keepdims=True))",
            "probability = e / e.sum(1, keepdims=True)",
        ]
    )
    for name in formats:
        if FORMATS[name].use:
            package, call = FORMATS[name].use
            code = [prepare[0], package, *prepare[1:], call, *end]
            lines += [
                "",
                f"With {package.split()[1]} alone (and numpy and Pillow):",
                "",
                "```python",
                *code,
                "```",
            ]
    return "\n".join(lines)
