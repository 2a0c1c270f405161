"""``potnet predict``: properties of crystals, with intervals."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from potnet.cli.app import (
    SKIPPED,
    Device,
    Recursive,
    Species,
    Structures,
    app,
    check_suffix,
    kept,
    structures,
)
from potnet.cli.terminal import SHOWN_ROWS, counted, errors_beside, show_progress, show_table
from potnet.errors import ConfigError, Failure
from potnet.files import check_output

if TYPE_CHECKING:
    from potnet.crystal import Crystal
    from potnet.prediction import Prediction, PredictionFile, Predictor


@app.command(rich_help_panel="Crystals")
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
    With --output, a prediction that was interrupted goes on where it was.
    """
    from potnet.models import available
    from potnet.prediction import load

    rows = Rows(output, paths)
    names = model or available()
    if not names:
        raise ConfigError("predict: `--model` must name a model, none is bundled. Give an archive.")
    predictors = [load(name, device=device) for name in names]
    with kept(rows.kept), rows, show_progress("Predicting") as progress:
        items = counted(structures(paths, recursive, species), progress)
        for item in _predicted(predictors, items, batch_size, rows.part):
            rows.write(item)
    rows.summarise()
    if rows.skipped:
        raise typer.Exit(SKIPPED)


def _predicted(
    predictors: Sequence[Predictor],
    items: Iterable[Crystal | Failure],
    batch_size: int,
    part: Path | None,
) -> Iterator[Prediction | Failure]:
    """Yield predictions; with ``part``, keep them there until all are done, or go on from it."""
    from potnet.prediction import Journal, predict_stream

    if part is None:
        yield from predict_stream(predictors, items, batch_size=batch_size)
        return
    with Journal(part, predictors) as journal:
        if journal.n_read:
            typer.echo(f"{journal.n_read} crystals are done already: {part}", err=True)
        yield from journal.predict(predictors, items, batch_size=batch_size)


class Rows:
    """Where predictions go: a CSV file, the terminal as a table, or a pipe as CSV."""

    def __init__(self, output: Path | None, inputs: Sequence[str] = ()) -> None:
        from potnet.prediction import PredictionFile

        self._output = output
        self._first: list[Prediction] = []
        self._file: PredictionFile | None = None
        self.written = self.skipped = 0
        #: Where an interrupted prediction keeps what it has.
        self.part: Path | None = None
        if output is not None:
            check_suffix("--output", output, ".csv", ".txt", "")
            check_output(output, inputs=inputs, option="--output")
            self._errors = errors_beside(output)
            self._file = PredictionFile(output, self._errors)
            if output.is_file() or not output.exists():
                self.part = output.with_name(f"{output.name}.part")
        elif sys.stdout is None:
            raise ConfigError(
                "predict: standard output is closed, so that `--output` must name a file, got "
                "none. Add --output FILE.csv."
            )

    def __enter__(self) -> Rows:
        if self._file is not None:
            self._file.__enter__()
        elif not sys.stdout.isatty():
            self._pipe(columns())
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._file is not None:
            self._file.__exit__(*exception)

    @property
    def kept(self) -> str:
        """What an interruption leaves, in words."""
        if self.part is None:
            return "Nothing is kept."
        return f"What was done is in {self.part}: the same command goes on from there."

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
