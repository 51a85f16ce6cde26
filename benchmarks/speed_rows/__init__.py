"""The rows of ``benchmarks/speed.py``: functions that take its `Setting` and return figures."""
