"""``python -m monai_difom features <action>``: the feature store of a bundle, from the command line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...utils.durations import duration
from ..bundle.options import config_files, option_values

if TYPE_CHECKING:
    from ...data import FeatureStore
    from ...engines.feature_builder import FeatureBuilder


def run_features(action: str, options: Sequence[str]) -> int:
    """Run one action on the store of a bundle's configuration.

    Args:
        action: ``estimate``, ``build``, ``verify`` or ``info``.
        options: words as for ``monai.bundle run``: ``--config_file FILE`` (or a list), and ids to override, among them
            ``--feature_store DIR``. ``info`` needs the folder only.

    Returns:
        The exit code: 0; 1 where the store is refused, or does not agree with the teachers.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = option_values(options)
    try:  # before torch and MONAI are imported, which takes seconds
        samples = _samples(given.pop("samples", "16"))
        files = _checked_files(action, given)
    except (ValueError, OSError) as error:
        print(f"features {action}: {error}", file=sys.stderr)
        return 1
    from ...data import FeatureStore, ItemError
    from ..bundle.command_line import cause_of

    try:
        if action == "info":
            return _info(FeatureStore(given["feature_store"]))
        return {"estimate": _estimate, "build": _build, "verify": _verify}[action](
            _builder(files, given, options), samples
        )
    except Exception as error:  # MONAI wraps what a configuration raises
        cause = cause_of(error)
        if not isinstance(cause, (ValueError, OSError, ItemError)):
            raise
        print(f"features {action}: {cause}", file=sys.stderr)
        return 1


def _samples(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"samples is {text!r}; allowed are whole numbers from 1.")
    return int(text)


def _checked_files(action: str, given: Mapping[str, str]) -> list[str]:
    """The configuration files of an action; ``info`` needs none, but a folder."""
    if action == "info":
        if not given.get("feature_store"):
            raise ValueError("no feature store is named: give its folder, --feature_store DIR.")
        if not Path(given["feature_store"]).is_dir():
            raise ValueError(
                f"there is no feature store at {given['feature_store']}. Build it first: `python -m monai_difom features "
                "build` with the options of the training."
            )
        return []
    files = config_files(given.get("config_file", ""))
    if not files:
        raise ValueError(
            "no configuration: give --config_file bundles/polyp_difom/configs/train.yaml, with the overlays and options "
            "of the training that the store is for."
        )
    return files


def _builder(files: Sequence[str], given: Mapping[str, str], words: Sequence[str]) -> FeatureBuilder:
    from monai.bundle import ConfigParser

    from ..bundle.command_line import check_overrides
    from ..bundle.typed_paths import typed_value

    without_samples = [word for i, word in enumerate(words) if "--samples" not in (word, *words[i - 1 : i])]
    check_overrides(["run", *(word for word in without_samples if not word.startswith("--samples="))])
    parser = ConfigParser()
    parser.read_config(files)
    if "feature_builder" not in parser.config:
        raise ValueError(
            f"{files[0]} has no feature_builder: take a bundle's train.yaml, which has the run id `features`."
        )
    # every image is read once: nothing is gained by keeping it
    changes: dict[str, Any] = {"cache_rate": 0.0} if "cache_rate" in parser.config else {}
    changes |= {key: typed_value(key, value) for key, value in given.items() if key != "config_file"}
    parser.update(changes)
    return parser.get_parsed_content("feature_builder")


def _estimate(builder: FeatureBuilder, _samples: int) -> int:
    from ...data.feature_store.build import size_of

    cost = builder.estimate()
    print(
        f"{cost['images']} images, {cost['rows']} targets of {size_of(cost['row_bytes'])} are to be stored."
    )
    print(f"disk: {size_of(cost['bytes'])} of {size_of(cost['free'])} that are free")
    print(f"time: {duration(cost['seconds'])} on {builder.device}, by a probe of one batch")
    return 0 if cost["bytes"] <= cost["free"] else 1


def _build(builder: FeatureBuilder, _samples: int) -> int:
    report = builder.build()
    rate = report["rows"] / max(report["seconds"], 1e-9)
    print(f"{report['rows']} targets in {report['shards']} shards written, {rate:.1f} a second; ", end="")
    print(f"{report['kept']} shards were there.")
    return 0


def _verify(builder: FeatureBuilder, samples: int) -> int:
    report = builder.verify(samples)
    for sentence in report["damaged"]:
        print(sentence)
    print(f"{report['shards'] - len(report['damaged'])} of {report['shards']} shards are as written.")
    for name, cosine in report["cosine"].items():
        print(f"{name}: lowest cosine {cosine:.6f} of stored and live (at least {report['least']})")
    agree = bool(report["cosine"]) and min(report["cosine"].values()) >= report["least"]
    print(f"{report['samples']} targets computed again: {'good' if agree else 'BAD'}.")
    return 0 if report["ok"] else 1


def _info(store: FeatureStore) -> int:
    from ...data.feature_store import PICTURE
    from ...data.feature_store.build import is_finished, size_of

    index = store.index
    finished = [name for name in index["shards"] if is_finished(store, name)]
    size = sum(file.stat().st_size for file in Path(store.folder).rglob("*") if file.is_file())
    rows = {entry for entry, (name, _) in store.rows.items() if name in set(finished)}
    print(f"{store.folder}: {size_of(size)}, written by monai_difom {index['version']}, {index['dtype']}")
    print(
        f"{len({key for key, _ in rows})} images of {'x'.join(map(str, store.image_size))}, views {store.views}"
    )
    print(f"{len(rows)} of {len(store.rows)} targets in {len(finished)} of {len(index['shards'])} shards")
    for name, shape in store.maps.items():
        if name != PICTURE:
            print(f"  map {name}: {'x'.join(map(str, shape))}")
    for name, term in index["definition"]["terms"].items():
        print(f"  term {name}: {term['source']} at tap {term['tap']}")
    for name, about in index["teachers"].items():
        signature = index["definition"]["teachers"][name][:12]
        print(f"  teacher {name}: {about['source']}, licence {about['licence']}, signature {signature}")
    for name in sorted(set(index["shards"]) - set(finished)):
        print(f"  shard {name} is missing or damaged: build again")
    return 0
