"""The potential landscape of a crystal: what all its atoms do to a probe, on a plane.

Every point of a picture is a complete sum over all atoms and all their images, certified like any
other sum. Atoms are drawn as the circles in which the plane cuts spheres of the radius ``CORE``;
the potentials inside them, which diverge or mean nothing, are not evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import LogLocator, NullLocator

from latticesums import DEFAULT_POTENTIALS, Potential, unit_of
from potnet.crystal.elements import number_of
from potnet.errors import ConfigError
from potnet.report.section import Section, direction, telling_section
from potnet.sums import point_sums, resolve
from potnet.text import plot_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from potnet.crystal import Crystal

#: Radius of the sphere around an atom that is not evaluated, Å.
CORE = 0.4
#: Atoms this far from the plane are hinted at, Å.
NEAR = 1.3
#: Points along an edge of the picture.
RESOLUTION = 360
#: e / (4 pi epsilon_0) in V Å (CODATA 2022).
VOLTS = 14.399645478

GREY = "#4b5563"


@dataclass(frozen=True)
class Landscape:
    """Potentials on a plane.

    Attributes:
        crystal: What makes them.
        section: The plane.
        width: Edge of the square window in Å.
        values: One map per potential, rows from below, nan inside atoms, shape
            (n_potentials, n, n).
        error_bound: Bound of the absolute error, shape (n_potentials,), in the unit of the values.
        names: Names of the potentials.
        units: Their units, empty where a potential has none.
        charges: Charges of the elements in e, if some were given.
    """

    crystal: Crystal
    section: Section
    width: float
    values: NDArray[np.float64]
    error_bound: NDArray[np.float64]
    names: tuple[str, ...]
    units: tuple[str, ...]
    charges: Mapping[str, float]


def landscape(
    crystal: Crystal,
    potentials: Sequence[Potential | str] = DEFAULT_POTENTIALS,
    *,
    section: Section | None = None,
    width: float | None = None,
    charges: Mapping[str, float] | None = None,
    tolerance: float = 1e-6,
    n: int = RESOLUTION,
) -> Landscape:
    """Return the potentials of a crystal on a plane that cuts it.

    Args:
        crystal: The crystal.
        potentials: Potentials or their names.
        section: The plane; by default the one of low indices that holds most kinds of atoms.
        width: Edge of the window in Å; by default a little over two periods.
        charges: Charge of each element in e, for "coulomb", which is then in volts; without them
            every atom counts as a unit charge in a uniform background.
        tolerance: Largest absolute error of a value, in the unit of the sum.
        n: Points along an edge.

    Raises:
        ConfigError: If a charge is missing, or ``width`` is not between 1 and 200 Å.
    """
    chosen = resolve(potentials)
    section = telling_section(crystal) if section is None else section
    width = _default_width(section) if width is None else width
    if not 1 <= width <= 200:
        raise ConfigError(f"landscape: `width` must be 1 to 200 Å, got {width}. Give another one.")
    weights = np.ones((crystal.n_atoms, len(chosen)))
    scale = np.ones(len(chosen))
    units = [unit_of(potential) for potential in chosen]
    for p, potential in enumerate(chosen):
        if charges and potential.name == "coulomb":
            weights[:, p] = _charges(crystal, charges)
            scale[p], units[p] = VOLTS, "V"
    points = section.points(width, n)
    outside = _outside_atoms(crystal, section, points, width)
    sums = point_sums(crystal, points[outside], chosen, weights=weights, tolerance=tolerance)
    values = np.full((len(points), len(chosen)), np.nan)
    values[outside] = sums.values * scale
    return Landscape(
        crystal=crystal,
        section=section,
        width=width,
        values=np.moveaxis(values.reshape(n, n, -1), -1, 0),
        error_bound=sums.error_bound * scale,
        names=sums.potentials,
        units=tuple(units),
        charges=dict(charges or {}),
    )


def landscape_plot(maps: Landscape) -> Figure:
    """Return the maps side by side: atoms marked, faces of cells and lines of equal value drawn."""
    n = len(maps.names)
    columns = min(n, 3)
    rows = -(-n // columns)
    figure = Figure(figsize=(4.6 * columns, 4.1 * rows + 0.75), layout="constrained")
    name = maps.crystal.id or _formula(maps.crystal)
    figure.suptitle(f"{name}, plane {maps.section.name}", fontsize=13)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for p, axes in enumerate(grid[:n]):
        ink = _draw_map(axes, maps, p)
        _draw_cells(axes, maps, ink)
        _draw_atoms(axes, maps)
        _name_axes(axes, maps.section, first=p % columns == 0)
    for axes in grid[n:]:
        axes.remove()
    figure.supxlabel(_caption(maps), fontsize=8.5, color=GREY)
    return figure


def _caption(maps: Landscape) -> str:
    errors = ", ".join(
        f"{bound:.0e} {_set_high(unit)}".rstrip()
        for bound, unit in zip(maps.error_bound, maps.units, strict=True)
    )
    return (
        f"Complete sums over all atoms and their images, errors below {errors}. "
        f"Lines: faces of the cells. Open circles: atoms up to {NEAR:g} Å off the plane."
    )


def _default_width(section: Section) -> float:
    lengths = np.linalg.norm(section.periods, axis=1)
    typical = np.exp(np.log(lengths).mean()) if lengths.size else 5.0
    return float(np.clip(2.3 * typical, 8.0, 20.0))


def _charges(crystal: Crystal, charges: Mapping[str, float]) -> NDArray[np.float64]:
    by_number = {number_of(symbol, "charges"): charge for symbol, charge in charges.items()}
    missing = sorted({s for s in crystal.symbols if number_of(s, "") not in by_number})
    if missing:
        raise ConfigError(
            f"landscape: `charges` must hold every element of the crystal, got none for "
            f"{', '.join(missing)}. Add them, or leave all charges out."
        )
    return np.array([by_number[number] for number in crystal.numbers.tolist()])


def _outside_atoms(
    crystal: Crystal, section: Section, points: NDArray[np.float64], width: float
) -> NDArray[np.bool_]:
    """Return which points are at least ``CORE`` from every atom."""
    _, places = section.atoms(crystal, width, CORE)
    flat = (points - section.origin) @ np.stack([section.across, section.up]).T
    outside = np.ones(len(points), dtype=bool)
    for x, y, height in places:
        outside &= (flat[:, 0] - x) ** 2 + (flat[:, 1] - y) ** 2 + height**2 >= CORE**2
    return outside


def _draw_map(axes: Axes, maps: Landscape, p: int) -> str:
    """Draw one map with its colour bar; return the colour that lines are seen in on it."""
    values, half = maps.values[p], maps.width / 2
    seen = values[np.isfinite(values)]
    if not seen.size:
        raise ConfigError(
            f"landscape: `width` must reach beyond an atom, got {maps.width:g} Å. "
            "Give a larger one."
        )
    signed = maps.names[p] == "coulomb" or seen.min() <= 0
    high = float(np.percentile(np.abs(seen), 98.5)) or 1.0
    low = -high if signed else min(float(seen.min()), 0.99 * high)
    if signed:
        norm, levels = Normalize(low, high), np.linspace(low, high, 17)[1:-1]
        colours, ink, ends = "RdBu_r", "#1f2937", "both"
    else:
        norm, levels = LogNorm(low, high), np.geomspace(low, high, 13)[1:-1]
        colours, ink, ends = ("viridis" if maps.units[p] == "" else "magma"), "white", "max"
    extent = (-half, half, -half, half)
    image = axes.imshow(
        values, origin="lower", extent=extent, cmap=colours, norm=norm, interpolation="bilinear"
    )
    axes.contour(
        values, levels=levels, origin="lower", extent=extent, colors=ink, linewidths=0.5, alpha=0.45
    )
    axes.set_title(_title(maps, p), fontsize=11)
    side = _bar_frame(axes)
    bar = axes.figure.colorbar(image, cax=side, extend=ends)
    if not signed:
        steps = (1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 4, 5, 6, 8)
        side.yaxis.set_major_locator(LogLocator(subs=steps))
        side.yaxis.set_major_formatter("{x:g}")
        side.yaxis.set_minor_locator(NullLocator())
    bar.ax.set_title(_set_high(maps.units[p]), fontsize=9, loc="left", pad=12)
    bar.ax.tick_params(labelsize=8)
    return ink


def _bar_frame(axes: Axes) -> Axes:
    """Return a narrow frame to the right, as high as the picture."""
    return axes.inset_axes((1.03, 0.04, 0.045, 0.92))


def _draw_cells(axes: Axes, maps: Landscape, ink: str) -> None:
    """Draw the lines in which the plane cuts the faces of all cells."""
    section, half = maps.section, maps.width / 2
    inverse = np.linalg.inv(maps.crystal.cell)
    start = section.origin @ inverse
    slopes = np.stack([section.across, section.up]) @ inverse
    for axis in np.flatnonzero(maps.crystal.pbc):
        slope = slopes[:, axis]
        steep = float(np.hypot(*slope))
        if steep < 1e-9:
            continue
        reach = half * np.abs(slope).sum()
        first, last = np.ceil(start[axis] - reach), np.floor(start[axis] + reach)
        for number in np.arange(first, last + 1):
            # slope . place = number - start: the nearest place to the origin, then along the line
            foot = slope * (number - start[axis]) / steep**2
            along = np.array([-slope[1], slope[0]]) / steep
            ends = foot[:, None] + along[:, None] * np.array([-1.5, 1.5]) * half
            axes.plot(*ends, color=ink, linewidth=0.9, alpha=0.6, zorder=3)
    axes.set(xlim=(-half, half), ylim=(-half, half))


def _draw_atoms(axes: Axes, maps: Landscape) -> None:
    """Draw atoms as the plane cuts them, and hint at those that it just misses."""
    from ase.data.colors import jmol_colors

    crystal, half = maps.crystal, maps.width / 2
    found, places = maps.section.atoms(crystal, maps.width, NEAR)
    size = float(np.clip(270 * CORE / maps.width, 5.0, 9.0))  # about the radius, in points
    for atom, (x, y, height) in zip(found.tolist(), places.tolist(), strict=True):
        if max(abs(x), abs(y)) > half + CORE:
            continue
        colour = 0.85 * np.array(jmol_colors[crystal.numbers[atom]]) + 0.12  # softened
        if abs(height) > 0.9 * CORE:
            for colour, width in (("white", 2.0), ("black", 0.8)):
                ring = Circle((x, y), 0.5 * CORE, fill=False, color=colour, linewidth=width)
                axes.add_patch(ring)
                ring.set(alpha=0.7, zorder=4)
            continue
        radius = np.sqrt(CORE**2 - height**2)
        axes.add_patch(
            Circle((x, y), 1.06 * radius, facecolor=colour, edgecolor="black", lw=0.7, zorder=4)
        )
        dark = colour @ (0.299, 0.587, 0.114) < 0.5  # perceived brightness
        axes.text(
            x, y, crystal.symbols[atom], ha="center", va="center_baseline", fontsize=size,
            color="white" if dark else "black", zorder=5, clip_on=True,
        )  # fmt: skip


def _name_axes(axes: Axes, section: Section, *, first: bool) -> None:
    along = direction(section.steps[0]) if len(section.steps) else ""
    axes.set_xlabel(f"along {along} (Å)" if along else "Å", fontsize=9)
    if first:
        upright = len(section.steps) == 2 and abs(section.periods[1] @ section.across) < 1e-6
        axes.set_ylabel(
            f"along {direction(section.steps[1])} (Å)" if upright else "at a right angle (Å)",
            fontsize=9,
        )
    axes.tick_params(labelsize=8)


def _title(maps: Landscape, p: int) -> str:
    name = maps.names[p]
    titles = {
        "coulomb": "Coulomb, $1/r$, unit charges",
        "london": "London, $r^{-6}$",
        "pauli": "Pauli, $\\exp(-3r)$",
    }
    if name == "coulomb" and maps.charges:
        charges = ", ".join(f"{symbol} {charge:+g}" for symbol, charge in maps.charges.items())
        return f"Coulomb, $1/r$, charges {charges}".replace("-", "\N{MINUS SIGN}")
    return titles.get(name) or plot_text(name)


def _formula(crystal: Crystal) -> str:
    """Return the formula with its numbers set low."""
    return "".join(f"$_{{{c}}}$" if c.isdigit() else c for c in crystal.formula)


def _set_high(unit: str) -> str:
    """Return a unit with its exponent set high."""
    return re.sub(r"\^([^\s$\\]+)", r"$^{\1}$", plot_text(unit))
