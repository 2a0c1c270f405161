"""The page of a sheet: each crystal with its picture, its properties and what is known of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from potnet.errors import FAILURE_COLUMNS
from potnet.report.page import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from potnet.crystal import Crystal
    from potnet.errors import Failure
    from potnet.sheet import Row

PICTURED_ATOMS = 400
HEADER = ("property", "value", "lower", "upper", "unit", "known", "level of theory", "remarks")


def write_page(
    path: str | os.PathLike[str],
    sheets: Sequence[Sequence[Row]],
    crystals: Sequence[Crystal],
    failures: Sequence[Failure] = (),
    n_crystals: int | None = None,
) -> None:
    """Write the page of some crystals.

    Args:
        path: The file to write.
        sheets: The rows of each crystal.
        crystals: The crystals, as far as they are at hand; found by id and number of atoms.
        failures: What could not be used.
        n_crystals: How many crystals there are in all, if the page does not hold them all.
    """
    n_crystals = len(sheets) if n_crystals is None else n_crystals
    shown = "" if n_crystals == len(sheets) else f" The first {len(sheets)} are on this page."
    lead = f"{n_crystals} crystals, {len(failures)} skipped.{shown}"
    report = Report("What these crystals are predicted to be", lead)
    pictures = {(crystal.id, crystal.n_atoms): crystal for crystal in crystals}
    for rows in sheets:
        first = rows[0]
        report.heading(f"{first.id}: {first.formula}")
        tiles = {"atoms": str(first.n_atoms), "space group": first.space_group or "none found"}
        for row in rows:
            if row.property == "density":
                tiles["density"] = f"{row.value:.4g} {row.unit}"
        report.tiles(tiles)
        crystal = pictures.get((first.id, first.n_atoms))
        if crystal is not None and crystal.n_atoms <= PICTURED_ATOMS:
            report.figures({f"atoms of {first.formula}, from two sides": picture(crystal)})
        report.table(HEADER, [cells(row) for row in rows if row.property != "density"])
    if failures:
        report.heading("Skipped")
        report.table(FAILURE_COLUMNS, [(f.id, f.stage, f.reason) for f in failures])
    report.write(path)


def cells(row: Row) -> list[str]:
    """Return a row as people read it."""
    numbers = [
        "" if value != value else f"{value:.4g}"
        for value in (row.value, row.lower, row.upper, row.reference)
    ]
    remarks = "; ".join(filter(None, (*row.flags, row.note)))
    level = row.level_of_theory or row.model
    return [row.property, *numbers[:3], row.unit, numbers[3], level, remarks]


def picture(crystal: Crystal) -> Figure:
    """Return a plot of the atoms of the cell from two sides."""
    from ase.visualize.plot import plot_atoms
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    for k, rotation in enumerate(("10x,-20y,0z", "-80x,20y,0z")):
        axes = figure.add_subplot(1, 2, k + 1)
        plot_atoms(crystal.to_ase(), axes, rotation=rotation)
        axes.set_axis_off()
    return figure
