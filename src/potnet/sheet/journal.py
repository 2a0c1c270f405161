"""What a long prediction keeps while it runs, so that it goes on after an interruption."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import IO, Any

from potnet.errors import ConfigError, Failure
from potnet.files import naming
from potnet.sheet.pipeline import Outcome, Task, digest_of
from potnet.sheet.rows import COLUMNS, Row

_fields = attrgetter(*COLUMNS)


class Journal:
    """The finished tasks of a prediction, one line each, in a file that grows as they come.

    A line holds a digest of what was read and what became of it; the first line says for which
    models and settings. What has changed since is predicted again, with what is near to it; and so
    is everything when the models have. Only the places of the lines are in memory.

    Args:
        path: The file; an existing one is continued.
        key: Text that is another when the rows would be.

    Raises:
        ConfigError: On entering, if the file is somebody else's.
    """

    _file: IO[bytes]

    def __init__(self, path: str | os.PathLike[str], key: str) -> None:
        self.path, self._key = Path(path), key
        self._known: dict[str, int] = {}  # where the line of a task begins
        self.n_read = self.n_kept = 0  # crystals

    def __enter__(self) -> Journal:
        end = self._read() if self.path.exists() else 0
        # Not "a": the last line may be a part of one, and is written over.
        self._file = open(self.path, "r+b" if end else "w+b")  # noqa: SIM115
        self._file.truncate(end)
        self._file.seek(end)
        if not end:
            self._file.write(self._first_line())
        self.n_kept = self.n_read
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with naming(self.path):
            self._file.close()
        if kind is None or not self.n_kept:
            self.path.unlink(missing_ok=True)

    def resume(
        self, tasks: Iterable[Task], run: Callable[[Iterable[Task]], Iterator[list[Outcome]]]
    ) -> Iterator[list[Outcome]]:
        """Yield the outcomes of ``tasks``, of finished ones from the file, of others by ``run``."""
        order: deque[str] = deque()

        def unknown() -> Iterator[Task]:
            for task in tasks:
                order.append(digest_of([task]))
                if order[-1] not in self._known:
                    yield task

        for outcomes in run(unknown()):
            yield from self._finished(order)
            self._keep(order.popleft(), outcomes)
            yield outcomes
        yield from self._finished(order)

    def _finished(self, order: deque[str]) -> Iterator[list[Outcome]]:
        """Yield what is kept of the first tasks of ``order``, up to one that is not."""
        while order and order[0] in self._known:
            self._file.seek(self._known[order.popleft()])
            line = self._file.readline()
            self._file.seek(0, os.SEEK_END)
            yield [_outcome(plain) for plain in json.loads(line)["outcomes"]]

    def _keep(self, digest: str, outcomes: list[Outcome]) -> None:
        line = {"task": digest, "outcomes": [_plain(one) for one in outcomes]}
        with naming(self.path):
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()  # to the system, which keeps it when this process is killed
        self.n_kept += len(outcomes)

    def _read(self) -> int:
        """Note the finished tasks of an earlier run like this one; return where they end."""
        with open(self.path, "rb") as file:
            first = file.readline()
            if first and not first.startswith(b'{"models": "'):
                raise ConfigError(
                    f"{self.path}: must be what an interrupted prediction left or be free, got "
                    "another file. Rename it, or choose another output."
                )
            if first != self._first_line():
                return 0
            end = file.tell()
            while text := file.readline():
                try:
                    line = json.loads(text)
                    outcomes = [_outcome(plain) for plain in line["outcomes"]]
                    self._known[line["task"]] = end
                except (ValueError, TypeError, KeyError):
                    break  # the run was killed while it wrote this line
                self.n_read += len(outcomes)
                end = file.tell()
        return end

    def _first_line(self) -> bytes:
        return json.dumps({"models": self._key}).encode() + b"\n"


def _plain(outcome: Outcome) -> list[Any]:
    """Return an outcome as JSON holds it; the crystal is left out."""
    rows = [_fields(row) for row in outcome.rows]
    failures = [(f.id, f.stage, f.reason) for f in outcome.failures]
    return [outcome.path, outcome.id, rows, failures, outcome.is_crystal]


def _outcome(plain: list[Any]) -> Outcome:
    path, id, rows, failures, is_crystal = plain
    for row in rows:
        row[_FLAGS] = tuple(row[_FLAGS])
    found = tuple(Row(*row) for row in rows), tuple(Failure(*failure) for failure in failures)
    return Outcome(path, id, *found, is_crystal)


_FLAGS = COLUMNS.index("flags")
