"""What comes with the package: ``potnet models``, and ``potnet demo``, which shows it at work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from potnet.cli.app import app, kept
from potnet.cli.predict import columns
from potnet.cli.terminal import show_metrics, show_table, training_progress
from potnet.files import check_output_folder


@app.command(rich_help_panel="Models")
def models() -> None:
    """List the bundled models."""
    from potnet.models import archive, available

    rows = []
    for name in available():
        card = archive.read_card(name)
        for target in card.targets:
            part = next((p for p in ("test", "val") if target.name in card.metrics.get(p, {})), "")
            mae = f"{card.metrics[part][target.name]['mae']:.3g}" if part else ""
            rows.append([name, target.name, target.unit, mae, part, card.data.name])
    show_table(["model", "predicts", "unit", "MAE", "measured on", "trained on"], rows)


@app.command(rich_help_panel="Models")
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

    check_output_folder(output, option="--output")
    with kept("The next demo begins anew."), training_progress() as report:
        made = run_demo(output, fast=fast, progress=report)
    show_table(columns(), [row.cells(digits=4) for row in made.predictions])
    show_metrics(made.metrics, made.units)
    for path, what in made.files.items():
        typer.echo(f"{what:12} {path}")
