"""Crystals as notebooks show them: a picture that turns, in a frame of its own, without network."""

from __future__ import annotations

import json
from html import escape
from itertools import product
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from potnet.crystal.bonds import Drawable, drawn_bonds
from potnet.crystal.radii import covalent_radii

PAGE = Path(__file__).parent / "viewer.html"
MAX_PICTURED = 1_000  # atoms; larger cells are told in words
SIZE = 0.45  # of the covalent radius


def crystal_html(crystal: Drawable) -> str:
    """Return a line about a crystal, and below it the crystal in three dimensions.

    The picture stands in a frame without rights (no origin, no network of the notebook), and
    whatever a file said of the crystal is escaped.
    """
    about = f"<code>{escape(repr(crystal))}</code>"
    if crystal.n_atoms > MAX_PICTURED:
        return f"<div>{about}</div>"
    # In a script, no text may end the script.
    scene = json.dumps(_scene(crystal)).replace("<", "\\u003c")
    page = Template(PAGE.read_text("utf-8")).substitute(SCENE=scene)
    frame = (
        f'<iframe sandbox="allow-scripts" srcdoc="{escape(page)}" '
        'style="width:100%;max-width:420px;height:264px;border:0" title="crystal"></iframe>'
    )
    return f"<div>{about}<br>{frame}</div>"


def _scene(crystal: Drawable) -> dict[str, Any]:
    """Return points about the middle of the cell, what is bonded, and the edges of the cell."""
    from ase.data.colors import jmol_colors

    bonds = drawn_bonds(crystal)
    # Each atom of the cell, then the images of others that bonds through the boundary reach.
    places: dict[tuple[int, tuple[int, int, int]], int] = {
        (atom, (0, 0, 0)): atom for atom in range(crystal.n_atoms)
    }
    for _, j, shift in bonds:
        places.setdefault((j, shift), len(places))
    atoms = np.array([atom for atom, _ in places])
    shifts = np.array([shift for _, shift in places])
    points = crystal.positions[atoms] + shifts @ crystal.cell
    corners = np.array(list(product((0, 1), repeat=3)))
    first = len(points)
    points = np.concatenate([points, corners @ crystal.cell])
    middle = crystal.cell.sum(0) / 2
    colours = (255 * jmol_colors[crystal.numbers[atoms]]).round().astype(int)
    steps = np.abs(corners[:, None] - corners).sum(-1)
    return {
        "title": repr(crystal),
        "points": (points - middle).round(3).tolist(),
        "colours": ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colours.tolist()],
        "radii": (SIZE * covalent_radii(crystal.numbers[atoms])).round(3).tolist(),
        "bonds": [[i, places[j, shift]] for i, j, shift in bonds],
        "edges": [[first + a, first + b] for a, b in np.argwhere(steps == 1).tolist() if a < b],
    }
