"""Benchmarks that others can repeat: exact crystals and folds, sealed test targets, paired tests.

A *suite* says which crystals and which folds; a *contestant* learns and predicts; a *row* is one
contestant with fixed settings on one suite, and a folder.
"""

from potnet.benchmark.contestants import Contestant, Job, Outcome
from potnet.benchmark.run import Row, run
from potnet.benchmark.statistics import Comparison, compare
from potnet.benchmark.suites import SUITES, OpenSuite, Suite, Task, open_suite

__all__ = [
    "SUITES",
    "Comparison",
    "Contestant",
    "Job",
    "OpenSuite",
    "Outcome",
    "Row",
    "Suite",
    "Task",
    "compare",
    "open_suite",
    "run",
]
