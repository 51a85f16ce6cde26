"""The end of a training: its record closed, its examples kept, its page written."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from monai.transforms import Compose

from ...engines import DistillationTrainer
from ...utils import main_rank_only
from ..runs.claim import release_runs
from ..runs.folder import RunFolder
from ..runs.keep_examples import save_examples
from ..runs.record import finish_record, measure_cost
from .page import write_report

logger = logging.getLogger(__name__)


@main_rank_only
def conclude(
    trainer: DistillationTrainer,
    test_sets: Mapping[str, Sequence[Mapping[str, str]]],
    chain: Compose,
    output_dir: str | os.PathLike,
    report: bool = True,
    **options: Any,
) -> None:
    """Close the record of a finished training, write its ``report.html``, give its folder free; never lose the run over it.

    Args:
        trainer: the trainer after its run, its student with the weights that were evaluated.
        test_sets: name -> items, for the pictures.
        chain: loading chain of the evaluation.
        output_dir: the run's folder.
        report: whether the cost is measured, and examples and page are written.
        options: ``inferer`` and ``structures`` of `save_examples`.
    """
    finish_record(trainer, output_dir)
    try:
        if not report:
            return
        measure_cost(trainer, output_dir)
        student, device = trainer.distiller.student, trainer.state.device
        save_examples(student, test_sets, chain, output_dir, device, **options)
        logger.info("Report: %s", write_report([output_dir], RunFolder(output_dir).report))
    # whatever goes wrong with the page, the training is done and its files are written
    except Exception as error:
        logger.warning(
            "The run is complete, but its report could not be written (%s: %s). Later: python -m monai_difom report %s",
            type(error).__name__,
            error,
            output_dir,
        )
    finally:
        release_runs()
