"""Sheets of everything in many files: read, described, predicted and composed in many processes.

What is read is cut into tasks that depend on the input alone. A worker makes all of a task, from
the text of files to rows, and this process names, orders and writes them; so nothing in a result
tells how many workers there were. Between the two are few tasks, never all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar

from potnet.devices import import_torch
from potnet.errors import Failure, StructureError
from potnet.io import Names, Piece
from potnet.parallel import in_order
from potnet.sheet.rows import Row
from potnet.sheet.stream import BATCH_SIZE, CrystalSheet, SheetMaker

FEW_TASKS = 8  # are done before other processes have started

TASK_BYTES = 4 * 2**20  # of text or arrays that go to a process at once

Item = TypeVar("Item")
Task = tuple[Piece, ...]


class Outcome(NamedTuple):
    """What became of one crystal, or of something that is none.

    Attributes:
        path: File that it was read from.
        id: Its name there.
        rows: Of the sheet.
        failures: Why it could not be read, or models refused it.
        is_crystal: Whether it could be read.
    """

    path: str
    id: str
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    is_crystal: bool

    def named(self, id: str | Failure) -> Outcome:
        """Return the outcome under another id, or the failure to find one."""
        if isinstance(id, Failure):
            return Outcome(self.path, id.id, (), (id,), False)
        if id == self.id:
            return self
        rows = tuple(replace(row, id=id) for row in self.rows)
        old = f"{self.id}: "
        failures = tuple(
            Failure(id, f.stage, re.sub(rf"\A{re.escape(old)}", lambda _: f"{id}: ", f.reason))
            for f in self.failures
        )
        return Outcome(self.path, id, rows, failures, True)


class Store(Protocol):
    """What keeps finished tasks, so that an interrupted run goes on with the others."""

    def resume(
        self, tasks: Iterable[Task], run: Callable[[Iterable[Task]], Iterator[list[Outcome]]]
    ) -> Iterator[list[Outcome]]:
        """Yield the outcomes of all tasks, of finished ones without running them."""
        ...


class SheetWork:
    """What a worker does with a task; it keeps the models between tasks.

    Args:
        maker: Makes the sheets.
        batch_size: Most crystals that are computed together.
    """

    def __init__(self, maker: SheetMaker, *, batch_size: int = BATCH_SIZE) -> None:
        self._maker, self._batch_size = maker, batch_size

    def __call__(self, task: Task) -> list[Outcome]:
        """Return what became of everything in a task."""
        found = [(piece.path, *item) for piece in task for item in piece.found()]
        crystals = [
            item if item.id == name else item.replace(id=name)
            for _, name, item in found
            if not isinstance(item, StructureError)
        ]
        with _one_thread():
            said = iter(list(self._maker.each(crystals, batch_size=self._batch_size)))
        outcomes = []
        for path, name, item in found:
            if isinstance(item, StructureError):
                failure = Failure(name, "read", str(item))
                outcomes.append(Outcome(path, name, (), (failure,), False))
                continue
            sheet = next(said)
            rows = tuple(row for one in sheet if isinstance(one, CrystalSheet) for row in one.rows)
            failures = tuple(one for one in sheet if isinstance(one, Failure))
            outcomes.append(Outcome(path, name, rows, failures, True))
        return outcomes


def outcomes_of(
    work: SheetWork,
    pieces: Iterable[Piece],
    *,
    workers: int,
    task_size: int = BATCH_SIZE,
    store: Store | None = None,
    names: Names | None = None,
    few: int = FEW_TASKS,
) -> Iterator[tuple[int, list[Outcome]]]:
    """Yield the outcomes of all ``pieces`` in their order, a task at a time, under unique ids.

    Args:
        work: What to do.
        pieces: Everything that is to be read.
        workers: Processes; the outcomes do not depend on it.
        task_size: Most pieces in a task.
        store: What keeps outcomes until all are there.
        names: The ids that are taken.
        few: Tasks that are not worth starting processes for.

    Yields:
        The number of pieces in a task, and what became of them.
    """
    sizes: list[int] = []

    def tasks() -> Iterator[Task]:
        for task in tasks_of(pieces, task_size):
            sizes.append(len(task))
            yield task

    def run(some: Iterable[Task]) -> Iterator[list[Outcome]]:
        told = {"divide": _parts, "join": _joined, "lost": _lost, "few": few}
        return in_order(work, some, workers, prepare=import_torch, **told)

    found = run(tasks()) if store is None else store.resume(tasks(), run)
    names = names or Names()
    for outcomes in found:
        yield (
            sizes.pop(0),
            [
                one.named(names.unique(one.id, one.path)) if one.is_crystal else one
                for one in outcomes
            ],
        )


def tasks_of(pieces: Iterable[Piece], size: int) -> Iterator[Task]:
    """Yield ``size`` pieces at a time, fewer where they are large."""
    task: list[Piece] = []
    total = 0
    for piece in pieces:
        task.append(piece)
        total += piece.size
        if len(task) == size or total > TASK_BYTES:
            yield tuple(task)
            task, total = [], 0
    if task:
        yield tuple(task)


def cut(items: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    """Yield ``size`` items at a time."""
    rest = iter(items)
    while task := tuple(islice(rest, size)):
        yield task


def digest_of(tasks: Iterable[Task]) -> str:
    """Return what tells the pieces of tasks from others."""
    whole = hashlib.blake2b(digest_size=16)
    for task in tasks:
        for piece in task:
            whole.update(piece.digest())
    return whole.hexdigest()


def key_of(maker: SheetMaker, *settings: object) -> str:
    """Return what tells the rows of a maker from those of another: models, hull, settings."""
    cards = [predictor.card.model_dump_json() for predictor in maker.predictors.values()]
    texts = [version("potnet"), maker.settings, *map(repr, settings), *cards]
    whole = hashlib.sha256("\n".join(texts).encode())
    for predictor in maker.predictors.values():
        if predictor.calibration is not None:
            for name, array in sorted(predictor.calibration.arrays().items()):
                whole.update(name.encode() + array.tobytes())
    return whole.hexdigest()


def _parts(task: Task) -> Sequence[Task]:
    return [(piece,) for piece in task]


def _joined(parts: Sequence[list[Outcome]]) -> list[Outcome]:
    return [outcome for part in parts for outcome in part]


def _lost(task: Task, why: str) -> list[Outcome]:
    """Return the failure of a piece over which processes were killed."""
    (piece,) = task
    name = piece.name or piece.path
    reason = (
        f"{name}: it must be computable here, got a process that {why}. "
        "Leave it out, or give the computer more memory."
    )
    return [Outcome(piece.path, name, (), (Failure(name, "predict", reason),), False)]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread, as in a worker: sums over several have other last digits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
