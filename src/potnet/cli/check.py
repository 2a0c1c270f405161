"""``potnet check``: what cannot be used, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potnet.cli.app import SKIPPED, Recursive, Structures, app, structures
from potnet.cli.terminal import counted, show_progress, write_failures
from potnet.errors import Failure, StructureError

if TYPE_CHECKING:
    from potnet.crystal import Crystal


@app.command()
def check(
    paths: Structures,
    recursive: Recursive = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="CSV file for what was refused.")
    ] = None,
) -> None:
    """Read structures and say which of them cannot be used, and why."""
    good, refused = 0, []
    with show_progress("Checking") as progress:
        for item in counted(structures(paths, recursive), progress):
            failure = item if isinstance(item, Failure) else _irreducible(item)
            if failure is None:
                good += 1
            else:
                refused.append(failure)
    for failure in refused:
        typer.echo(f"{failure.id} [{failure.stage}]: {failure.reason}")
    typer.echo(f"{good} good, {len(refused)} refused")
    if output is not None:
        write_failures(refused, output)
    if refused:
        raise typer.Exit(SKIPPED)


def _irreducible(crystal: Crystal) -> Failure | None:
    """Return why the primitive cell, which models read, cannot be found; None if it can."""
    try:
        crystal.primitive()
    except StructureError as error:
        return Failure(crystal.id, "features", str(error))
    return None
