"""Figures of a model: parity, residuals, learning curve, ROC curves, and an explanation.

Every function returns a matplotlib ``Figure`` of its own, without pyplot and its global state, so
that they work without a display and from several threads.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from potnet.text import plot_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

    from potnet.explanation import Explanation

BLUE, ORANGE, GREY = "#2563a8", "#d9772b", "#6b7280"
DPI = 150
MANY_POINTS = 2_000
SHOWN_SITES = 20
NEAR, FAR = np.array([0.11, 0.31, 0.55]), np.array([0.80, 0.87, 0.94])  # colours of distances
COLOURS = (BLUE, ORANGE, "#3f8f5b", "#8a4fa3", "#b23a48")  # of the first curves; the rest are grey


def parity_plot(target: ArrayLike, prediction: ArrayLike, *, name: str, unit: str = "") -> Figure:
    """Return a plot of predictions against reference values, mean absolute error in the corner.

    Args:
        target: Reference values, shape (n,).
        prediction: Predicted values, shape (n,).
        name: What is predicted, for the axes.
        unit: Its unit, for the axes and the error.

    Raises:
        ValueError: If the arrays are empty or differ in shape.
    """
    x, y = _pair(target, prediction)
    figure, axes = empty_figure(f"{name}: predicted against reference", width=4.8, height=4.6)
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    margin = 0.04 * (high - low) or 0.5
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, color=GREY, linewidth=1, zorder=1)
    crowded = len(x) > MANY_POINTS
    axes.scatter(
        x, y, s=6 if crowded else 14, alpha=0.35 if crowded else 0.6, color=BLUE, linewidths=0
    )
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.set_xlabel(labelled("reference", unit))
    axes.set_ylabel(labelled("predicted", unit))
    mae = float(np.abs(y - x).mean())
    note = f"MAE {mae:.3g} {plot_text(unit)}".rstrip() + f"\n{len(x):,} crystals"
    axes.text(0.04, 0.96, note, transform=axes.transAxes, va="top", fontsize=10)
    return figure


def residual_histogram(
    target: ArrayLike, prediction: ArrayLike, *, name: str, unit: str = ""
) -> Figure:
    """Return the distribution of predicted minus reference values.

    The axis ends at the 1st and 99th percentile, widened; the share outside is written in the plot.

    Args:
        target: Reference values, shape (n,).
        prediction: Predicted values, shape (n,).
        name: What is predicted, for the title.
        unit: Its unit, for the axis.

    Raises:
        ValueError: If the arrays are empty or differ in shape.
    """
    x, y = _pair(target, prediction)
    residual = y - x
    reach = 1.2 * float(np.abs(np.percentile(residual, [1, 99])).max()) or 1.0
    inside = np.abs(residual) <= reach
    figure, axes = empty_figure(f"{name}: predicted minus reference", width=4.8, height=4.6)
    bins = int(np.clip(np.sqrt(len(residual)) * 2, 10, 80))
    axes.hist(residual[inside], bins=bins, range=(-reach, reach), color=BLUE, alpha=0.85)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.axvline(float(residual.mean()), color=ORANGE, linewidth=1.5, label="mean")
    axes.set_xlabel(labelled("error", unit))
    axes.set_ylabel("crystals")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, loc="upper right")
    if not inside.all():
        note = f"{100 * (1 - inside.mean()):.1f} % outside"
        axes.text(0.04, 0.96, note, transform=axes.transAxes, va="top", fontsize=9, color=GREY)
    return figure


def learning_curve(
    epochs: Sequence[int],
    curves: Mapping[str, Sequence[float]],
    *,
    best: int | None = None,
    label: str = "loss",
) -> Figure:
    """Return losses by epoch, on a logarithmic scale where they are positive.

    Args:
        epochs: Numbers of the epochs, length n.
        curves: Values by name, each of length n; nan where there is none.
        best: Epoch whose weights were kept, marked when given.
        label: What the curves are, for the axis.
    """
    figure, axes = empty_figure("Learning curve", width=9.8, height=3.4)
    colours = (BLUE, ORANGE, GREY, "#3f8f5b")
    positive = True
    for colour, (name, values) in zip(colours, curves.items(), strict=False):
        y = np.asarray(values, dtype=float)
        positive &= bool(np.all(y[np.isfinite(y)] > 0))
        axes.plot(epochs, y, color=colour, linewidth=1.6, label=name)
    if positive:
        axes.set_yscale("log")
    if best is not None:
        axes.axvline(best, color=GREY, linewidth=1, linestyle="--", label=f"best: epoch {best}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.legend(frameon=False)
    return figure


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


def png(figure: Figure) -> bytes:
    """Return a figure as PNG; the same figure gives the same bytes.

    Characters that the font lacks, in names of columns, become boxes without a word.
    """
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def empty_figure(title: str, *, width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure with a title and bare axes; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(plot_text(title), fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def labelled(what: str, unit: str) -> str:
    """Return the label of an axis."""
    return plot_text(f"{what} ({unit})" if unit else what)


def _pair(
    target: ArrayLike, prediction: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(target, dtype=float), np.asarray(prediction, dtype=float)
    if x.shape != y.shape or x.ndim != 1 or not x.size:
        raise ValueError(
            f"plot: `target` and `prediction` must be equally long and not empty, got shapes "
            f"{x.shape} and {y.shape}. Pass one number per crystal."
        )
    return x, y


def explanation_plot(explanation: Explanation) -> Figure:
    """Return a figure: on the left composition, channels and the total, on the right the atoms.

    Channels are divided by distance, and sites are the largest ``SHOWN_SITES``.
    """
    figure = Figure(figsize=(9.8, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    p = explanation.prediction
    value = f"{explanation.property} {p.prediction:.4g} {p.unit}".rstrip()
    title = f"{explanation.id or explanation.formula}: {value}"
    figure.suptitle(plot_text(title), fontsize=11)
    _draw_channels(left, explanation)
    _draw_sites(right, explanation)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.axvline(0, color=GREY, linewidth=1)
        axes.use_sticky_edges = False  # room beside the longest bar
        axes.set_xlabel(labelled("share", explanation.unit))
    return figure


def _draw_channels(axes: Axes, found: Explanation) -> None:
    names = ["composition", *found.channels, "total"]
    axes.barh(0, found.composition, color=GREY)
    axes.barh(len(names) - 1, found.total, color=ORANGE)
    places = np.arange(1, 1 + len(found.channels))
    table = found.by_channel
    for sign in (1, -1):
        start = np.zeros(len(places))
        for d, distance in enumerate(found.distances):
            width = np.clip(sign * table[:, d], 0, None) * sign
            share = d / max(len(found.distances) - 1, 1)
            colour = tuple((1 - share) * NEAR + share * FAR)
            label = distance if sign > 0 else None
            axes.barh(places, width, left=start, color=colour, label=label,
                      edgecolor="white", linewidth=0.5)  # fmt: skip
            start = start + width
    axes.set_yticks(range(len(names)), map(plot_text, names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.legend(frameon=False, fontsize=8)
    axes.set_title("by channel and distance", fontsize=10)


def _draw_sites(axes: Axes, found: Explanation) -> None:
    totals = found.by_atom.sum(1)
    shares = np.array([totals[site].sum() for site in found.sites])
    chosen = np.sort(np.argsort(-np.abs(shares), kind="stable")[:SHOWN_SITES])
    labels = [f"{len(found.sites[k])} × {found.elements[k]}" for k in chosen]
    axes.barh(range(len(chosen)), shares[chosen], color=BLUE)
    axes.set_yticks(range(len(chosen)), labels)
    axes.set_ylim(max(len(chosen), 6) - 0.4, -0.6)
    left_out = len(shares) - len(chosen)
    title = f"by site (the largest {SHOWN_SITES})" if left_out else "by site"
    axes.set_title(title, fontsize=10)
