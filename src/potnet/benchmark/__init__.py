"""Benchmarks that others can repeat: exact crystals and folds, sealed test targets, paired tests.

A *suite* says which crystals and which folds; a *contestant* learns and predicts; a *row* is one
contestant with fixed settings on one suite, and a folder.
"""

from potnet.benchmark.contestants import Contestant, Job, Outcome
from potnet.benchmark.opened import OpenSuite, open_suite
from potnet.benchmark.run import run
from potnet.benchmark.scoring import TableRow
from potnet.benchmark.statistics import Comparison, compare
from potnet.benchmark.suites import SUITES, Suite, Task

__all__ = [
    "SUITES",
    "Comparison",
    "Contestant",
    "Job",
    "OpenSuite",
    "Outcome",
    "Suite",
    "TableRow",
    "Task",
    "compare",
    "open_suite",
    "run",
]
