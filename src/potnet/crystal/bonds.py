"""Bonds as a picture of a crystal shows them, through the boundary of the cell too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from potnet.crystal.radii import covalent_radii

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_DRAWN = 400  # atoms of a cell whose bonds are looked for
SLACK = 1.25  # of the sum of two covalent radii: what is nearer is drawn as a bond
_NONMETALS = (1, 2, *range(5, 11), *range(14, 19), *range(32, 37), *range(51, 55))


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
