"""The training configuration of an exported bundle: that of its run, cut down to what learning from new labels needs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ...utils.configurations import resolved
from ...utils.literals import literal, literal_text
from ..runs.folder import RunFolder

TRAIN = "configs/train.yaml"
# what MONAI Label and `train_on_labels` look up by name, and what MONAI's model zoo wants of a training configuration
_READ = (
    *("imports", "bundle_root", "dataset_dir", "output_dir", "ckpt_dir", "device", "network_def", "network"),
    *("teachers", "terms", "plan", "train", "validate", "evaluation_chain"),
)
_IDS = ("initialize", "run", "training", "finalize", "val_interval")
_HEAD = """# The student of this bundle goes on learning, from the labels of a MONAI Label server.
#
# Needs: monai_difom, and the labels, which MONAI Label sets as train#dataset#data and validate#dataset#data. Teachers that are
#   not where the options below say are left out.
# Run: the server's /train does. Run ids: run and training, all phases; {phases}, one phase alone.
# Leaves: models/model.pt, if the new student is no worse on the validation images; the one before as models/model_before.pt.
"""


def training_config(run: str | os.PathLike, overlay: str | os.PathLike) -> str:
    """Return a run's own configuration under an overlay, without the ids that nothing in it asks for any more.

    Every phase of the run becomes a run id. Options that name files or folders that are there are written as absolute paths:
    a server is started anywhere.

    Args:
        run: the run's folder, with ``config.yaml``.
        overlay: ``configs/label/train.yaml`` or one like it.

    Raises:
        FileNotFoundError: the run has no ``config.yaml``, or there is no such overlay.
        ValueError: the run is no single plan of phases on masks of one structure.
    """
    from monai.bundle import ConfigParser

    own = RunFolder(run).config
    for file in (own, Path(overlay)):
        if not file.is_file():
            raise FileNotFoundError(
                f"no {file}: a training configuration is made of the run's own and an overlay."
            )
    given, change = (ConfigParser.load_config_file(str(file)) for file in (own, overlay))
    missing = [name for name in _READ if name not in {**given, **change}]
    if missing:
        raise ValueError(
            f"{own} has no {', '.join(missing)}: {overlay} is for runs of bundles/polyp_difom and those like it."
        )
    config = ConfigParser.load_config_files([str(own), str(overlay)])
    phases = _phases(own)
    for name in phases:
        # a phase called like an option or a part of the configuration has no run id
        config.setdefault(name, [f"$monai_difom.apps.train_on_labels({name!r})"])
    kept = _needed(config, [*_READ, *_IDS, *phases])
    plain = {
        # of parts only the teachers are made of files
        name: value if isinstance(value, Mapping) and name != "teachers" else _absolute(value)
        for name, value in config.items()
        if name in kept
    }
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)
    return _HEAD.format(phases=", ".join(phases)) + text


def _phases(config: Path) -> list[str]:
    """Names of the phases of a run, as they are written."""
    found = resolved(config, "phases")
    names = [phase.get("name") for phase in found] if isinstance(found, list) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{config}: phases is {found!r}; needed is a list of phases with their names.")
    return [str(name) for name in names]


def _needed(config: Mapping[str, Any], roots: Iterable[str]) -> set[str]:
    """Top-level ids that the roots refer to, directly or not, with themselves."""
    found: set[str] = set()
    waiting = [name for name in roots if name in config]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [other for other in _references(config[name]) if other in config]
    return found


def _references(value: Any) -> set[str]:
    """Top-level ids that a part of a configuration refers to by ``@`` or ``%``."""
    if isinstance(value, Mapping):
        return {name for child in value.values() for name in _references(child)}
    if isinstance(value, list | tuple):
        return {name for child in value for name in _references(child)}
    if not isinstance(value, str):
        return set()
    from monai.bundle.reference_resolver import ReferenceResolver

    names = [*ReferenceResolver.match_refs_pattern(value), *([value[1:]] if value.startswith("%") else [])]
    return {name.replace("#", "::").split("::")[0] for name in names}


def _absolute(value: Any) -> Any:
    """Return text that names something on this disk as an absolute path, at any depth; all else as it is."""
    if isinstance(value, Mapping):
        return {key: _absolute(child) for key, child in value.items()}
    if not isinstance(value, str):
        return value
    path = literal_text(value) or value
    if path.startswith(("$", "@", "%")) or not os.path.exists(path):
        return value
    return literal(os.path.abspath(path)) if os.sep in path or Path(path).suffix else value
