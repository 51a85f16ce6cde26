"""A finished run as a MONAI Bundle that stands alone: the trained student, how to run it, and what it was taught by."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser
from torch import nn

from ... import __version__
from ...networks.student import as_student
from ...networks.weights import fill_network
from ...utils import (
    load_state,
    main_rank_only,
    refuse_other_content,
    replaced_folder,
    with_folder,
    write_json,
)
from ...utils.documents import read_json
from ...zoo import find_entry
from ..bundle.shipped import shipped
from ..deployed.facts import INFERENCE, METADATA
from ..deployed.network import NETWORK, WEIGHTS
from ..runs.identity import IDS, RunIdentity
from ..scoring.score_files import scores_section

# what is copied from the bundle that was trained; train.yaml stays behind, it needs teachers and overlays
_CONFIGS = (INFERENCE, "configs/evaluate.yaml")
_COPIED = ("LICENSE", "configs/logging.conf")
_NEEDED = (*_CONFIGS, *_COPIED, METADATA, "docs/README.md")
_COMMANDS = {
    "inference.yaml": "run --bundle_root . --config_file configs/inference.yaml --dataset_dir images --output_dir masks",
    "evaluate.yaml": "run evaluating --bundle_root . --config_file configs/evaluate.yaml --dataset_dir data --output_dir scores",
}


def check_bundle(bundle_root: str | os.PathLike, replaced: str | os.PathLike | None = None) -> None:
    """Refuse a folder that a trained bundle cannot be made from; to be called before hours of training, not after.

    Args:
        bundle_root: the bundle that is trained.
        replaced: see `write_trained_bundle`.

    Raises:
        ValueError: names the files that a folder lacks.
    """
    _folder_of(replaced)
    missing = [name for name in _NEEDED if not (Path(bundle_root) / name).is_file()]
    if missing:
        raise ValueError(
            f"bundle_root is {str(bundle_root)!r}, which lacks {', '.join(missing)}. Give the folder of the bundle that is "
            "trained, as --bundle_root bundles/polyp_difom."
        )


@main_rank_only
def write_trained_bundle(
    folder: str | os.PathLike,
    source: str | os.PathLike,
    weights: str | os.PathLike,
    settings: Mapping[str, Any],
    summary: Mapping[str, Any],
    replaced: str | os.PathLike | None = None,
) -> Path:
    """Write a complete MONAI Bundle around a trained student.

    It holds ``configs/inference.yaml`` and ``configs/evaluate.yaml`` with the network and the settings that were
    trained, ``configs/metadata.json`` with teachers and scores, ``models/model.pt``, ``docs/README.md`` with the
    teachers' licences, ``LICENSE`` and ``configs/logging.conf``. It is written beside its place and renamed when the
    network in it has taken its weights, so that ``folder`` never holds half a bundle; an older one is replaced.

    Args:
        folder: where the bundle goes.
        source: the bundle that was trained: its configurations, metadata, documentation and licence are taken over.
        weights: state dict of the student, ``model.pt``.
        settings: top-level id -> definition, of `running_settings`; written into each configuration that has the id.
            ``network_def`` must be among them. Those of `identity.IDS` go into metadata and page instead.
        replaced: folder, or the name of one of ``configs``, whose ``inference.yaml``, ``evaluate.yaml``, ``metadata.json`` and
            ``README.md`` take the place of the bundle's own, for students of another kind of image (``slices``, ``volumes``);
            what it lacks is the bundle's.
        summary: of `summarize`; ``teachers`` and ``test_sets`` are read. A run without distillation lists no teacher.

    Returns:
        ``folder`` as a path.

    Raises:
        ValueError: ``source`` is no complete bundle, ``folder`` holds something else, or the weights do not fit.
        FileNotFoundError: there is no such weight file.
    """
    check_bundle(source)
    target, origin = Path(folder), Path(source)
    refuse_other_content(target, METADATA)
    teachers = [
        {"name": name, **teacher, "source": public_source(teacher["source"])}
        for name, teacher in summary.get("teachers", {}).items()
    ]
    scores = summary.get("test_sets", {})
    about = identity_of(settings, summary)
    settings = {name: value for name, value in settings.items() if name not in IDS}
    with replaced_folder(target) as draft:
        for name in _COPIED:
            with_folder(draft / name).write_bytes((origin / name).read_bytes())
        shutil.copyfile(weights, with_folder(draft / WEIGHTS))
        own = {name: source_of(origin, replaced, name) for name in _NEEDED}
        definition = _deployed(settings[NETWORK], own[_CONFIGS[0]], draft / WEIGHTS)
        for name in _CONFIGS:
            text = own[name].read_text(encoding="utf-8")
            text = about.configuration(text) if about is not None else text
            text = with_settings(text, {**settings, NETWORK: definition})
            with_folder(draft / name).write_text(
                _with_head(text, _COMMANDS[Path(name).name]), encoding="utf-8"
            )
        metadata = read_json(own[METADATA])
        metadata = about.metadata(metadata) if about is not None else metadata
        write_json(draft / METADATA, _metadata(metadata, teachers, scores))
        readme = own["docs/README.md"].read_text(encoding="utf-8")
        readme = about.readme(readme, metadata) if about is not None else readme
        with_folder(draft / "docs/README.md").write_text(_readme(readme, teachers, scores), encoding="utf-8")
    return target


def identity_of(settings: Mapping[str, Any], summary: Mapping[str, Any]) -> RunIdentity | None:
    """Return what a run is about; None where its configuration is of before it said so."""
    if "structure" not in settings:
        return None
    network = (summary.get("student") or {}).get("network", "light network")
    return RunIdentity.of(settings, list(summary.get("teachers", {})), network)


def source_of(origin: Path, replaced: str | os.PathLike | None, name: str) -> Path:
    """The file that a file of the trained bundle is made from."""
    folder = _folder_of(replaced)
    other = folder / Path(name).name if folder is not None else None
    return other if other is not None and other.is_file() else origin / name


def _folder_of(replaced: str | os.PathLike | None) -> Path | None:
    """The folder of configurations that replace a bundle's own."""
    if not replaced:
        return None
    places = [Path(replaced), shipped("configs") / replaced]
    found = next((place for place in places if (place / Path(INFERENCE).name).is_file()), None)
    if found is None:
        raise ValueError(
            f"deployed is {str(replaced)!r}, where there is no {Path(INFERENCE).name}. Give a folder with one, slices or volumes."
        )
    return found


