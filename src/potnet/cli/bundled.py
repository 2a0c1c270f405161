"""What comes with the package: ``potnet models``, and ``potnet demo``, which shows it at work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from potnet.cli.app import app, kept
from potnet.cli.terminal import show_metrics, show_table, training_progress
from potnet.files import check_output_folder


@app.command(rich_help_panel="Models")
def models(
    name: Annotated[
        str | None, typer.Argument(help="A bundled model or an archive, to show its card.")
    ] = None,
) -> None:
    """List the bundled models, or show the card of one: data, error, limits, licence."""
    from potnet.models import archive, available

    if name is not None:
        show_card(name)
        return
    rows = []
    for name in available():
        card = archive.read_card(name)
        for target in card.targets:
            part = next((p for p in ("test", "val") if target.name in card.metrics.get(p, {})), "")
            mae = f"{card.metrics[part][target.name]['mae']:.3g}" if part else ""
            rows.append([name, target.name, target.unit, mae, part, card.data.name])
    show_table(["model", "predicts", "unit", "MAE", "measured on", "trained on"], rows)


def show_card(name: str) -> None:
    """Show what a model predicts, from what it learned, how well, and what it is not for."""
    from potnet.models import archive
    from potnet.sheet.properties import BENCHMARK_ONLY, property_of

    card = archive.read_card(name)
    data = card.data
    show_table(["model", name], [["network", card.network], ["learned from", data.name]])
    rows = []
    for target in card.targets:
        found = property_of(name, target.name)
        width = "" if target.interval_halfwidth is None else f"{target.interval_halfwidth:.3g}"
        for part, metrics in card.metrics.items():
            if isinstance(metrics, dict) and (m := metrics.get(target.name)):
                error = f"{m['mae']:.3g} ({m['mae_low']:.3g} to {m['mae_high']:.3g})"
                rows.append(
                    [target.name, found.name, found.level, target.unit, part, str(m["n"])]
                    + [error, f"{m['baseline_mae']:.3g}", width]
                )
    header = ["output", "row of the sheet", "level of theory", "unit", "measured on", "crystals"]
    show_table([*header, "mean absolute error (95 %)", "of the mean", "interval, +/-"], rows)
    use = "reproduces a benchmark alone; do not judge crystals by it. "
    texts = {
        "not for": f"{use if name in BENCHMARK_ONLY else ''}{card.limits}",
        "data": data.source,
        "crystals": f"{data.n_train} for training, {data.n_val} for validation, {data.n_test} for "
        f"test; at most {data.max_atoms} atoms; {len(data.elements)} elements",
        "licence": data.licence,
        "note": str(card.metrics.get("note", "")),
    }
    show_table(["about", ""], [[key, text] for key, text in texts.items() if text])


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
    from potnet.prediction import COLUMNS

    check_output_folder(output, option="--output")
    with kept("The next demo begins anew."), training_progress() as report:
        made = run_demo(output, fast=fast, progress=report)
    show_table(list(COLUMNS), [row.cells(digits=4) for row in made.predictions])
    show_metrics(made.metrics, made.units)
    for path, what in made.files.items():
        typer.echo(f"{what:12} {path}")
