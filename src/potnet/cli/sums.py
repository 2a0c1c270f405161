"""``potnet sums``: potentials summed over all images of every pair of atoms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from potnet.cli.app import app, check_suffix, given
from potnet.cli.terminal import SHOWN_ROWS, show_table
from potnet.errors import ConfigError
from potnet.files import check_output

if TYPE_CHECKING:
    from latticesums import LatticeSums, Potential
    from potnet.crystal import Crystal
    from potnet.report import Section

TABLES = (".json", ".npz")
PICTURES = (".png", ".svg", ".pdf")


@app.command(rich_help_panel="Crystals")
def sums(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A structure file.")],
    potential: Annotated[
        list[str] | None,
        typer.Option(
            "--potential",
            "-p",
            help="coulomb, london, pauli, or one with numbers such as inverse-power:4 or "
            "yukawa:0.5 (lengths in Å); may be repeated.",
        ),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Largest absolute error of a sum.")] = 1e-8,
    relative: Annotated[
        bool, typer.Option("--relative", help="Make the tolerance relative to each sum.")
    ] = False,
    index: Annotated[
        int | None, typer.Option(min=0, help="Which structure of the file, from 0.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write: .json or .npz.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Picture of the potentials on a plane: .png, .svg or .pdf."),
    ] = None,
    plane: Annotated[
        str | None, typer.Option(metavar="H,K,L", help="Miller indices of the plane to plot.")
    ] = None,
    atom: Annotated[int, typer.Option(help="Atom that this plane goes through, from 0.")] = 0,
    through: Annotated[
        str | None, typer.Option(metavar="I,J,K", help="Plot the plane through three atoms.")
    ] = None,
    width: Annotated[float | None, typer.Option(help="Edge of the picture in Å.")] = None,
    charge: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ELEMENT=CHARGE", help="Plot the Coulomb potential of these charges, in volts."
        ),
    ] = None,
) -> None:
    """Sum potentials over all periodic images of each pair of atoms, to a proven tolerance."""
    from potnet.sums import lattice_sums, parse_potential

    for option, file, suffixes in (("--output", output, TABLES), ("--plot", plot, PICTURES)):
        check_suffix(option, file, *suffixes)
        if file is not None:
            check_output(file, inputs=[path], option=option)
    if plot is None and (plane or through or charge or width is not None):
        raise ConfigError(
            "sums: `--plot` must name a file where a plane, a width or charges are given, got "
            "none. Add --plot FILE.png."
        )
    crystal = _one_crystal(Path(given(str(path))), index)
    chosen = [parse_potential(text) for text in potential or ("coulomb", "london", "pauli")]
    if plot is not None:
        section = _section(crystal, plane, atom, through)
        _plot(crystal, chosen, plot, section, width, _charges(charge or ()))
    if output is None and plot is not None:
        return
    result = lattice_sums(crystal, chosen, tolerance=tolerance, relative=relative)
    if output is not None:
        content = _content(crystal, chosen, result)
        _write_arrays({**content, "tolerance": tolerance, "relative": relative}, output)
        typer.echo(f"Sums of {crystal.n_atoms**2} pairs: {output}")
    else:
        _show_sums(crystal, chosen, result, "relative error" if relative else "error")


def _one_crystal(path: Path, index: int | None) -> Crystal:
    from potnet.io import read

    crystals = read(path)
    if index is None and len(crystals) > 1:
        raise ConfigError(
            f"{path}: `--index` must say which of {len(crystals)} structures is meant, got none. "
            f"Give a number from 0 to {len(crystals) - 1}."
        )
    if index is not None and index >= len(crystals):
        raise ConfigError(
            f"{path}: `--index` must be below {len(crystals)}, the number of structures, "
            f"got {index}. Give a smaller one."
        )
    return crystals[index or 0]


def _content(
    crystal: Crystal, potentials: Sequence[Potential], result: LatticeSums
) -> dict[str, Any]:
    from latticesums import unit_of

    return {
        "id": crystal.id,
        "numbers": crystal.numbers,
        "positions": crystal.positions,
        "cell": crystal.cell,
        "pbc": crystal.pbc,
        "potentials": result.potentials,
        "units": [unit_of(potential) for potential in potentials],
        "error_bound": result.error_bound,
        "values": result.values,
    }


def _show_sums(
    crystal: Crystal, potentials: Sequence[Potential], result: LatticeSums, error: str
) -> None:
    from latticesums import unit_of

    labels = [f"{symbol}{k}" for k, symbol in enumerate(crystal.symbols)]
    n = crystal.n_atoms
    shown = [(i, j) for i in range(n) for j in range(n)][: SHOWN_ROWS**2 // 10]
    rows = [[labels[i], labels[j], *(f"{x:.10g}" for x in result.values[i, j])] for i, j in shown]
    units = [unit_of(potential) for potential in potentials]
    heads = [f"{p} ({u})" if u else p for p, u in zip(result.potentials, units, strict=True)]
    show_table(["from", "to", *heads], rows)
    if len(shown) < n * n:
        typer.echo(f"... {n * n} pairs in all. Write them with --output FILE.")
    bounds = ", ".join(
        f"{name} {bound:.1e}"
        for name, bound in zip(result.potentials, result.error_bound, strict=True)
    )
    typer.echo(f"Largest possible {error}: {bounds}")


def _write_arrays(content: dict[str, Any], path: Path) -> None:
    import json

    import numpy as np

    from potnet.files import atomic_write

    if path.suffix == ".npz":
        with atomic_write(path, "wb") as file:
            np.savez_compressed(file, **content)
        return
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in content.items()}
    with atomic_write(path) as file:
        json.dump(plain, file, indent=1)


def _section(crystal: Crystal, plane: str | None, atom: int, through: str | None) -> Section | None:
    from potnet.report import atoms_section, miller_section

    if plane is not None and through is not None:
        raise ConfigError(
            "sums: `--plane` and `--through` must not be given together, got both. Leave one out."
        )
    if plane is not None:
        return miller_section(crystal, _integers("--plane", plane), atom)
    if through is not None:
        return atoms_section(crystal, _integers("--through", through))
    return None


def _integers(option: str, text: str) -> list[int]:
    try:
        return [int(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise ConfigError(
            f"sums: `{option}` must be three integers, got {text!r}. Write them as 1,1,0."
        ) from None


def _charges(items: Sequence[str]) -> dict[str, float]:
    charges = {}
    for item in items:
        symbol, _, charge = item.partition("=")
        try:
            charges[symbol.strip()] = float(charge)
        except ValueError:
            raise ConfigError(
                f"sums: `--charge` must be an element and its charge, got {item!r}. "
                "Write it as Na=1."
            ) from None
    return charges


def _plot(
    crystal: Crystal,
    potentials: Sequence[Potential],
    path: Path,
    section: Section | None,
    width: float | None,
    charges: dict[str, float],
) -> None:
    from potnet.files import atomic_write
    from potnet.report import landscape, landscape_plot
    from potnet.report.plots import DPI

    maps = landscape(crystal, potentials, section=section, width=width, charges=charges)
    figure = landscape_plot(maps)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format=path.suffix[1:], dpi=DPI)
    typer.echo(f"Potentials on the plane {maps.section.name}: {path}")
