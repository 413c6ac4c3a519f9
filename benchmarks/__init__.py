"""Timings of xconv beside its peers, all in one process: ``python -m benchmarks``."""
