"""A picture of an explanation: what composition, channels, distances and atoms add."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from potnet.report.plots import BLUE, GREY, ORANGE, labelled
from potnet.text import plot_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from potnet.explanation import Explanation

SHOWN_SITES = 20
NEAR, FAR = np.array([0.11, 0.31, 0.55]), np.array([0.80, 0.87, 0.94])  # colours of distances


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
