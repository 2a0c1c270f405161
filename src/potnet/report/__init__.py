"""Plots and the self-contained HTML report of a training, an evaluation or a dataset."""

from potnet.report.dataset import dataset_report
from potnet.report.landscape import Landscape, landscape, landscape_plot
from potnet.report.page import Report, versions
from potnet.report.plots import (
    explanation_plot,
    learning_curve,
    parity_plot,
    png,
    residual_histogram,
)
from potnet.report.run import add_training, close_report, evaluation_report, training_report
from potnet.report.section import Section, atoms_section, miller_section, telling_section
from potnet.report.series import curve_report, folds_report

__all__ = [
    "Landscape",
    "Report",
    "Section",
    "add_training",
    "curve_report",
    "folds_report",
    "atoms_section",
    "close_report",
    "dataset_report",
    "evaluation_report",
    "explanation_plot",
    "landscape",
    "landscape_plot",
    "learning_curve",
    "miller_section",
    "parity_plot",
    "png",
    "residual_histogram",
    "telling_section",
    "training_report",
    "versions",
]
