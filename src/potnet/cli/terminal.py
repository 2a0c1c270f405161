"""What the commands show: tables, bars, and lists of what was skipped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from potnet.cli.app import SKIPPED
from potnet.errors import FAILURE_COLUMNS, ConfigError, Failure
from potnet.files import check_own_table

if TYPE_CHECKING:
    from potnet.training import Progress as TrainingProgress

Item = TypeVar("Item")

SHOWN_ROWS = 20
PIPE_WIDTH = 200  # columns of a table that no terminal folds
FIRST_LINE, NEXT_LINE = 10.0, 30.0  # seconds until a log says how far the work is


class Lines:
    """Progress for a log: a line after a while and then now and again, nothing for short work.

    It has the methods of ``rich.progress.Progress`` that the commands use.
    """

    def __init__(self) -> None:
        self._tasks: list[dict[str, Any]] = []
        self._next = time.monotonic() + FIRST_LINE

    @property
    def task_ids(self) -> list[int]:
        """Numbers of the tasks."""
        return list(range(len(self._tasks)))

    def add_task(self, title: str, *, total: float | None = None, **_: Any) -> int:
        """Begin something; return its number."""
        self._tasks.append({"title": title})
        self.reset(len(self._tasks) - 1, total=total)
        return len(self._tasks) - 1

    def reset(self, task: int, *, total: float | None = None) -> None:
        """Begin the same thing again."""
        self._tasks[task].update(completed=0, total=total, note="", first=None)

    def advance(self, task: int) -> None:
        """Count one."""
        self.update(task, completed=self._tasks[task]["completed"] + 1)

    def update(self, task: int, **changes: Any) -> None:
        """Take what is new, and say it if it is time to."""
        now, clock = self._tasks[task], time.monotonic()
        now.update(changes)
        # Of a run that was interrupted, what it had done before took no time here.
        now["first"] = now["first"] or (now["completed"], clock)
        if clock < self._next:
            return
        self._next = clock + NEXT_LINE
        total = f" of {now['total']:,}" if now["total"] else ""
        done, seconds = now["completed"] - now["first"][0], clock - now["first"][1]
        if done and seconds:
            total += f", {done / seconds:.3g} a second"
            if now["total"]:
                left = (now["total"] - now["completed"]) * seconds / done
                total += f", {_duration(left)} left"
        note = f", {now['note']}" if now["note"] else ""
        typer.echo(f"{now['title']}: {now['completed']:,}{total}{note}", err=True)


def _duration(seconds: float) -> str:
    """Return a time as people say it: ``1 h 05 min``, ``3 min``, ``20 s``."""
    hours, rest = divmod(round(seconds), 3600)
    if hours:
        return f"{hours} h {rest // 60:02} min"
    return f"{round(rest / 60)} min" if rest >= 60 else f"{rest} s"


def _rate_column(bars: Any) -> Any:
    """Return a column of how many are done in a second."""

    class Rate(bars.ProgressColumn):
        def render(self, task: Any) -> Any:
            from rich.text import Text

            return Text(f"{task.speed:.3g}/s" if task.speed else "")

    return Rate()


@contextmanager
def show_progress(title: str = "", *, transfers: bool = False) -> Iterator[Any]:
    """Show bars on a terminal, and lines now and again in a pipe or a log.

    Args:
        title: Of a first bar; none by default.
        transfers: Count bytes.

    Yields:
        A ``rich.progress.Progress``, or :class:`Lines`.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        lines = Lines()
        if title:
            lines.add_task(title)
        yield lines
        return
    from rich import progress as bars  # slow to import

    counts = (
        (bars.DownloadColumn(), bars.TransferSpeedColumn(), bars.TimeRemainingColumn())
        if transfers
        else (
            bars.MofNCompleteColumn(),
            _rate_column(bars),
            bars.TimeElapsedColumn(),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}"),
        )
    )
    first = (bars.SpinnerColumn(), bars.TextColumn("{task.description}"), bars.BarColumn())
    with bars.Progress(*first, *counts, console=console) as progress:
        if title:
            progress.add_task(title, total=None, note="")
        yield progress


def counted(items: Iterable[Item], progress: Any) -> Iterator[Item]:
    """Pass the items on and move the bar by one for each."""
    for item in items:
        yield item
        progress.advance(progress.task_ids[0])


def show_table(header: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if sys.stdout is None:  # closed
        return
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
        tasks: dict[tuple[str, int], Any] = {}
        done: dict[tuple[str, int], int] = {}

        def show(progress: TrainingProgress) -> None:
            key = (progress.stage, progress.member)
            if key not in tasks:
                title = "Summing potentials" if key[0] == "features" else f"Training {key[1] + 1}"
                tasks[key] = bars.add_task(title, total=progress.total, note="")
            elif progress.done < done[key]:  # that of the next fold
                bars.reset(tasks[key], total=progress.total)
            done[key] = progress.done
            note = ""
            if progress.record is not None:
                errors = (v for k, v in progress.record.items() if k.startswith("val_mae_"))
                note = "validation error " + ", ".join(f"{error:.4g}" for error in errors)
            bars.update(tasks[key], completed=progress.done, note=note)

        yield show


def show_metrics(metrics: Mapping[str, Any], units: Mapping[str, str]) -> None:
    rows = []
    for name, m in metrics.items():
        if "accuracy" in m:
            continue
        error = f"{m['mae']:.4g} ({m['mae_low']:.4g} to {m['mae_high']:.4g})"
        r2 = "" if m["r2"] is None else f"{m['r2']:.3f}"
        baseline = f"{m['baseline_mae']:.4g}" if "baseline_mae" in m else ""
        rows.append([name, str(m["n"]), error, baseline, r2, units.get(name, "")])
    header = ["property", "crystals", "mean absolute error", "of the mean value", "R²", "unit"]
    if rows:
        show_table(header, rows)
    rows = [
        [name, str(m["n"])]
        + [f"{100 * m[key]:.1f} %" for key in ("accuracy", "baseline_accuracy")]
        + ["" if m[key] is None else f"{m[key]:.3f}" for key in ("f1", "roc_auc")]
        for name, m in metrics.items()
        if "accuracy" in m
    ]
    if rows:
        names = ["right", "by the most frequent answer", "F1", "ROC-AUC"]
        show_table(["classes", "crystals", *names], rows)


def errors_beside(output: Path) -> Path:
    """Return where to list what was skipped while ``output`` was made: ``errors.csv`` beside it.

    The list of another output stays: if there is one and ``output`` is new, or has had its own
    already, the list gets the name of ``output``.
    """
    shared, own = output.with_name("errors.csv"), output.with_name(f"{output.stem}.errors.csv")
    if output.name in (shared.name, own.name):
        raise ConfigError(
            f"`--output` must not be named {output.name}, the list of what was skipped takes that "
            "name. Choose another one."
        )
    if own.exists() or (shared.exists() and not output.exists()):
        return own
    check_own_table(shared, ",".join(FAILURE_COLUMNS))
    return shared


def write_failures(failures: Sequence[Failure], path: Path) -> None:
    """Write a table of what was skipped, if anything was."""
    from potnet import files

    if failures:
        check_own_table(path, ",".join(FAILURE_COLUMNS))
        files.write_failures(failures, path)


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
