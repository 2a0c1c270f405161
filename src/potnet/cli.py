"""The command line: ``potnet predict | train | evaluate | check | sums | models | datasets``.

Whatever is slow to import is imported inside the commands, so that ``potnet --help`` is quick.
Exit codes: 0 all is well, 1 failure, 2 wrong usage, 3 done but some items were skipped.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from potnet.errors import ConfigError, Failure, PotNetError, StructureError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from potnet.crystal import Crystal
    from potnet.prediction import Prediction, PredictionFile
    from potnet.sums import LatticeSums
    from potnet.training import Progress as TrainingProgress

Item = TypeVar("Item")

SKIPPED = 3
SHOWN_ROWS = 20
PIPE_WIDTH = 200  # columns of a table that no terminal folds


class Commands(TyperGroup):
    """Commands whose users see one sentence where they made a mistake, never a stack trace."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # "potnet ... | head" is no mistake; the framework ends it quietly.
        except (PotNetError, OSError) as error:
            typer.echo(f"potnet: {_sentence(error)}", err=True)
            raise typer.Exit(1) from None


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Predict properties of crystals from complete interatomic potentials.",
)

Structures = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...",
        help="Structure files (CIF, POSCAR, extxyz, XSF, JSON, .gz of these), folders or patterns.",
    ),
]
Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A dataset by name (see potnet datasets), or a file or folder of your own.",
    ),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Enter the folders inside folders.")
]
Device = Annotated[str, typer.Option(help='Where to compute: "cpu", "cuda", "cuda:1".')]


def _show_version(wanted: bool) -> None:
    if wanted:
        import potnet

        typer.echo(f"potnet {potnet.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Predict properties of crystals from complete interatomic potentials."""


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
    batch_size: Annotated[int, typer.Option(min=1, help="Crystals computed together.")] = 64,
    device: Device = "cpu",
) -> None:
    """Predict properties of crystals, with intervals.

    Crystals that cannot be used are listed with the reason and skipped; the exit code is then 3.
    """
    from potnet.io import scan
    from potnet.models import available
    from potnet.prediction import load, predict_stream

    names = model or available()
    if not names:
        raise ConfigError("predict: `--model` must name a model, none is bundled. Give an archive.")
    predictors = [load(name, device=device) for name in names]
    with _Rows(output) as rows, _progress("Predicting") as progress:
        items = _counted(scan(paths, recursive=recursive), progress)
        for item in predict_stream(predictors, items, batch_size=batch_size):
            rows.write(item)
    rows.summarise()
    if rows.skipped:
        raise typer.Exit(SKIPPED)


@app.command()
def train(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", help="Column to learn; may be repeated. Default: all."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings in YAML or JSON; flags win over it.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Name of the network.")] = None,
    transform: Annotated[
        str | None, typer.Option(help="none or log10: what is done to the targets first.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training crystals.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Crystals per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of the one cycle.")] = None,
    members: Annotated[int | None, typer.Option(help="Networks, from different seeds.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; may be repeated."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run.")] = False,
) -> None:
    """Train a model, test it, and write a report.

    The model is in the folder "model" of the output and works like a bundled one.
    """
    from potnet.data import open as open_dataset
    from potnet.report import training_report
    from potnet.training import TrainingConfig
    from potnet.training import train as run

    flags = {
        "targets": target,
        "network": network,
        "transform": transform,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "members": members,
        "seed": seed,
        "device": device,
    }
    settings = _settings(setting or []) | {k: v for k, v in flags.items() if v is not None}
    chosen = TrainingConfig.read(config, **settings) if config else TrainingConfig(**settings)
    dataset = open_dataset(data, on_error="skip")
    with _training_progress() as report:
        result = run(dataset, chosen, output, resume=resume, on_error="skip", progress=report)
    page = training_report(output)
    _show_metrics(result.metrics.get("test") or result.metrics["val"], dataset.units)
    typer.echo(f"Model:  {result.model}\nReport: {page}")
    _finish([*dataset.failures, *result.failures], output / "errors.csv")


@app.command()
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
    predictor = load(model, device=device)
    dataset = open_dataset(data, on_error="skip")
    found = compare(predictor, dataset, targets=target or (), part=part, on_error="skip")
    _show_metrics(found.metrics, {card.name: card.unit for card in predictor.card.targets})
    failures = [*dataset.failures, *found.failures]
    if output is not None:
        found.write(output)
        _write_failures(failures, output / "errors.csv")
        page = evaluation_report(output, found, model=f"Model {model}", data=data)
        typer.echo(f"Report: {page}")
    _finish(failures, None if output is None else output / "errors.csv")


@app.command()
def check(
    paths: Structures,
    recursive: Recursive = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="CSV file for what was refused.")
    ] = None,
) -> None:
    """Read structures and say which of them cannot be used, and why."""
    from potnet.io import scan

    good, refused = 0, []
    with _progress("Checking") as progress:
        for item in _counted(scan(paths, recursive=recursive), progress):
            failure = item if isinstance(item, Failure) else _irreducible(item)
            if failure is None:
                good += 1
            else:
                refused.append(failure)
    for failure in refused:
        typer.echo(f"{failure.id} [{failure.stage}]: {failure.reason}")
    typer.echo(f"{good} good, {len(refused)} refused")
    if output is not None:
        _write_failures(refused, output)
    if refused:
        raise typer.Exit(SKIPPED)


