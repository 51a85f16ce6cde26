"""What a person asks for in one command: evaluate a student, summarise, compare and report runs, try the demo."""

from ..engines.feature_builder import FeatureBuilder
from .autolabel.adapt import Adaptation
from .autolabel.adapted import adapted_weights
from .bundle.command_line import check_images, check_overrides
from .bundle.current_config import running_settings
from .bundle.pretrain import pretrain_encoder
from .bundle.stages import (
    check_transfer_set,
    join_stages,
    keep_best,
    last_checkpoint,
    run_ids,
    run_stage,
    start_encoder,
    start_student,
)
from .bundle.synthesize import generate_images, synthesize, train_diffusion
from .export.encoder import describe_run, export_encoder
from .export.trained_bundle import check_bundle, write_trained_bundle
from .label.training import start_label_run, train_on_labels
from .report import conclude, write_report
from .runs.record import finish_record, start_record
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

__all__ = [
    "Adaptation",
    "FeatureBuilder",
    "FolderScores",
    "adapted_weights",
    "check_bundle",
    "check_images",
    "check_overrides",
    "check_student",
    "check_transfer_set",
    "conclude",
    "describe_run",
    "evaluate_bundle",
    "evaluate_folders",
    "evaluate_set",
    "evaluate_sets",
    "export_encoder",
    "finish_record",
    "generate_images",
    "join_stages",
    "keep_best",
    "last_checkpoint",
    "predict_probability",
    "predict_structures",
    "pretrain_encoder",
    "run_ids",
    "run_stage",
    "running_settings",
    "score_table",
    "start_encoder",
    "start_label_run",
    "start_record",
    "start_student",
    "summarize",
    "synthesize",
    "train_diffusion",
    "train_on_labels",
    "write_report",
    "write_scores",
    "write_trained_bundle",
]
