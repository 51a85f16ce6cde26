"""What a person asks for in one command: evaluate a student, summarise, compare and report runs, try the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..utils.lazy import lazy_names

if TYPE_CHECKING:
    from ..engines.feature_builder import FeatureBuilder
    from .autolabel.adapt import Adaptation
    from .autolabel.adapted import adapted_weights
    from .autolabel.label import label_images
    from .bundle.command_line import check_images, check_overrides
    from .bundle.current_config import running_settings
    from .bundle.extra_images import check_soft_masks, check_unlabelled_images
    from .bundle.pretrain import pretrain_encoder
    from .bundle.stages import (
        check_transfer_set,
        join_stages,
        last_checkpoint,
        load_kept,
        run_ids,
        run_stage,
        start_encoder,
        start_student,
    )
    from .bundle.synthesize import generate_images, synthesize, train_diffusion
    from .export.encoder import describe_run, export_encoder
    from .export.preparation import check_preparation
    from .export.trained_bundle import check_bundle, write_trained_bundle
    from .label.training import start_label_run, train_on_labels
    from .report import conclude, write_report
    from .runs.claim import claim_run, release_runs
    from .runs.record import finish_record, run_training, start_record
    from .runs.summary import summarize
    from .scoring.evaluate import (
        check_student,
        evaluate_bundle,
        evaluate_set,
        evaluate_sets,
        predict_probability,
        predict_structures,
    )
    from .scoring.folders import FolderScores, evaluate_folders
    from .scoring.score_files import score_table, write_scores
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            ".engines.feature_builder": "FeatureBuilder",
            "autolabel.adapt": "Adaptation",
            "autolabel.adapted": "adapted_weights",
            "autolabel.label": "label_images",
            "bundle.command_line": "check_images check_overrides",
            "bundle.current_config": "running_settings",
            "bundle.extra_images": "check_soft_masks check_unlabelled_images",
            "bundle.pretrain": "pretrain_encoder",
            "bundle.stages": (
                "check_transfer_set join_stages last_checkpoint load_kept run_ids run_stage start_encoder "
                "start_student"
            ),
            "bundle.synthesize": "generate_images synthesize train_diffusion",
            "export.encoder": "describe_run export_encoder",
            "export.preparation": "check_preparation",
            "export.trained_bundle": "check_bundle write_trained_bundle",
            "label.training": "start_label_run train_on_labels",
            "report": "conclude write_report",
            "runs.claim": "claim_run release_runs",
            "runs.record": "finish_record run_training start_record",
            "runs.summary": "summarize",
            "scoring.evaluate": (
                "check_student evaluate_bundle evaluate_set evaluate_sets predict_probability "
                "predict_structures"
            ),
            "scoring.folders": "FolderScores evaluate_folders",
            "scoring.score_files": "score_table write_scores",
        },
    )
