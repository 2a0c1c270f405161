"""``potnet datasets``: those that have a name, and what can be done with one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from potnet.cli.app import SKIPPED, Commands, Data, app
from potnet.cli.terminal import show_progress, show_table

group = typer.Typer(cls=Commands)
app.add_typer(group, name="datasets")


@group.callback(invoke_without_command=True)
def datasets(context: typer.Context) -> None:
    """List the datasets that have a name, fetch them, divide any dataset."""
    if context.invoked_subcommand is not None:
        return
    from potnet import data
    from potnet.cli.downloads import here, licence

    rows = [
        [name, about, *here(name), licence(name)] for name, about in data.named_datasets().items()
    ]
    show_table(["name", "what it is", "where", "size", "licence"], rows)


@group.command()
def build(
    source: Data,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of Parquet files to write.")
    ],
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", help="Column of numbers; may be repeated. Default: all."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read crystals.")] = 1,
) -> None:
    """Read a dataset once into a folder of Parquet files, which any command takes as its data.

    A build that was interrupted goes on where it was. What cannot be used is listed in
    _errors.csv of the folder; the exit code is then 3.
    """
    from potnet.data import build as build_folder

    with show_progress("Reading") as bars:

        def show(done: int, total: int | None) -> None:
            bars.update(bars.task_ids[0], completed=done, total=total)

        folder = build_folder(source, output, targets=target or (), workers=workers, progress=show)
    typer.echo(f"{len(folder)} crystals: {output}")
    if folder.failures:
        typer.echo(f"{len(folder.failures)} skipped: {output / '_errors.csv'}", err=True)
        raise typer.Exit(SKIPPED)


@group.command()
def verify(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder that `build` made.")],
) -> None:
    """Read every byte of a folder that was built and compare it with what was written."""
    from potnet.data import ParquetFolder

    folder = ParquetFolder(path)
    with show_progress("Verifying") as bars:

        def show(done: int, total: int) -> None:
            bars.update(bars.task_ids[0], completed=done, total=total)

        faults = folder.verify(show)
    for fault in faults:
        typer.echo(fault)
    if faults:
        raise typer.Exit(1)
    typer.echo(f"{len(folder)} crystals, {len(folder.failures)} failures, version {folder.version}")
    if not folder.is_complete:
        typer.echo("Not all of its source is in it yet: build it again to go on.")
