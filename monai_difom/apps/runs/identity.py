"""What a run is about: its name, task, structures, kind of images and data, in the words of its options and neutral without them.

The metadata of every bundle, its page, the model card, `serve` and the report say what this says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...utils.literals import literal_text

NEUTRAL = "foreground"
#: ids of a configuration that say it; all bundles have them
IDS = ("structure", "modality", "task", "data_source", "dataset_dir")
_TRAINING = """Training

`configs/train.yaml` is the whole configuration; it runs again with

    python -m monai.bundle run training --bundle_root . --config_file configs/train.yaml"""


@dataclass(frozen=True)
class RunIdentity:
    """What a run is about.

    Args:
        structures: names of the network's channels.
        modality: what the images are, such as "microscopy"; None where nobody said.
        task: the task in a few words; made of the others where nobody said.
        data_source: where the images are from.
        teachers: names of what taught the student.
        network: class of the student.
    """

    structures: tuple[str, ...] = (NEUTRAL,)
    modality: str | None = None
    task: str = ""
    data_source: str = ""
    teachers: tuple[str, ...] = ()
    network: str = "light network"

    @classmethod
    def of(
        cls, settings: Mapping[str, Any], teachers: Sequence[str] = (), network: str = "light network"
    ) -> RunIdentity:
        """Read it out of a configuration.

        Args:
            settings: id -> value, with `IDS`, ``structures`` and ``network_def`` where they are there. Expressions say nothing.
            teachers: names of what taught the student.
            network: class of the student.
        """
        structure, modality, task, source, folder = (_said(settings.get(name)) for name in IDS)
        structures = _names(settings, structure or NEUTRAL)
        if not task:
            named = ", ".join(structures) if structures != (NEUTRAL,) else "images"
            images = f" in {modality} images" if named != "images" else ""
            task = f"Segmentation of {named}{images if modality else ''}"
            if named == "images" and modality:
                task = f"Segmentation of {modality} images"
        source = source or (Path(folder).name if folder else "") or "a folder of images with masks"
        return cls(structures, modality, task, source, tuple(teachers), network)

    @property
    def structure(self) -> str:
        """All structures in a word."""
        return ", ".join(self.structures)

    def metadata(self, template: Mapping[str, Any]) -> dict[str, Any]:
        """Return the metadata of a bundle with what is its own in place of what its template says of itself."""
        metadata = json.loads(json.dumps(template))
        labels = "0 background, " + ", ".join(f"{i} {name}" for i, name in enumerate(self.structures, 1))
        taught = f" and by {', '.join(self.teachers)}" if self.teachers else ""
        metadata |= {
            "name": self.task,
            "task": self.task,
            "description": f"A {self.network} that was trained on masks{taught}. Only the plain student is left.",
            "data_source": self.data_source,
            "label_classes": labels,
            "pred_classes": labels,
        }
        inputs = metadata["network_data_format"]["inputs"]["image"]
        output = metadata["network_data_format"]["outputs"]["pred"]
        if str(metadata.get("image_classes", "")).startswith("RGB"):
            kind = f" ({self.modality})" if self.modality else ""
            metadata["image_classes"] = f"RGB image{kind}, ImageNet mean and deviation"
        inputs["modality"] = self.modality or "any"
        output["num_channels"] = len(self.structures)
        output["channel_def"] = {str(i): name for i, name in enumerate(self.structures)}
        return metadata

    def readme(self, template: str, metadata: Mapping[str, Any], training: bool = False) -> str:
        """Return the page of a bundle.

        Args:
            template: page of the bundle whose method it is; its sections on use, input and output, export and licence stay.
            metadata: of `metadata`.
            training: whether the bundle trains by one configuration of its own.
        """
        limits = (
            f"{metadata.get('intended_use', '')} Try it on images of your own before anything is built on it."
        )
        references = [f"Method: {reference}" for reference in metadata.get("references") or []]
        own = {
            "Data": f"Data\n\n{self.data_source}. Structures: {self.structure}.",
            "Training": _TRAINING if training else "",
            "Limits": f"Limits\n\n{limits}",
            "References": "\n".join(["References", "", *references]) if references else "",
        }
        _, *sections = template.split("\n## ")
        parts = [own.get(s.partition("\n")[0].strip(), s).rstrip() for s in sections]
        head = f"# {metadata['name']}\n\n{metadata['description']}"
        return "\n\n## ".join([head, *(part for part in parts if part)]) + "\n"

    def configuration(self, text: str) -> str:
        """Return a configuration of a bundle under its first line, with the run's structure and no data of its own."""
        head = text.partition("\n")[0]
        start = re.search(r"^(?!#)", text, re.MULTILINE)
        body = text[start.start() if start else 0 :]
        body = re.sub(r"(?m)^dataset_dir: data/.*$", "dataset_dir: data", body)
        label = json.dumps(self.structures[0])
        body = re.sub(r"(labels: )\{\w+: 1\}", lambda found: f"{found[1]}{{{label}: 1}}", body)
        return f"{head}\n{body}"


def _said(value: Any) -> str | None:
    """A text of a configuration; None of one that says nothing by itself."""
    if not isinstance(value, str) or not value.strip():
        return None
    plain = literal_text(value) or value
    return None if plain.startswith(("$", "@", "%")) else " ".join(plain.split())


def _names(settings: Mapping[str, Any], structure: str) -> tuple[str, ...]:
    """One name for every channel of the network."""
    listed = settings.get("structures")
    names = [str(name) for name in listed] if isinstance(listed, list) and listed else [structure]
    if names == [NEUTRAL]:
        names = [structure]
    definition = settings.get("network_def")
    channels = definition.get("out_channels") if isinstance(definition, Mapping) else None
    if isinstance(channels, int) and channels != len(names):
        names = [f"{structure} {number}" for number in range(1, channels + 1)]
    return tuple(names)
