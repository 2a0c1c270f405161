"""What the commands show: tables, bars, and lists of what was skipped."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from potnet.cli.app import SKIPPED
from potnet.errors import Failure

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from potnet.training import Progress as TrainingProgress

Item = TypeVar("Item")

SHOWN_ROWS = 20
PIPE_WIDTH = 200  # columns of a table that no terminal folds


@contextmanager
def show_progress(title: str = "") -> Iterator[Progress]:
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


def counted(items: Iterable[Item], progress: Progress) -> Iterator[Item]:
    """Pass the items on and move the bar by one for each."""
    for item in items:
        yield item
        progress.advance(progress.task_ids[0])


def show_table(header: list[str], rows: list[list[str]]) -> None:
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


@contextmanager
def training_progress() -> Iterator[Callable[[TrainingProgress], None]]:
    """Yield what :func:`potnet.train` calls: it shows a bar per stage and network."""
    with show_progress() as bars:
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


def show_metrics(metrics: Mapping[str, Any], units: Mapping[str, str]) -> None:
    rows = []
    for name, m in metrics.items():
        error = f"{m['mae']:.4g} ({m['mae_low']:.4g} to {m['mae_high']:.4g})"
        r2 = "" if m["r2"] is None else f"{m['r2']:.3f}"
        baseline = f"{m['baseline_mae']:.4g}" if "baseline_mae" in m else ""
        rows.append([name, str(m["n"]), error, baseline, r2, units.get(name, "")])
    show_table(
        ["property", "crystals", "mean absolute error", "of the mean value", "R²", "unit"], rows
    )


def write_failures(failures: Sequence[Failure], path: Path) -> None:
    from potnet.files import atomic_write

    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "stage", "reason"])
        writer.writerows([f.id, f.stage, f.reason] for f in failures)


def finish(failures: Sequence[Failure], path: Path | None) -> None:
    """End the command with code 3 if something was skipped, and say where it is listed."""
    if not failures:
        return
    if path is None:
        for failure in failures:
            typer.echo(f"{failure.id} [{failure.stage}]: {failure.reason}", err=True)
    else:
        typer.echo(f"{len(failures)} skipped: {path}", err=True)
    raise typer.Exit(SKIPPED)
