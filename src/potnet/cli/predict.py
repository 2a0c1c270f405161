"""``potnet predict``: what a scientist asks of crystals, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potnet.cli.app import SKIPPED, Device, Recursive, Species, Structures, app, kept, structures
from potnet.cli.sheets import SheetOutput
from potnet.cli.terminal import counted, show_progress
from potnet.errors import ConfigError, Failure

if TYPE_CHECKING:
    from potnet.crystal import Crystal
    from potnet.sheet import Row, SheetMaker
    from potnet.stability import Hull


@app.command(rich_help_panel="Crystals")
def predict(
    paths: Structures,
    properties: Annotated[
        list[str] | None,
        typer.Option("--property", "-p", help="Row of the sheet; may be repeated. Default: all."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Bundled model or archive; may be repeated."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Ask the other bundled models too.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Table to write: .csv, .json, .parquet or .xlsx; errors.csv is put beside it.",
        ),
    ] = None,
    wide: Annotated[bool, typer.Option("--wide", help="One row for each crystal.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Page to write, with pictures of the crystals.")
    ] = None,
    entries: Annotated[
        Path | None,
        typer.Option(
            "--entries",
            help="Your own competing phases, CSV or JSON: formula, formation_energy_per_atom.",
        ),
    ] = None,
    recursive: Recursive = False,
    species: Species = "",
    batch_size: Annotated[int, typer.Option(min=1, help="Crystals computed together.")] = 64,
    device: Device = "cpu",
) -> None:
    """Predict properties of crystals, with intervals: one row for each property.

    Crystals that cannot be used are listed with the reason and skipped; the exit code is then 3.
    With --output, a prediction that was interrupted goes on where it was.
    """
    from potnet.sheet import SheetMaker, all_models

    if model and everything:
        raise ConfigError("predict: `--all` must stand alone, got --model too. Leave one out.")
    result = SheetOutput(output, html, wide=wide, inputs=paths)
    names = tuple(model or (all_models() if everything else ()))
    maker = SheetMaker(names, tuple(properties or ()), hull=_hull(entries), device=device)
    with kept(result.kept), result, show_progress("Predicting") as progress:
        items = result.watched(counted(structures(paths, recursive, species), progress))
        for item in _sheets(maker, items, batch_size, result.part):
            result.write(item)
    result.summarise()
    if result.failures:
        raise typer.Exit(SKIPPED)


def _hull(entries: Path | None) -> Hull | None:
    """Return the hull with the user's own phases, None for the bundled one."""
    from potnet.stability import load_hull, read_phases

    return None if entries is None else load_hull().with_phases(read_phases(entries))


def _sheets(
    maker: SheetMaker,
    items: Iterable[Crystal | Failure],
    batch_size: int,
    part: Path | None,
) -> Iterator[Row | Failure]:
    """Yield rows; with ``part``, keep them there until all are done, or go on from it."""
    from potnet.prediction import Journal
    from potnet.sheet import Row

    def rows(crystals: Iterable[Crystal | Failure]) -> Iterator[Row | Failure]:
        for item in maker.stream(crystals, batch_size=batch_size):
            if isinstance(item, Failure):
                yield item
            else:
                yield from item.rows

    if part is None:
        yield from rows(items)
        return
    with Journal(part, maker.predictors.values(), row=Row, settings=maker.settings) as journal:
        if journal.n_read:
            typer.echo(f"{journal.n_read} crystals are done already: {part}", err=True)
        yield from journal.resume(items, rows)
