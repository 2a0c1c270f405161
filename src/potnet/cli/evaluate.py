"""``potnet evaluate``: predictions beside known values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from potnet.cli.app import Data, Device, app, given
from potnet.cli.terminal import finish, show_metrics, write_failures
from potnet.errors import ConfigError
from potnet.files import check_output_folder


@app.command(rich_help_panel="Models")
def evaluate(
    data: Data,
    model: Annotated[str, typer.Option("--model", "-m", help="Bundled model or archive.")],
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", help="Property; may be repeated. Default: all in common."),
    ] = None,
    part: Annotated[
        str, typer.Option(help="all, train, val or test of the official split of the data.")
    ] = "all",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for tables, plots and a report."),
    ] = None,
    device: Device = "cpu",
) -> None:
    """Compare the predictions of a model with the known values of a dataset."""
    from potnet.data import open as open_dataset
    from potnet.prediction import load
    from potnet.report import evaluation_report
    from potnet.training import evaluate as compare

    if part not in ("all", "train", "val", "test"):
        raise ConfigError(
            f"evaluate: `--part` must be all, train, val or test, got {part}. Choose one of them."
        )
    if output is not None:
        check_output_folder(output, option="--output")
    predictor = load(model, device=device)
    dataset = open_dataset(given(data), on_error="skip")
    found = compare(predictor, dataset, targets=target or (), part=part, on_error="skip")
    show_metrics(found.metrics, {card.name: card.unit for card in predictor.card.targets})
    failures = [*dataset.failures, *found.failures]
    if output is not None:
        found.write(output)
        write_failures(failures, output / "errors.csv")
        page = evaluation_report(output, found, model=f"Model {model}", data=data)
        typer.echo(f"Report: {page}")
    finish(failures, None if output is None else output / "errors.csv")
