"""The folder of a run: what was trained with what, its figures and pictures, and comparisons of runs."""
