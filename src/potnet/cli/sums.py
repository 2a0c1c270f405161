"""``potnet sums``: potentials summed over all images of every pair of atoms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from potnet.cli.app import app
from potnet.cli.terminal import SHOWN_ROWS, show_table
from potnet.errors import ConfigError

if TYPE_CHECKING:
    from potnet.crystal import Crystal
    from potnet.sums import LatticeSums


@app.command()
def sums(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A structure file.")],
    potential: Annotated[
        list[str] | None,
        typer.Option("--potential", "-p", help="coulomb, london or pauli; may be repeated."),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Largest absolute error of a sum.")] = 1e-8,
    index: Annotated[
        int | None, typer.Option(min=0, help="Which structure of the file, from 0.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write: .json or .npz.")
    ] = None,
) -> None:
    """Sum potentials over all periodic images of each pair of atoms, to a proven tolerance."""
    from potnet.sums import lattice_sums

    if output is not None and output.suffix not in {".json", ".npz"}:
        raise ConfigError(f"sums: `--output` must end in .json or .npz, got {output}. Rename it.")
    crystal = _one_crystal(path, index)
    names = tuple(potential or ("coulomb", "london", "pauli"))
    result = lattice_sums(crystal, names, tolerance=tolerance)
    content = {
        "id": crystal.id,
        "numbers": crystal.numbers,
        "positions": crystal.positions,
        "cell": crystal.cell,
        "potentials": names,
        "tolerance": tolerance,
        "error_bound": result.error_bound,
        "values": result.values,
    }
    if output is None:
        _show_sums(crystal, result)
    else:
        _write_arrays(content, output)
        typer.echo(f"Sums of {crystal.n_atoms**2} pairs: {output}")


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


def _show_sums(crystal: Crystal, result: LatticeSums) -> None:
    labels = [f"{symbol}{k}" for k, symbol in enumerate(crystal.symbols)]
    n = crystal.n_atoms
    shown = [(i, j) for i in range(n) for j in range(n)][: SHOWN_ROWS**2 // 10]
    rows = [[labels[i], labels[j], *(f"{x:.10g}" for x in result.values[i, j])] for i, j in shown]
    show_table(["from", "to", *result.potentials], rows)
    if len(shown) < n * n:
        typer.echo(f"... {n * n} pairs in all. Write them with --output FILE.")
    bounds = ", ".join(
        f"{name} {bound:.1e}"
        for name, bound in zip(result.potentials, result.error_bound, strict=True)
    )
    typer.echo(f"Largest possible error: {bounds}")


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