def public_source(source: str) -> str:
    """Return a teacher's source as others can use it: the published name, or a file name without its folders."""
    entry = find_entry(source)
    if entry is not None:
        return entry.source
    return Path(source).name if os.path.exists(source) else source


def with_settings(text: str, settings: Mapping[str, Any]) -> str:
    """Return a YAML text with top-level ids redefined; comments elsewhere stay, ids that it has not are left out.

    Args:
        text: a configuration.
        settings: id -> plain data.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    lines = text.splitlines(keepends=True)
    for key, value in reversed(
        root.value if isinstance(root, yaml.MappingNode) else []
    ):  # from the end, so that the places before stay
        if key.value not in settings:
            continue
        begin, end = key.start_mark.line, value.end_mark.line + (value.end_mark.column > 0)
        # YAML ends a block where the next one begins: comments in between are the next one's
        while end > begin + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
            end -= 1
        block = yaml.safe_dump({key.value: settings[key.value]}, sort_keys=False, default_flow_style=False)
        lines[begin:end] = block.splitlines(keepends=True)
    return "".join(lines)


def _deployed(definition: Mapping[str, Any], config: Path, weights: Path) -> dict[str, Any]:
    """Return the definition of the network that takes the weights, key by key.

    What a student has for training only (side latents) is in its definition and not in its weights.
    """
    state = load_state(weights)
    if definition.get("pretrained"):
        definition = {
            **definition,
            "pretrained": False,
        }  # the weights are all there: nothing is fetched again
    network = _build(definition, config)
    dropped = as_student(network).training_only
    if dropped and not any(key.startswith(dropped) for key in state):
        definition = {**definition, "latents": "none"}
        network = _build(definition, config)
    fill_network(network, state, weights.name, "network_def is not the network that was trained.")
    return dict(definition)


def _build(definition: Mapping[str, Any], config: Path) -> nn.Module:
    """Build a network as the configuration that it goes into would, with its imports."""
    parser = ConfigParser()
    parser.read_config(str(config))
    parser[NETWORK] = dict(definition)
    return parser.get_parsed_content(NETWORK)


def _with_head(text: str, command: str) -> str:
    """Return a configuration whose opening comment speaks of the trained bundle: what it is for, and the command."""
    lines = text.splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    head = [
        lines[0],
        "#\n",
        "# Needs: what is in this bundle, and `dataset_dir`. The network and its settings are those of the training.\n",
        "# Run, in this bundle's folder:\n",
        f"#   python -m monai.bundle {command}\n",
    ]
    return "".join([*head, *lines[first:]])


def _metadata(
    metadata: Mapping[str, Any], teachers: list[dict[str, Any]], scores: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Return the bundle's metadata with its teachers and, by test set, its scores."""
    packages = {**metadata.get("required_packages_version", {}), "monai_difom": __version__}
    metrics = {
        f"{name}_{score}": values[score]
        for name, values in scores.items()
        for score in ("dice", "iou")
        if score in values
    }
    return {
        **metadata,
        "required_packages_version": packages,
        "eval_metrics": {**metadata.get("eval_metrics", {}), **metrics},
        "teachers": teachers,
    }


def _readme(text: str, teachers: list[dict[str, Any]], scores: Mapping[str, Mapping[str, float]]) -> str:
    """Return the bundle's documentation with its scores and teachers, and without how it is trained anew."""
    title, *sections = text.split("\n## ")
    kept = [section for section in sections if section.partition("\n")[0] != "Training"]
    where = next((i for i, section in enumerate(kept) if section.startswith("License")), len(kept))
    new = [scores_section(scores)] if scores else []
    kept[where:where] = [*new, _teachers_section(teachers)]
    return "\n## ".join([title.rstrip() + "\n", *(section.rstrip() + "\n" for section in kept)])


def _teachers_section(teachers: list[dict[str, Any]]) -> str:
    if not teachers:
        return "Teachers and licences\n\nNo teacher was used: this student was trained on masks alone."
    rows = [f"| {t['name']} | {t['source']} | {t['licence']} | {t['signature'][:12]} |" for t in teachers]
    return "\n".join(
        [
            "Teachers and licences",
            "",
            "This student learned from the features or soft masks of the models below. Nothing of them is in it, but what their",
            "licences say about derived works may bind it: read them before you pass it on. Signatures: configs/metadata.json.",
            "",
            "| teacher | source | licence | signature |",
            "|---|---|---|---|",
            *rows,
        ]
    )
