"""``potnet predict``: what a scientist asks of crystals, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from potnet.cli.app import (
    SKIPPED,
    Recursive,
    Sources,
    Species,
    Structures,
    Workers,
    app,
    checked_device,
    kept,
    symbols_of,
)
from potnet.cli.sheets import ShardOutput, SheetOutput
from potnet.cli.terminal import show_progress
from potnet.devices import import_torch
from potnet.errors import ConfigError

if TYPE_CHECKING:
    from potnet.sheet import SheetMaker
    from potnet.stability import Hull

NEAREST = 3  # known crystals beside each crystal


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
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Table to write: .csv, .json, .parquet or .xlsx; errors.csv is put beside it.",
        ),
    ] = None,
    shards: Annotated[
        Literal["csv", "parquet"] | None,
        typer.Option(help="Write many tables of this format into a folder, --output."),
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
    nearest: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Known crystals to show beside each crystal on the terminal. "
            "Default: 3, with --model none.",
        ),
    ] = None,
    recursive: Recursive = False,
    species: Species = "",
    batch_size: Annotated[int, typer.Option(min=1, help="Crystals computed together.")] = 64,
    workers: Workers = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Let a cluster of Ray predict, a table for each file into the folder --output; "
            "paths may be s3://... and the like. auto, local, or its address.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1 or mps.")] = (
        "cpu"
    ),
) -> None:
    """Predict properties of crystals, with intervals: one row for each property.

    Crystals that cannot be used are listed with the reason and skipped; the exit code is then 3.
    With --output, a prediction that was interrupted goes on where it was.
    """
    import_torch()
    from potnet.sheet import SheetMaker, all_models

    if model and everything:
        raise ConfigError("predict: `--all` must stand alone, got --model too. Leave one out.")
    names = tuple(model or (all_models() if everything else ()))
    if cluster is not None:
        _by_cluster(
            paths,
            output,
            cluster,
            [flag for flag, given in (("--html", html), ("--nearest", nearest)) if given],
            recursive=recursive,
            models=names,
            properties=tuple(properties or ()),
            hull=_hull(entries),
            kind=shards or "parquet",
            wide=wide,
            batch_size=batch_size,
            species=symbols_of(species),
            device=device,
            workers=None if workers is None else (1, workers),
        )
        return
    checked_device(device)
    shown = (0 if model else NEAREST) if nearest is None else nearest
    target = None if output is None else Path(output)
    result: SheetOutput | ShardOutput = (
        SheetOutput(target, html, wide=wide, inputs=paths, nearest=shown)
        if shards is None
        else ShardOutput(target, shards, html, wide=wide)
    )
    sources = Sources(paths, recursive, species, result.written)
    maker = SheetMaker(names, tuple(properties or ()), hull=_hull(entries), device=device)
    _here(maker, sources, result, batch_size, workers)
    result.summarise()
    if result.n_failures:
        raise typer.Exit(SKIPPED)


def _here(
    maker: SheetMaker,
    sources: Sources,
    result: SheetOutput | ShardOutput,
    batch_size: int,
    workers: int | None,
) -> None:
    """Predict on this machine, going on where an earlier call was stopped."""
    from potnet.io import Names
    from potnet.parallel import all_cores
    from potnet.sheet.pipeline import SheetWork, key_of, outcomes_of

    work, taken = SheetWork(maker, batch_size=batch_size), Names()
    key = key_of(maker, batch_size)
    with (
        kept(result.kept),
        result.store(key, taken) as store,
        result,
        show_progress("Predicting") as progress,
    ):
        if store is not None and store.n_read:
            typer.echo(f"{store.n_read} crystals are done already: {store.path}", err=True)
        found = outcomes_of(
            work,
            result.watched(sources),
            workers=workers or all_cores(),
            task_size=batch_size,
            store=store,
            names=taken,
        )
        done = 0
        for n_pieces, outcomes in found:
            result.write(outcomes)
            done += n_pieces
            progress.update(progress.task_ids[0], completed=done, total=sources.total)


def _hull(entries: Path | None) -> Hull | None:
    """Return the hull with the user's own phases, None for the bundled one."""
    from potnet.stability import load_hull, read_phases

    return None if entries is None else load_hull().with_phases(read_phases(entries))


def _by_cluster(
    paths: Sequence[str],
    output: str | None,
    address: str,
    unfit: Sequence[str],
    **settings: Any,
) -> None:
    """Run :func:`potnet.cluster.predict` and say what came of it.

    Args:
        paths: What is read.
        output: Folder for the tables.
        address: Of the cluster.
        unfit: Options that were given and that a cluster does not have.
        settings: The others.
    """
    from potnet.cluster import Progress, predict

    if output is None or unfit:
        got = unfit[0] if unfit else "no --output"
        raise ConfigError(
            "predict: `--cluster` must have a folder for its tables, and neither page nor "
            f"neighbours, got {got}. Give --output FOLDER alone."
        )
    with (
        kept(f"Finished tables are in {output}: the same command goes on from there."),
        show_progress("Predicting files") as progress,
    ):

        def show(now: Progress) -> None:
            note = f"{now.crystals:,} crystals"
            progress.update(progress.task_ids[0], completed=now.shards, total=now.total, note=note)

        found = predict(paths, output, cluster=address, progress=show, **settings)
    before = f", {found.n_before} of which were there already" if found.n_before else ""
    n_tables = found.n_shards - len(found.lost)
    typer.echo(f"{found.n_crystals} crystals, {n_tables} tables{before}: {output}")
    if found.n_failures:
        typer.echo(f"{found.n_failures} skipped: {output}/_errors", err=True)
    for failure in found.lost:
        typer.echo(f"potnet: {failure.reason}", err=True)
    if found.lost:
        raise typer.Exit(1)
    if found.n_failures:
        raise typer.Exit(SKIPPED)
