"""``potnet check``: what cannot be used, and what to know before training."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potnet.cli.app import SKIPPED, Recursive, Sources, Species, Workers, app, check_suffix, given
from potnet.cli.terminal import counted, show_progress, show_table, write_failures
from potnet.files import check_output

if TYPE_CHECKING:
    from potnet.checks import CheckResult
    from potnet.data import Record
    from potnet.errors import Failure
    from potnet.io import Piece

SHOWN_REFUSED = 20


@app.command(rich_help_panel="Crystals")
def check(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA|PATH...",
            help="A dataset (name, file or folder), or structure files, folders and patterns.",
        ),
    ],
    recursive: Recursive = False,
    species: Species = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="CSV file for what was refused.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="HTML page with tables and plots.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", help="Column to look at; may be repeated. Default: all."),
    ] = None,
    split: Annotated[
        Path | None,
        typer.Option("--split", help="Split file to look at, instead of the dataset's own split."),
    ] = None,
    workers: Workers = None,
) -> None:
    """Say what cannot be used and why, and what to know before training on the rest.

    Looks for crystals that are there several times, for those in training that are also held back,
    for values that cannot be or contradict each other, and for gaps in what is covered. The exit
    code is 3 if something was refused or would mislead, 0 if not.
    """
    from potnet.checks import check_records
    from potnet.parallel import all_cores

    check_suffix("--output", output, ".csv", ".txt", "")
    check_suffix("--report", report, ".html", ".htm")
    for option, path in (("--output", output), ("--report", report)):
        if path is not None:
            check_output(path, inputs=paths, option=option)
    items, units = _items([given(path) for path in paths], recursive, target, species)
    parts = None if split is None else _parts(split)
    with show_progress("Checking") as progress:
        found = check_records(
            counted(items, progress),
            name=_name(paths),
            split=parts,
            units=units,
            targets=target or (),
            workers=workers or all_cores(),
        )
    _show(found)
    if output is not None:
        write_failures(found.failures, output)
    if report is not None:
        from potnet.report import dataset_report

        dataset_report(found, report)
        typer.echo(f"Report: {report}")
    if found.has_problems:
        raise typer.Exit(SKIPPED)


def _items(
    paths: list[str], recursive: bool, target: list[str] | None, species: str
) -> tuple[Iterable[Record | Failure | Piece], dict[str, str]]:
    """Return what to look at: the rows of a dataset, or structures; and units known by name."""
    from potnet import data

    if len(paths) == 1 and not recursive and data.is_dataset(paths[0]):
        return data.iter_records(paths[0], targets=target), dict(data.origin_of(paths[0]).units)
    return Sources(paths, recursive, species), {}


def _parts(path: Path) -> dict[str, list[str]]:
    from potnet.data.splits import read_parts

    return read_parts(path)


def _name(paths: list[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


def _show(found: CheckResult) -> None:
    for failure in found.failures[:SHOWN_REFUSED]:
        typer.echo(f"{failure.id} [{failure.stage}]: {failure.reason}")
    if len(found.failures) > SHOWN_REFUSED:
        more = len(found.failures) - SHOWN_REFUSED
        typer.echo(f"... {more:,} more. Write all of them with --output FILE.")
    others = [f for f in found.findings if f.kind != "refused"]
    if others:
        show_table(["", "kind", "finding"], [[f.severity, f.kind, f.text] for f in others])
    typer.echo(f"{len(found.ids)} good, {len(found.failures)} refused")
