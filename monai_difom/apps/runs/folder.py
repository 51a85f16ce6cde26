"""Which file of a run's folder is which."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...utils.documents import read_json
from ...utils.weight_files import MODELS, STATE, STUDENT

CONTROL = "control"  # the undistilled twin that `train --control` trains
_BYTES, _VALUES = 1_000_000_000, 50_000_000  # pictures of every image, a long history


class RunError(ValueError):
    """A folder that is no run, or runs that do not belong together; the message is for the person who gave them."""


class RunFolder:
    """The places of all that a run leaves, whether it is there or not.

    Args:
        path: the run's folder, ``output_dir`` of a training or of an evaluation, or of one stage.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.record = self.path / "run.json"
        self.history = self.path / "history.json"
        self.summary = self.path / "summary.json"
        self.evaluation = self.path / "evaluation.json"
        self.stage = self.path / "stage.json"
        self.report = self.path / "report.html"
        self.bundle = self.path / "bundle"
        self.models = self.path / MODELS
        self.control = self.path / CONTROL
        # what `monai-difom train` wrote and ran
        self.trained = self.path / "source" / "configs" / "train.yaml"

    def started_by_train(self) -> bool:
        """Whether ``monai-difom train`` made the run, which then goes on by ``--resume`` of that verb."""
        return self.trained.is_file()

    def with_control(self) -> Path:
        """Return the folder that ``train --resume`` takes: that of the run, for its control too."""
        return self.path.parent if self.path.name == CONTROL else self.path

    @classmethod
    def of(cls, given: str | os.PathLike) -> RunFolder:
        """Return the run that a folder is, or that a weight file is of."""
        path = Path(given)
        if path.is_dir():
            return cls(path)
        return cls(path.parent.parent if path.parent.name == MODELS else path.parent)

    def table(self, test_set: str) -> Path:
        """Return the file with the scores of a test set, one row per image."""
        return self.path / f"{test_set}.csv"

    def tables(self) -> list[Path]:
        """Return the CSV files that are there; those of scores have a column ``dice``."""
        return sorted(self.path.glob("*.csv"))

    def example(self, test_set: str) -> Path:
        """Return the file with the outlines and pictures of a test set."""
        return self.path / "examples" / f"{test_set}.json"

    def examples(self) -> list[Path]:
        """Return the files with outlines and pictures that are there."""
        return sorted(self.example("*").parent.glob(self.example("*").name))

    def student(self) -> Path | None:
        """Return the weights of the best student; None where there are none."""
        return self._weights(STUDENT)

    def state(self) -> Path | None:
        """Return the training state, to resume from; None where there is none."""
        return self._weights(STATE)

    def _weights(self, name: str) -> Path | None:
        recorded = (self.read(self.record) or {}).get("checkpoints")
        places = [self.models, self.path, *([Path(recorded)] if recorded else [])]
        return next((place / name for place in places if (place / name).is_file()), None)

    def read(self, file: Path) -> Any:
        """Return what a JSON file of the folder holds; None where it is not there.

        Raises:
            RunError: it is damaged.
        """
        if not file.is_file():
            return None
        try:
            return read_json(file, size_limit=_BYTES, node_limit=_VALUES)
        except ValueError as error:
            raise RunError(f"{error} Remove it, or run the evaluation again.") from error