@app.command()
def sums(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A structure file.")],
    potential: Annotated[
        list[str] | None,
        typer.Option("--potential", "-p", help="coulomb, london or pauli; may be repeated."),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Largest absolute error of a sum.")] = 1e-8,
    index: Annotated[
        int | None, typer.Option(min=0, help="Which structure of the file, from 0.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write: .json or .npz.")
    ] = None,
) -> None:
    """Sum potentials over all periodic images of each pair of atoms, to a proven tolerance."""
    from potnet.sums import lattice_sums

    if output is not None and output.suffix not in {".json", ".npz"}:
        raise ConfigError(f"sums: `--output` must end in .json or .npz, got {output}. Rename it.")
    crystal = _one_crystal(path, index)
    names = tuple(potential or ("coulomb", "london", "pauli"))
    result = lattice_sums(crystal, names, tolerance=tolerance)
    content = {
        "id": crystal.id,
        "numbers": crystal.numbers,
        "positions": crystal.positions,
        "cell": crystal.cell,
        "potentials": names,
        "tolerance": tolerance,
        "error_bound": result.error_bound,
        "values": result.values,
    }
    if output is None:
        _show_sums(crystal, result)
    else:
        _write_arrays(content, output)
        typer.echo(f"Sums of {crystal.n_atoms**2} pairs: {output}")


@app.command()
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
    _show_table(["model", "predicts", "unit", "MAE", "measured on", "trained on"], rows)


@app.command()
def datasets() -> None:
    """List the datasets that have a name."""
    from potnet import data

    _show_table(["name", "what it is"], [list(item) for item in data.available().items()])


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

    with _training_progress() as report:
        made = run_demo(output, fast=fast, progress=report)
    _show_table(_columns(), [row.cells(digits=4) for row in made.predictions])
    _show_metrics(made.metrics, made.units)
    for path, what in made.files.items():
        typer.echo(f"{what:12} {path}")


# What the commands share.


class _Rows:
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

    def __enter__(self) -> _Rows:
        if self._file is not None:
            self._file.__enter__()
        elif not sys.stdout.isatty():
            self._pipe(_columns())
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
            _show_table(_columns(), [row.cells(digits=4) for row in self._first])
        if self._file is not None:
            typer.echo(f"{self.written} predictions: {self._output}")
            if self.skipped:
                typer.echo(f"{self.skipped} skipped: {self._errors}", err=True)
        elif self.written > len(self._first) and sys.stdout.isatty():
            typer.echo(f"... {self.written} rows in all. Write them with --output FILE.")

    @staticmethod
    def _pipe(cells: list[str]) -> None:
        csv.writer(sys.stdout, lineterminator="\n").writerow(cells)


def _columns() -> list[str]:
    from potnet.prediction import COLUMNS

    return list(COLUMNS)


@contextmanager
def _progress(title: str = "") -> Iterator[Progress]:
    """Show progress on the terminal; stay silent in a pipe or a log."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        if title:
            progress.add_task(title, total=None, note="")
        yield progress


def _counted(items: Iterable[Item], progress: Progress) -> Iterator[Item]:
    """Pass the items on and move the bar by one for each."""
    for item in items:
        yield item
        progress.advance(progress.task_ids[0])


def _show_table(header: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in header:
        # Names are to be copied: they stay in one piece, the other columns fold.
        table.add_column(name, overflow="fold", no_wrap=name == header[0])
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _irreducible(crystal: Crystal) -> Failure | None:
    """Return why the primitive cell, which models read, cannot be found; None if it can."""
    try:
        crystal.primitive()
    except StructureError as error:
        return Failure(crystal.id, "features", str(error))
    return None


def _one_crystal(path: Path, index: int | None) -> Crystal:
    from potnet.io import read

    crystals = read(path)
    if index is None and len(crystals) > 1:
        raise ConfigError(
            f"{path}: `--index` must say which of {len(crystals)} structures is meant, got none. "
            f"Give a number from 0 to {len(crystals) - 1}."
        )
    if index is not None and index >= len(crystals):
        raise ConfigError(
            f"{path}: `--index` must be below {len(crystals)}, the number of structures, "
            f"got {index}. Give a smaller one."
        )
    return crystals[index or 0]


def _show_sums(crystal: Crystal, result: LatticeSums) -> None:
    labels = [f"{symbol}{k}" for k, symbol in enumerate(crystal.symbols)]
    n = crystal.n_atoms
    shown = [(i, j) for i in range(n) for j in range(n)][: SHOWN_ROWS**2 // 10]
    rows = [[labels[i], labels[j], *(f"{x:.10g}" for x in result.values[i, j])] for i, j in shown]
    _show_table(["from", "to", *result.potentials], rows)
    if len(shown) < n * n:
        typer.echo(f"... {n * n} pairs in all. Write them with --output FILE.")
    bounds = ", ".join(
        f"{name} {bound:.1e}"
        for name, bound in zip(result.potentials, result.error_bound, strict=True)
    )
    typer.echo(f"Largest possible error: {bounds}")


def _write_arrays(content: dict[str, Any], path: Path) -> None:
    import json

    import numpy as np

    from potnet.files import atomic_write

    if path.suffix == ".npz":
        with atomic_write(path, "wb") as file:
            np.savez_compressed(file, **content)
        return
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in content.items()}
    with atomic_write(path) as file:
        json.dump(plain, file, indent=1)


def _write_failures(failures: Sequence[Failure], path: Path) -> None:
    from potnet.files import atomic_write

    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "stage", "reason"])
        writer.writerows([f.id, f.stage, f.reason] for f in failures)


def _finish(failures: Sequence[Failure], path: Path | None) -> None:
    """End the command with code 3 if something was skipped, and say where it is listed."""
    if not failures:
        return
    if path is None:
        for failure in failures:
            typer.echo(f"{failure.id} [{failure.stage}]: {failure.reason}", err=True)
    else:
        typer.echo(f"{len(failures)} skipped: {path}", err=True)
    raise typer.Exit(SKIPPED)


def _settings(assignments: Sequence[str]) -> dict[str, Any]:
    """Return settings from ``NAME=VALUE`` texts, the values read as YAML."""
    import yaml

    settings = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        try:
            settings[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not equals:
            raise ConfigError(
                f"train: `--set` must be NAME=VALUE with a YAML value, got {text!r}. Correct it."
            )
    return settings


@contextmanager
def _training_progress() -> Iterator[Callable[[TrainingProgress], None]]:
    """Yield what :func:`potnet.train` calls: it shows a bar per stage and network."""
    with _progress() as bars:
        tasks: dict[tuple[str, int], TaskID] = {}

        def show(progress: TrainingProgress) -> None:
            key = (progress.stage, progress.member)
            if key not in tasks:
                title = "Summing potentials" if key[0] == "features" else f"Training {key[1] + 1}"
                tasks[key] = bars.add_task(title, total=progress.total, note="")
            note = ""
            if progress.record is not None:
                errors = (v for k, v in progress.record.items() if k.startswith("val_mae_"))
                note = "validation error " + ", ".join(f"{error:.4g}" for error in errors)
            bars.update(tasks[key], completed=progress.done, note=note)

        yield show


def _show_metrics(metrics: Mapping[str, Any], units: Mapping[str, str]) -> None:
    rows = []
    for name, m in metrics.items():
        error = f"{m['mae']:.4g} ({m['mae_low']:.4g} to {m['mae_high']:.4g})"
        r2 = "" if m["r2"] is None else f"{m['r2']:.3f}"
        baseline = f"{m['baseline_mae']:.4g}" if "baseline_mae" in m else ""
        rows.append([name, str(m["n"]), error, baseline, r2, units.get(name, "")])
    _show_table(
        ["property", "crystals", "mean absolute error", "of the mean value", "R²", "unit"], rows
    )
