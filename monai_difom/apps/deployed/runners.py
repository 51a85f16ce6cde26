"""Open a trained student in any format and run it on one picture; nothing in its file is unpickled."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...utils.documents import parse_json
from ...utils.weight_files import BUNDLE_WEIGHTS
from ..export.formats import ENGINES, FORMATS
from ..runs.folder import RunFolder
from .facts import METADATA, Deployment, read_deployment
from .model_files import check_torchscript
from .openers import torch_logits

if TYPE_CHECKING:
    import torch

# weights, which a bundle's own configuration opens, may be in another file too
_BY_SUFFIX = {form.suffix: form for form in FORMATS.values()} | {".safetensors": FORMATS["bundle"]}


@dataclass(frozen=True)
class Runner:
    """A network that is ready to run.

    Args:
        file: where its weights are from.
        engine: one of `ENGINES`.
        facts: what stands around the network.
        logits: input ``(B, C, h, w)``, float32 -> logits ``(B, K, h, w)``.
    """

    file: Path
    engine: str
    facts: Deployment
    logits: Callable[[np.ndarray], np.ndarray]

    def probabilities(self, picture: np.ndarray) -> np.ndarray:
        """Return probabilities ``(structures, H, W)`` of an 8-bit picture ``(H, W, C)``, at its size."""
        return self.facts.probabilities(self.logits(self.facts.prepare(picture)), picture.shape[:2])


def open_runner(
    model: str | os.PathLike, engine: str | None = None, trust_torchscript: bool = False
) -> Runner:
    """Open a bundle, a finished run, or one file.

    Args:
        model: folder of a bundle; folder of a run (its ``bundle``); or ``.pt`` in a bundle, ``.ts``, ``.onnx``, ``.xml``.
        engine: one of `ENGINES`; None takes that of the file, or torch.
        trust_torchscript: run TorchScript that this machine did not export. It is a program: give it only where it is known
            where the file is from.

    Raises:
        FileNotFoundError: there is nothing at ``model``, or the bundle has no file for the engine.
        ValueError: an engine that does not fit or is not installed, or a file that is refused.
    """
    given = Path(model)
    if engine is not None and engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}; allowed are {', '.join(ENGINES)}.")
    if not given.exists():
        raise FileNotFoundError(
            f"no model at {given}: give a bundle's folder, a run's folder or a model file."
        )
    file = _file_of(find_bundle(given), engine or "torch") if given.is_dir() else given
    form = _BY_SUFFIX.get(file.suffix)
    if form is None:
        raise ValueError(
            f"{file} is no model file; allowed are {', '.join(_BY_SUFFIX)}, and folders of bundles."
        )
    if engine not in (None, form.engine):
        raise ValueError(
            f"{file.name} runs in {form.engine}, not in {engine}. Give the bundle's folder, or leave out --engine."
        )
    if not form.opener:
        return _open_weights(file)
    if form.program:
        check_torchscript(file, trust_torchscript)
    logits, facts = form.open(file)
    runner = Runner(file, form.engine, _facts(facts, file), logits)
    _check_output(runner)
    return runner


def _check_output(runner: Runner) -> None:
    """Refuse a file whose network does not take the input, or give the output, that its facts say."""
    facts = runner.facts
    number = len(facts.structures) + (facts.activation == "softmax")
    try:
        found = np.shape(runner.logits(np.zeros((1, len(facts.mean), *facts.size), np.float32)))
    except Exception as error:  # every runtime has errors of its own
        raise ValueError(
            f"{runner.file} does not run on an image of {facts.size} pixels and {len(facts.mean)} channels, as it says: "
            f"{(str(error).splitlines() or [type(error).__name__])[0]}"
        ) from error
    if len(found) != 4 or found[1] != number:
        raise ValueError(
            f"{runner.file} gives an output of the shape {found}; needed are logits of {number} channels, for "
            f"{', '.join(facts.structures)}."
        )


def find_bundle(folder: Path) -> Path:
    """Return the bundle at a folder: itself, or the one that a run holds.

    Raises:
        FileNotFoundError: there is none.
    """
    for place in (folder, RunFolder(folder).bundle):
        if (place / METADATA).is_file():
            return place
    raise FileNotFoundError(
        f"{folder} is no bundle and no finished run with one: neither {METADATA} nor bundle/{METADATA} is there."
    )


def network_runner(network: torch.nn.Module, file: Path, facts: Deployment) -> Runner:
    """Return a runner of a torch network; moved to nowhere, run without gradients."""
    return Runner(file, FORMATS["bundle"].engine, facts, torch_logits(network))


def _file_of(bundle: Path, engine: str) -> Path:
    forms = [form for form in FORMATS.values() if form.engine == engine]  # the best first
    found = [bundle / form.file for form in forms if (bundle / form.file).is_file()]
    if not found:
        name = next(form.name for form in forms if form.opener)
        raise FileNotFoundError(
            f"{bundle} holds nothing for {engine} ({' or '.join(form.file for form in forms)}). Make it: "
            f"python -m monai_difom export --bundle {bundle} --output DIR --format bundle,{name}"
        )
    return found[0]


def _open_weights(file: Path) -> Runner:
    bundle = file.parent.parent
    if not (bundle / METADATA).is_file() or file != bundle / BUNDLE_WEIGHTS:
        raise ValueError(
            f"{file} holds weights alone; the network is known where the file is {BUNDLE_WEIGHTS} of a bundle. Give the bundle."
        )
    from .network import load_network  # networks, and MONAI for those that are MONAI's

    runner = network_runner(load_network(bundle), file, read_deployment(bundle))
    return replace(runner, facts=named_channels(runner))


def named_channels(runner: Runner) -> Deployment:
    """Return the facts of a network, with structures numbered where their names are not those of its channels."""
    facts = runner.facts
    image = np.zeros((1, len(facts.mean), *facts.size), np.float32)
    number = runner.logits(image).shape[1] - (facts.activation == "softmax")
    if number == len(facts.structures):
        return facts
    return replace(facts, structures=tuple(f"structure_{i}" for i in range(number)))


def _facts(text: str | None, file: Path) -> Deployment:
    """The facts inside a file, or those of the bundle that it is in."""
    if text:
        return Deployment.from_dict(parse_json(text, f"{file}: its deployment facts"))
    if (file.parent.parent / METADATA).is_file():
        return read_deployment(file.parent.parent)
    raise ValueError(
        f"{file} does not say how pictures become its input; files of `python -m monai_difom export` do."
    )
