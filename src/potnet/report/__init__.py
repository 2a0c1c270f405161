"""Plots and the self-contained HTML report of a training or an evaluation."""

from potnet.report.html import Report, versions
from potnet.report.plots import learning_curve, parity_plot, png, residual_histogram

__all__ = ["Report", "learning_curve", "parity_plot", "png", "residual_histogram", "versions"]
