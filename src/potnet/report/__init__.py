"""Plots and the self-contained HTML report of a training or an evaluation."""

from potnet.report.html import Report, versions
from potnet.report.plots import learning_curve, parity_plot, png, residual_histogram
from potnet.report.run import add_training, close_report, evaluation_report, training_report

__all__ = [
    "Report",
    "add_training",
    "close_report",
    "evaluation_report",
    "learning_curve",
    "parity_plot",
    "png",
    "residual_histogram",
    "training_report",
    "versions",
]
