"""MONAI Label: serve an exported student, and let it learn from new labels."""
