"""Where a sheet goes: a table in a file, a page, the terminal, or a pipe."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from potnet.cli.terminal import errors_beside, show_table, write_failures
from potnet.errors import ConfigError, Failure
from potnet.files import check_output, check_output_folder

if TYPE_CHECKING:
    from potnet.crystal import Crystal
    from potnet.io import Names, Piece
    from potnet.known import KnownCrystal
    from potnet.sheet import Row
    from potnet.sheet.journal import Journal
    from potnet.sheet.pipeline import Outcome
    from potnet.sheet.shards import ShardFolder

SHOWN = 5  # crystals on the terminal
ON_PAGE = 100  # crystals on a page; a table holds the others better
HEADER = ["property", "value", "90 % interval", "unit", "known", "level of theory", "remarks"]


class SheetOutput:
    """Takes rows, crystal after crystal, and failures.

    Args:
        output: Table to write, if wanted.
        html: Page to write, if wanted.
        wide: One row for each crystal.
        inputs: What is read, which must not be written.
        nearest: Known crystals that are shown with each crystal on the terminal.

    Raises:
        ConfigError: If a file cannot be written where it is to be, or not in that format.
    """

    def __init__(
        self,
        output: Path | None,
        html: Path | None,
        *,
        wide: bool,
        inputs: Sequence[str],
        nearest: int = 0,
    ) -> None:
        from potnet.sheet.files import check_format

        self._output, self._html, self._wide = output, html, wide
        self._page: list[tuple[Row, ...]] = []
        self._first: list[Piece] = []  # what the page and the terminal are of
        self._nearest = nearest
        self.failures: list[Failure] = []
        self.n_crystals = 0
        #: Where an interrupted prediction keeps what it has.
        self.part: Path | None = None
        if html is not None:
            check_output(html, inputs=inputs, option="--html")
        if output is not None:
            is_file = output.is_file() or not output.exists()
            if is_file:
                check_format(output)
            check_output(output, inputs=inputs, option="--output")
            self._errors = errors_beside(output)
            self.part = output.with_name(f"{output.name}.part") if is_file else None
        elif sys.stdout is None and html is None:
            raise ConfigError(
                "predict: standard output is closed, so that `--output` must name a file, got "
                "none. Add --output FILE.csv."
            )

    def __enter__(self) -> SheetOutput:
        from potnet.sheet import COLUMNS
        from potnet.sheet.files import CsvTable, open_table

        columns = () if self._wide else COLUMNS
        self._stack = ExitStack()
        self._table: Any = None
        if self._output is not None:
            self._table = self._stack.enter_context(open_table(self._output, columns))
        elif sys.stdout is not None and not sys.stdout.isatty():
            self._table = CsvTable(sys.stdout, columns)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)

    @contextmanager
    def store(self, key: str, _: Names) -> Iterator[Journal | None]:
        """Enter what keeps finished tasks until the table is there, if there is to be one."""
        from potnet.sheet.journal import Journal

        if self.part is None:
            yield None
            return
        with Journal(self.part, key) as journal:
            yield journal

    @property
    def written(self) -> tuple[Path | None, ...]:
        """The files that are made, which a folder that is read may hold."""
        return self._output, self.part, self._html

    @property
    def kept(self) -> str:
        """What an interruption leaves, in words."""
        if self.part is None:
            return "Nothing is kept."
        return f"What was done is in {self.part}: the same command goes on from there."

    @property
    def n_failures(self) -> int:
        """How many could not be used."""
        return len(self.failures)

    def watched(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Pass on what is read, and remember that of the page and of the terminal."""
        wanted = ON_PAGE if self._html is not None else SHOWN if self._nearest else 0
        for piece in pieces:
            if len(self._first) < wanted:
                self._first.append(piece)
            yield piece

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Add the rows of crystals, and say what was skipped."""
        from potnet.sheet.rows import records_of

        for outcome in outcomes:
            for failure in outcome.failures:
                self.failures.append(failure)
                if self._output is None:
                    typer.echo(f"{failure.id} [{failure.stage}]: {failure.reason}", err=True)
            rows = outcome.rows
            if not rows:
                continue
            self.n_crystals += 1
            if len(self._page) < ON_PAGE:
                self._page.append(rows)
            if self._table is not None:
                for record in records_of(rows, wide=self._wide):
                    self._table.write(record)

    def _crystals(self) -> list[Crystal]:
        """Return the first crystals, read once more."""
        from potnet.io import crystals_in

        log = logging.getLogger("potnet")
        log.disabled, before = True, log.disabled  # what there is to say has been said
        try:
            found = (item for item in crystals_in(self._first) if not isinstance(item, Failure))
            return list(islice(found, ON_PAGE))
        finally:
            log.disabled = before

    def summarise(self) -> None:
        """Show the first crystals, write the page, and say where everything is."""
        if self._html is not None:
            from potnet.report.sheet import write_page

            write_page(self._html, self._page, self._crystals(), self.failures, self.n_crystals)
        if self._output is not None or (sys.stdout is not None and sys.stdout.isatty()):
            crystals = {c.id: c for c in self._crystals()} if self._nearest else {}
            for rows in self._page[:SHOWN]:
                show_crystal(rows)
                if rows[0].id in crystals:
                    show_nearest(_nearest(crystals[rows[0].id], self._nearest))
            if self.n_crystals > SHOWN:
                typer.echo(f"... {self.n_crystals} crystals in all.")
        for what, path in (("crystals", self._output), ("on a page", self._html)):
            if path is not None:
                typer.echo(f"{self.n_crystals} {what}: {path}", err=self._output is None)
        if self._output is not None and self.failures:
            write_failures(self.failures, self._errors)
            typer.echo(f"{len(self.failures)} skipped: {self._errors}", err=True)


class ShardOutput:
    """Takes rows for a folder of many tables, and failures.

    Args:
        output: The folder.
        kind: Format of the tables.
        html: Page that is wanted as well; a folder has none.
        wide: One row for each crystal.

    Raises:
        ConfigError: If there is no folder, or a page.
    """

    def __init__(
        self,
        output: Path | None,
        kind: Literal["csv", "parquet"],
        html: Path | None,
        *,
        wide: bool,
    ) -> None:
        from potnet.sheet.files import check_format

        if output is None or html is not None:
            got = "--html" if output is not None else "no --output"
            raise ConfigError(
                f"predict: `--shards` must have a folder for its tables and no page, got {got}. "
                "Give --output FOLDER alone."
            )
        check_format(f"x.{kind}")
        check_output_folder(output, option="--output")
        self._output, self._wide = output, wide
        self._kind: Literal["csv", "parquet"] = kind
        self._folder: ShardFolder | None = None

    def store(self, key: str, taken: Names) -> ShardFolder:
        """Return the folder, which is to be entered."""
        from potnet.sheet.shards import ShardFolder

        self._folder = ShardFolder(self._output, self._kind, key, taken, wide=self._wide)
        return self._folder

    def __enter__(self) -> ShardOutput:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    @property
    def written(self) -> tuple[Path, ...]:
        """The folder that is made, which may lie in one that is read."""
        return (self._output,)

    @property
    def kept(self) -> str:
        """What an interruption leaves, in words."""
        return f"Finished tables are in {self._output}: the same command goes on from there."

    @property
    def n_failures(self) -> int:
        """How many could not be used."""
        return self._folder.n_failures if self._folder is not None else 0

    def watched(self, pieces: Iterable[Piece]) -> Iterable[Piece]:
        """Pass on what is read."""
        return pieces

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Add what became of a task."""
        if self._folder is not None:
            self._folder.write(outcomes)

    def summarise(self) -> None:
        """Say where everything is."""
        folder = self._folder
        if folder is None:
            return
        files = f"{folder.n_files} file{'s' if folder.n_files != 1 else ''}"
        typer.echo(f"{folder.n_crystals} crystals in {files}: {self._output}")
        if folder.n_failures:
            typer.echo(f"{folder.n_failures} skipped: {self._output / '_errors.csv'}", err=True)


