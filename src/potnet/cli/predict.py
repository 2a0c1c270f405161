"""``potnet predict``: properties of crystals, with intervals."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from potnet.cli.app import SKIPPED, Device, Recursive, Species, Structures, app, structures
from potnet.cli.terminal import SHOWN_ROWS, counted, show_progress, show_table
from potnet.errors import ConfigError, Failure

if TYPE_CHECKING:
    from potnet.prediction import Prediction, PredictionFile


@app.command()
def predict(
    paths: Structures,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", help="Bundled model or archive; may be repeated. Default: all bundled."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="CSV file to write; errors.csv is put beside it."),
    ] = None,
    recursive: Recursive = False,
    species: Species = "",
    batch_size: Annotated[int, typer.Option(min=1, help="Crystals computed together.")] = 64,
    device: Device = "cpu",
) -> None:
    """Predict properties of crystals, with intervals.

    Crystals that cannot be used are listed with the reason and skipped; the exit code is then 3.
    """
    from potnet.models import available
    from potnet.prediction import load, predict_stream

    names = model or available()
    if not names:
        raise ConfigError("predict: `--model` must name a model, none is bundled. Give an archive.")
    predictors = [load(name, device=device) for name in names]
    with Rows(output) as rows, show_progress("Predicting") as progress:
        items = counted(structures(paths, recursive, species), progress)
        for item in predict_stream(predictors, items, batch_size=batch_size):
            rows.write(item)
    rows.summarise()
    if rows.skipped:
        raise typer.Exit(SKIPPED)


class Rows:
    """Where predictions go: a CSV file, the terminal as a table, or a pipe as CSV."""

    def __init__(self, output: Path | None) -> None:
        from potnet.prediction import PredictionFile

        self._output = output
        self._first: list[Prediction] = []
        self._file: PredictionFile | None = None
        self.written = self.skipped = 0
        if output is not None:
            self._errors = output.with_name("errors.csv")
            if output.name == self._errors.name:
                raise ConfigError(
                    f"predict: `--output` must not be named {output.name}, the list of what was "
                    "skipped takes that name. Choose another one."
                )
            self._file = PredictionFile(output, self._errors)

    def __enter__(self) -> Rows:
        if self._file is not None:
            self._file.__enter__()
        elif not sys.stdout.isatty():
            self._pipe(columns())
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._file is not None:
            self._file.__exit__(*exception)

    def write(self, item: Prediction | Failure) -> None:
        """Add a row, or say what was skipped."""
        if isinstance(item, Failure):
            self.skipped += 1
        else:
            self.written += 1
            if len(self._first) < SHOWN_ROWS:
                self._first.append(item)
        if self._file is not None:
            self._file.write(item)
        elif isinstance(item, Failure):
            typer.echo(f"{item.id} [{item.stage}]: {item.reason}", err=True)
        elif not sys.stdout.isatty():
            self._pipe(item.cells())

    def summarise(self) -> None:
        """Show the first rows, and where the rest is."""
        if self._file is not None or sys.stdout.isatty():
            show_table(columns(), [row.cells(digits=4) for row in self._first])
        if self._file is not None:
            typer.echo(f"{self.written} predictions: {self._output}")
            if self.skipped:
                typer.echo(f"{self.skipped} skipped: {self._errors}", err=True)
        elif self.written > len(self._first) and sys.stdout.isatty():
            typer.echo(f"... {self.written} rows in all. Write them with --output FILE.")

    @staticmethod
    def _pipe(cells: list[str]) -> None:
        csv.writer(sys.stdout, lineterminator="\n").writerow(cells)


def columns() -> list[str]:
    from potnet.prediction import COLUMNS

    return list(COLUMNS)
