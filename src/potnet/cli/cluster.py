"""``potnet predict --cluster``: the same tables, by many machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from potnet.cli.app import SKIPPED, kept
from potnet.cli.terminal import show_progress
from potnet.errors import ConfigError


def by_cluster(
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
