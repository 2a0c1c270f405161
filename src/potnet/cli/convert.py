"""``potnet convert``: what was read, as any format that potnet writes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potnet.cli.app import SKIPPED, Recursive, Sources, Species, Structures, app
from potnet.cli.terminal import SHOWN_ROWS, show_table
from potnet.errors import ConfigError, Failure, StructureError
from potnet.files import check_output
from potnet.text import file_name

if TYPE_CHECKING:
    from potnet.crystal import Crystal
    from potnet.io import Piece

_SUFFIXES = ("cif", "vasp", "extxyz", "xsf", "json", "jsonl")


@app.command(rich_help_panel="Crystals")
def convert(
    paths: Structures,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="File to write; or a folder, for a file per crystal with --to."
        ),
    ],
    to: Annotated[
        str, typer.Option("--to", help=f"Format of the files in a folder: {', '.join(_SUFFIXES)}.")
    ] = "",
    species: Species = "",
    recursive: Recursive = False,
) -> None:
    """Write structures in another format, as they were read, and show what they are.

    Formats: .cif, .vasp, .extxyz, .xsf, .json, .jsonl, each with .gz or not. What cannot be read is
    listed with the reason and skipped; the exit code is then 3.
    """
    from potnet.io import crystals_in

    if not to and not output.is_dir():
        check_output(output, inputs=paths, option="--output")
    crystals, failures = [], []
    sources = Sources(paths, recursive, species, () if output.is_dir() else (output,))
    read: set[str] = set()
    for item in crystals_in(_noted(sources, read)):
        (failures if isinstance(item, Failure) else crystals).append(item)
    for failure in failures:
        typer.echo(f"{failure.id} [{failure.stage}]: {failure.reason}", err=True)
    if failures and not crystals:
        raise typer.Exit(SKIPPED)
    written = _write(crystals, output, to, read)
    show_table(
        ["id", "formula", "atoms", "space group", "density"],
        [_facts(crystal) for crystal in crystals[:SHOWN_ROWS]],
    )
    typer.echo(f"{len(crystals)} crystals: {written}")
    if failures:
        raise typer.Exit(SKIPPED)


def _noted(pieces: Iterable[Piece], read: set[str]) -> Iterator[Piece]:
    """Pass on what is read, and note the files."""
    for piece in pieces:
        read.add(os.path.realpath(piece.path))
        yield piece


def _write(crystals: list[Crystal], output: Path, to: str, read: set[str]) -> str:
    """Write the crystals to a file, or each to its own in a folder; return where they are.

    Raises:
        ConfigError: If a file that was ``read`` would be written over.
    """
    from potnet.io import write

    if not crystals:
        raise ConfigError("convert: a crystal must be readable, got none. Name some.")
    if not to and not output.is_dir():
        write(crystals, output)
        return str(output)
    if to.lstrip(".") not in _SUFFIXES:
        raise ConfigError(
            f"convert: `--to` must be one of {', '.join(_SUFFIXES)} where the output is a folder, "
            f"got {to!r}. Say the format, or name a file."
        )
    output.mkdir(parents=True, exist_ok=True)
    named = [(output / f"{name}.{to.lstrip('.')}", crystal) for name, crystal in _named(crystals)]
    lost = next((path for path, _ in named if os.path.realpath(path) in read), None)
    if lost:
        raise ConfigError(
            f"convert: the output must not be what is read, got {lost} for both. "
            "Choose another folder."
        )
    for path, crystal in named:
        write(crystal, path)
    return str(output)


def _named(crystals: Iterable[Crystal]) -> Iterable[tuple[str, Crystal]]:
    """Yield a name for the file of each crystal: its id, once, in characters of file names."""
    taken: set[str] = set()
    for index, crystal in enumerate(crystals):
        name = file_name(crystal.id or f"crystal_{index}")
        while name.lower() in taken:
            name = f"{name}_{index}"
        taken.add(name.lower())
        yield name, crystal


def _facts(crystal: Crystal) -> list[str]:
    """Return what people look at to see that a crystal was read as it is."""
    facts = [crystal.id, crystal.formula, str(crystal.n_atoms)]
    try:
        return [*facts, str(crystal.space_group()), f"{crystal.density:.3f} g/cm^3"]
    except StructureError:  # a layer, or a cell in which no group is found
        return [*facts, "", ""]