def show_crystal(rows: Sequence[Row]) -> None:
    """Show what a crystal is, and a row for each property."""
    first = rows[0]
    atoms = "1 atom" if first.n_atoms == 1 else f"{first.n_atoms} atoms"
    density = [f"{row.value:.4g} {row.unit}" for row in rows if row.property == "density"]
    facts = [first.formula, atoms, first.space_group or "no space group", *density]
    typer.echo(f"{first.id}: {', '.join(facts)}")
    show_table(HEADER, [cells(row) for row in rows if row.property != "density"])
    typer.echo("")


def _nearest(crystal: Crystal, n: int) -> list[KnownCrystal]:
    """Return the known crystals that are nearest; none of a crystal that is not periodic."""
    from potnet.known import load_known

    return load_known().nearest(crystal, n) if crystal.pbc.all() else []


def show_nearest(known: Sequence[KnownCrystal]) -> None:
    """Show known crystals that are near, with what is known of them."""
    if known:
        rows = [
            [k.id, k.formula, f"{k.distance:.3g}", *map(_value, (k.formation_energy, k.gap)),
             *map(_value, (k.bulk_modulus, k.shear_modulus))]
            for k in known
        ]  # fmt: skip
        typer.echo("Nearest known crystals (PBE, Materials Project):")
        show_table(["id", "formula", "distance", "eV/atom", "gap (eV)", "K (GPa)", "G (GPa)"], rows)
        typer.echo("")


def _value(x: float) -> str:
    return "" if x != x else f"{x:.4g}"


def cells(row: Row) -> list[str]:
    """Return a row as people read it."""
    found = dict(zip(("value", "lower", "upper", "known"), _numbers(row), strict=True))
    interval = f"{found['lower']} to {found['upper']}" if found["lower"] else ""
    level = row.level_of_theory or row.model
    remarks = "; ".join(filter(None, (*row.flags, row.note)))
    return [row.property, found["value"], interval, row.unit, found["known"], level, remarks]


def _numbers(row: Row) -> Iterator[str]:
    yield from map(_value, (row.value, row.lower, row.upper, row.reference))
