"""A sheet in many files: each appears whole, and a killed run goes on behind the last."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

from potnet.errors import ConfigError, Failure
from potnet.files import check_output_folder, exclusive, remove_leftovers, write_failures
from potnet.io import Names
from potnet.sheet.files import Table, check_format, open_table
from potnet.sheet.pipeline import Outcome, Task, cut, digest_of
from potnet.sheet.rows import COLUMNS, records_of

TASKS = 128  # in a file: 8,192 crystals, some seconds to minutes of work
ERRORS, LOG, LOCK = "_errors.csv", "_progress.jsonl", "_lock"


class _Done(NamedTuple):
    """A finished file, as a line of the log has it."""

    digest: str
    ids: list[str]
    failures: list[list[str]]


class ShardFolder:
    """A folder of tables, one for each so many tasks, with the same columns.

    A table takes its place when it is complete, and then a line of ``_progress.jsonl`` says what
    was read for it. A run that is killed is gone on with behind the last line. Where what was read
    has changed, tables are made anew.

    Args:
        path: The folder; new, empty, or with what an earlier run of the same left.
        kind: Format of the tables.
        key: Text that is another when the rows would be.
        names: Takes the ids of finished tables.
        wide: One row for each crystal.
        tasks: In a table.

    Raises:
        ConfigError: If the library for the format is missing; on entering, if something else is in
            the folder, or another process is writing it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        kind: Literal["csv", "parquet"],
        key: str,
        names: Names,
        *,
        wide: bool = False,
        tasks: int = TASKS,
    ) -> None:
        check_format(f"x.{kind}")
        self.path, self._kind, self._wide, self._tasks = Path(path), kind, wide, tasks
        self._names = names
        self._first = json.dumps({"sheet": key, "kind": kind, "wide": wide, "tasks": tasks}) + "\n"
        self._open = ExitStack()
        self._table: Table | None = None
        self._now = _Done("", [], [])
        self.n_crystals = self.n_failures = self.n_files = self.n_read = 0

    def __enter__(self) -> ShardFolder:
        check_output_folder(self.path)
        with ExitStack() as stack:
            refusal = ConfigError(
                f"{self.path}: only one process may write into a folder, got a second one. "
                "Wait until the first has ended."
            )
            stack.enter_context(exclusive(self.path / LOCK, refusal))
            remove_leftovers(self.path)
            self._done, end = self._read()
            self._log = stack.enter_context(open(self.path / LOG, "r+b" if end else "w+b"))
            self._log.truncate(end)
            self._log.seek(end)
            if not end:
                self._append(self._first)
            self._stack = stack.pop_all()
        self._remove(len(self._done))  # one that was not yet in the log
        self.n_read = sum(len(done.ids) for done in self._done)
        return self

    def __exit__(self, *exception: Any) -> None:
        with self._stack:
            self._open.__exit__(*exception)  # a part of a table does not take its place
            if exception[0] is None:
                self._write_errors()

    def resume(
        self, tasks: Iterable[Task], run: Callable[[Iterable[Task]], Iterator[list[Outcome]]]
    ) -> Iterator[list[Outcome]]:
        """Yield the outcomes of ``tasks``; nothing for each task of a finished table.

        They are to be written, under unique ids, before the next are asked for.
        """
        order: deque[tuple[int, str, int]] = deque()  # number, digest and tasks of each table

        def unknown() -> Iterator[Task]:
            for number, group in enumerate(cut(tasks, self._tasks)):
                order.append((number, digest_of(group), len(group)))
                if not self._is_done(*order[-1]):
                    self._forget(number)
                    yield from group

        left = 0
        for outcomes in run(unknown()):
            if not left:
                yield from self._finished(order)
                left = order[0][2]
            yield outcomes
            left -= 1
            if not left:
                self._finish(*order.popleft())
        yield from self._finished(order)
        self._forget(self.n_files)

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Add what became of a task to the table that is being made."""
        table = self._table
        if table is None:
            if not outcomes:  # of a finished table
                return
            columns = () if self._wide else COLUMNS
            table = self._open.enter_context(open_table(self._file(self.n_files), columns))
            self._table = table
        for outcome in outcomes:
            self._now.failures.extend([f.id, f.stage, f.reason] for f in outcome.failures)
            if outcome.is_crystal:
                self._now.ids.append(outcome.id)
            for record in records_of(outcome.rows, wide=self._wide):
                table.write(record)

    def _finished(self, order: deque[tuple[int, str, int]]) -> Iterator[list[Outcome]]:
        """Pass over finished tables, up to one that is not."""
        while order and self._is_done(*order[0]):
            number, _, n_tasks = order.popleft()
            self._count(self._done[number])
            for id in self._done[number].ids:
                self._names.unique(id, id)
            yield from ([] for _ in range(n_tasks))

    def _is_done(self, number: int, digest: str, _: int) -> bool:
        return number < len(self._done) and self._done[number].digest == digest

    def _finish(self, number: int, digest: str, _: int) -> None:
        """Put the table in its place, and then say so in the log."""
        self._open.close()
        done, self._now, self._table = self._now._replace(digest=digest), _Done("", [], []), None
        self._append(json.dumps(done) + "\n")
        self._count(done)

    def _count(self, done: _Done) -> None:
        self.n_crystals += len(done.ids)
        self.n_failures += len(done.failures)
        self.n_files += 1

    def _file(self, number: int) -> Path:
        return self.path / f"{number:06}.{self._kind}"

    def _append(self, line: str) -> None:
        self._log.write(line.encode())
        self._log.flush()
        os.fsync(self._log.fileno())

    def _forget(self, number: int) -> None:
        """Forget table ``number`` of an earlier run, and all behind it: the log is in order."""
        if number < len(self._done):
            self._done = self._done[:number]
            self._log.seek(0)
            end = sum(len(self._log.readline()) for _ in range(number + 1))
            self._log.truncate(end)
            self._log.seek(end)
            self._remove(number)

    def _remove(self, number: int) -> None:
        """Remove the tables from ``number`` on."""
        for path in self.path.glob(f"[0-9]*.{self._kind}"):
            if path.stem.isdigit() and int(path.stem) >= number:
                path.unlink()

    def _read(self) -> tuple[list[_Done], int]:
        """Return the finished tables of an earlier run like this one, and the end of their lines.

        Raises:
            ConfigError: If the folder holds something else.
        """
        log = self.path / LOG
        if not log.exists() or not log.stat().st_size:
            others = [item for item in self.path.iterdir() if item.name not in (LOCK, LOG)]
            if others:
                raise ConfigError(
                    f"{self.path}: a folder for tables must be empty or hold those of an earlier "
                    f"run, got {others[0].name}. Choose another folder."
                )
            return [], 0
        done: list[_Done] = []
        with open(log, "rb") as file:
            if file.readline() != self._first.encode():
                raise ConfigError(
                    f"{self.path}: tables must be those of the same models and settings, got those "
                    "of others. Choose another folder."
                )
            end = file.tell()
            while text := file.readline():
                try:
                    found = _Done(*json.loads(text))
                except (ValueError, TypeError):
                    break  # the run was killed while it wrote this line
                if not text.endswith(b"\n") or not self._file(len(done)).exists():
                    break
                done.append(found)
                end = file.tell()
        return done, end

    def _write_errors(self) -> None:
        """List all that was skipped, from the log."""
        path = self.path / ERRORS
        path.unlink(missing_ok=True)
        if not self.n_failures:
            return
        self._log.seek(0)
        self._log.readline()
        lines = (_Done(*json.loads(line)).failures for line in self._log)
        write_failures((Failure(*failure) for failures in lines for failure in failures), path)
