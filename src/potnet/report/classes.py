"""Classes in a report: right answers, ROC curves, and what is taken for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from potnet.report.plots import BLUE, GREY, ORANGE, empty_figure
from potnet.text import plot_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from potnet.report.page import Report

RARE = 0.1  # Share of the crystals below which a class is said to be rare.
COLOURS = (BLUE, ORANGE, "#3f8f5b", "#8a4fa3", "#b23a48")  # of the first curves; the rest are grey
MOST_SHOWN = 12  # classes in the table of what is taken for what


def add_classes(
    report: Report, name: str, metrics: Mapping[str, Any], crystals: str, curves: Figure
) -> None:
    """Add how good the classes of one property are.

    Args:
        report: What is added to.
        name: The property.
        metrics: What :func:`potnet.training.classification.class_metrics` returned, or
            ``binary_metrics``, whose classes are 0 and 1.
        crystals: What the crystals are, in words.
        curves: What :func:`roc_curves` draws.
    """
    classes = metrics.get("classes", ["0", "1"])
    confusion = np.array(metrics["confusion"])
    counts, n = confusion.sum(1), metrics["n"]
    report.heading(f"{name}: {n:,} {crystals}")
    tiles = {"right answers": f"{100 * metrics['accuracy']:.1f} %"}
    tiles["by the most frequent answer"] = f"{100 * metrics['baseline_accuracy']:.1f} %"
    for key, what in (("balanced_accuracy", "mean over the classes"), ("f1", "F1")):
        if metrics[key] is not None:
            tiles[what] = f"{metrics[key]:.3f}"
    if metrics["roc_auc"] is not None:
        tiles["ROC-AUC"] = f"{metrics['roc_auc']:.3f}"
    report.tiles(tiles)
    rare = [word for word, count in zip(classes, counts, strict=True) if count < RARE * n]
    if rare:
        report.text(
            f"Rare classes, below {100 * RARE:.0f} % of these crystals: {', '.join(rare)}. Where "
            "classes are uneven, right answers alone say little; F1 and the mean over the classes "
            "count each class alike."
        )
    report.figures({f"{name}: ROC curves": curves})
    shown = np.argsort(-counts, kind="stable")[:MOST_SHOWN]
    rows = [[classes[k], *confusion[k, shown].tolist(), int(counts[k])] for k in shown]
    header = ["reference", *(f"said {classes[k]}" for k in shown), "all"]
    report.table(header, rows, "What is taken for what")


def roc_curves(
    name: str, curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> Figure:
    """Return a plot of the share that is found against the share of false alarms.

    Args:
        name: The property.
        curves: Truth (0 or 1) and probability of each class, shapes (n,), by class.
    """
    figure, axes = empty_figure(f"{name}: ROC curves", width=4.8, height=4.6)
    axes.plot((0, 1), (0, 1), color=GREY, linewidth=1, linestyle="--")
    for k, (word, (target, chance)) in enumerate(curves.items()):
        if not 0 < target.sum() < len(target):
            continue
        x, y = _curve(target, chance)
        colour = COLOURS[k] if k < len(COLOURS) else GREY
        axes.plot(x, y, color=colour, linewidth=1.6, label=plot_text(word))
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xlabel("share of the others taken for it")
    axes.set_ylabel("share found")
    if 1 < len(curves) <= len(COLOURS) and axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="lower right")
    return figure


def _curve(
    target: NDArray[np.float64], chance: NDArray[np.float64]
) -> tuple[Sequence[float], Sequence[float]]:
    """Return false alarms and finds for all thresholds; equal probabilities are one step."""
    order = np.argsort(-chance, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(chance[order])), len(order) - 1)
    found, false = np.cumsum(target[order])[ends], np.cumsum(1 - target[order])[ends]
    return [0.0, *(false / false[-1]).tolist()], [0.0, *(found / found[-1]).tolist()]
