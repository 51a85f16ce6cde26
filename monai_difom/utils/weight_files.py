"""How the weight files of a training, and of a MONAI Bundle, are called: one place for writers and readers."""

from __future__ import annotations

MODELS = "models"  # the folder, of a run and of a bundle
STATE = "last.pt"  # the training state, to resume from
STATE_BEFORE = "last_before.pt"  # the one before, for when the last is damaged
STUDENT = "model.pt"  # the best student
LAST_STUDENT = "last_model.pt"  # the student after the last epoch
BUNDLE_WEIGHTS = f"{MODELS}/{STUDENT}"  # MONAI's own place for the weights of a bundle
KEPT = (
    "best",
    "last",
)  # which student the first one may be: the best by validation, or that after the last epoch
