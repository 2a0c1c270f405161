"""Crystals as notebooks show them: a picture that turns, in a frame of its own, without network."""

from __future__ import annotations

import json
from html import escape
from itertools import product
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from potnet.crystal.elements import covalent_radii

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_DRAWN = 400  # atoms of a cell whose bonds are looked for
SLACK = 1.25  # of the sum of two covalent radii: what is nearer is drawn as a bond
_NONMETALS = (1, 2, *range(5, 11), *range(14, 19), *range(32, 37), *range(51, 55))
PAGE = Path(__file__).parent / "viewer.html"
MAX_PICTURED = 1_000  # atoms; larger cells are told in words
SIZE = 0.45  # of the covalent radius


class Drawable(Protocol):
    """What a picture needs of a :class:`~potnet.crystal.Crystal`."""

    @property
    def numbers(self) -> NDArray[np.int64]: ...
    @property
    def positions(self) -> NDArray[np.float64]: ...
    @property
    def cell(self) -> NDArray[np.float64]: ...
    @property
    def pbc(self) -> NDArray[np.bool_]: ...
    @property
    def n_atoms(self) -> int: ...


def drawn_bonds(crystal: Drawable) -> list[tuple[int, int, tuple[int, int, int]]]:
    """Return the bonds that leave each atom: its number, that of the other, and the cell it is in.

    Two atoms are bonded where they are nearer than the sum of their covalent radii and a little;
    metals are not bonded with each other where there is anything else. Each bond is there once;
    none are looked for in cells of more than ``MAX_DRAWN`` atoms. :mod:`potnet.crystal.layers`
    has bonds that mean something.
    """
    if crystal.n_atoms > MAX_DRAWN:
        return []
    radii = covalent_radii(crystal.numbers)
    reach = SLACK * (radii[:, None] + radii)
    is_metal = ~np.isin(crystal.numbers, _NONMETALS)
    if not is_metal.all():
        reach[is_metal[:, None] & is_metal] = 0
    spans = [(-1, 0, 1) if periodic else (0,) for periodic in crystal.pbc]
    shifts = np.stack(np.meshgrid(*spans, indexing="ij"), -1).reshape(-1, 3)
    found = []
    for shift in shifts[np.lexsort(shifts.T)]:
        a, b, c = map(int, shift)
        apart = crystal.positions + shift @ crystal.cell - crystal.positions[:, None]
        near = np.linalg.norm(apart, axis=-1) < reach
        for i, j in np.argwhere(near).tolist():
            # Each bond and its reverse are found: the one whose shift is the larger stays.
            if (a, b, c) > (0, 0, 0) or (not shift.any() and i < j):
                found.append((i, j, (a, b, c)))
    return found


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
