"""Write the textbook crystals of ``examples/crystals``, in the formats that people have.

Run from the root of the repository: ``python scripts/make_example_crystals.py``.
Lattice constants and coordinates are rounded textbook values.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from potnet import Crystal, read, write

FOLDER = Path(__file__).parent.parent / "examples" / "crystals"


class Textbook(NamedTuple):
    """A crystal as books print it: space group, cell in Å and degrees, and one atom per site."""

    name: str
    group: str
    cell: tuple[float, float, float, float, float, float]
    sites: str
    file: str

    def cif(self) -> str:
        """Return the crystal as CIF with its space group."""
        tags = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
        lines = [f"data_{self.name}"]
        lines += [f"_cell_{tag} {value:g}" for tag, value in zip(tags, self.cell, strict=True)]
        lines += [f"_space_group_name_H-M_alt '{self.group}'", "loop_"]
        lines += [f"_atom_site_{tag}" for tag in ("label", "type_symbol")]
        lines += [f"_atom_site_fract_{axis}" for axis in "xyz"]
        for index, site in enumerate(self.sites.split(";"), start=1):
            symbol, x, y, z = site.split()
            lines.append(f"{symbol}{index} {symbol} {x} {y} {z}")
        return "\n".join(lines) + "\n"


def cubic(a: float) -> tuple[float, float, float, float, float, float]:
    return a, a, a, 90, 90, 90


def hexagonal(a: float, c: float) -> tuple[float, float, float, float, float, float]:
    return a, a, c, 90, 90, 120


CRYSTALS = (
    Textbook("NaCl", "F m -3 m", cubic(5.64), "Na 0 0 0; Cl 0.5 0.5 0.5", "NaCl.cif"),
    Textbook(
        "TiO2-rutile",
        "P 42/m n m",
        (4.594, 4.594, 2.959, 90, 90, 90),
        "Ti 0 0 0; O 0.3053 0.3053 0",
        "TiO2-rutile.cif",
    ),
    Textbook(
        "SiO2-quartz",
        "P 32 2 1",
        hexagonal(4.913, 5.405),
        "Si 0.4697 0 0.666666666667; O 0.4135 0.2669 0.7858",
        "SiO2-quartz.cif",
    ),
    Textbook(
        "Al2O3-corundum",
        "R -3 c:H",
        hexagonal(4.759, 12.993),
        "Al 0 0 0.3522; O 0.3063 0 0.25",
        "Al2O3-corundum.cif",
    ),
    Textbook(
        "SrTiO3", "P m -3 m", cubic(3.905), "Sr 0 0 0; Ti 0.5 0.5 0.5; O 0.5 0.5 0", "SrTiO3.cif"
    ),
    Textbook("Si", "F d -3 m:1", cubic(5.431), "Si 0 0 0", "Si.vasp"),
    Textbook("MgO", "F m -3 m", cubic(4.212), "Mg 0 0 0; O 0.5 0.5 0.5", "MgO.vasp"),
    Textbook("Fe", "I m -3 m", cubic(2.866), "Fe 0 0 0", "POSCAR-Fe"),
    Textbook("C-diamond", "F d -3 m:1", cubic(3.567), "C 0 0 0", "C-diamond.extxyz"),
    Textbook("CaF2", "F m -3 m", cubic(5.463), "Ca 0 0 0; F 0.25 0.25 0.25", "CaF2.extxyz"),
    Textbook(
        "GaN-wurtzite",
        "P 63 m c",
        hexagonal(3.189, 5.185),
        "Ga 0.333333333333 0.666666666667 0; N 0.333333333333 0.666666666667 0.377",
        "GaN-wurtzite.xsf",
    ),
    Textbook("Cu", "F m -3 m", cubic(3.615), "Cu 0 0 0", "Cu.json"),
)


def primitive(path: Path) -> Crystal:
    """Return the primitive cell of a CIF without the last digits' noise."""
    (crystal,) = read(path)
    crystal = crystal.primitive()
    cell, positions = (np.round(a, 9) + 0.0 for a in (crystal.cell, crystal.positions))
    return crystal.replace(cell=cell, positions=positions)


def main() -> None:
    FOLDER.mkdir(exist_ok=True, parents=True)
    for textbook in CRYSTALS:
        path = FOLDER / textbook.file
        cif = path if path.suffix == ".cif" else path.with_name(f"{textbook.name}.cif")
        cif.write_text(textbook.cif(), encoding="utf-8")
        if cif != path:
            write(primitive(cif), path)
            cif.unlink()


if __name__ == "__main__":
    main()
