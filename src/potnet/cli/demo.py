"""``potnet demo``: everything once, in a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from potnet.cli.app import app
from potnet.cli.predict import columns
from potnet.cli.terminal import show_metrics, show_table, training_progress


@app.command()
def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for what the demo makes.")
    ] = Path("demo-output"),
    fast: Annotated[
        bool, typer.Option("--fast", help="Train for seconds only: the error will be large.")
    ] = False,
) -> None:
    """Predict the example crystals, train a small model, test it, write a report."""
    from potnet.demo import run_demo

    with training_progress() as report:
        made = run_demo(output, fast=fast, progress=report)
    show_table(columns(), [row.cells(digits=4) for row in made.predictions])
    show_metrics(made.metrics, made.units)
    for path, what in made.files.items():
        typer.echo(f"{what:12} {path}")
