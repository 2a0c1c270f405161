"""Figures of a trained model: parity, residuals, learning curve.

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

BLUE, ORANGE, GREY = "#2563a8", "#d9772b", "#6b7280"
DPI = 150
MANY_POINTS = 2_000


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
