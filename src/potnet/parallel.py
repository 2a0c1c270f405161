"""The same function over many items in several processes: in order, few in flight, none lost.

Each process has a pipe of its own for items and one for results. What another process does, or
that it was killed in the middle of a message, cannot block it; and who has died, and over which
item, is always known.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import connection, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from potnet.errors import PotNetError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Item = TypeVar("Item")
Result = TypeVar("Result")

AT_HAND = 2  # items that a process has: one in work, one to go on with
AHEAD = 4  # items for each process that are drawn before the first of them is done
_TRIES = 2  # a process that is killed once may have been in the way of something else
# Read by libraries when they are loaded. One core has one process, which needs no more threads.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# Where Linux says how much memory a container has, in two versions of its groups.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_MEMORY = 8 * 2**30  # where the system does not say


def all_cores() -> int:
    """Return how many processes may run at once: the cores that this one may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def all_memory() -> int:
    """Return the bytes of memory that this process may use: the machine's, or its container's."""
    known = hasattr(os, "sysconf")  # not on Windows
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else _MEMORY]
    for path in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # not there, or without a limit
            limits.append(int(Path(path).read_text("ascii")))
    return min(limits)


def in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    *,
    divide: Callable[[Item], Sequence[Item]] | None = None,
    join: Callable[[Sequence[Result]], Result] | None = None,
    lost: Callable[[Item, str], Result] | None = None,
    few: int = 1,
    prepare: Callable[[], object] | None = None,
) -> Iterator[Result]:
    """Yield ``function`` of each item, in order, from ``workers`` processes.

    Few items are drawn ahead of the results that are taken, so that neither piles up. A process
    that is killed, as for want of memory, is replaced and its item tried again; if that kills
    again, the item is divided, and of the part that kills twice the result is that of ``lost``.

    Args:
        function: What to do; it goes to each process once, and may keep there what it loads. It
            can be imported by its name, or is an object that can be copied.
        items: What to do it with.
        workers: Processes; with 1, everything happens in this one.
        divide: Gives the parts of an item, one if it has none.
        join: Makes the result of an item from those of its parts; only with ``divide``.
        lost: Gives the result of a part that cannot be worked on, and why, in words.
        few: Items that are not worth starting processes for.
        prepare: What each process does first, before anything else is loaded there.

    Raises:
        PotNetError: If a process cannot be started, or is killed again and again over an item and
            there is no ``lost``. What ``function`` raises is raised here.
    """
    items = iter(items)
    first = list(islice(items, few + 1)) if workers > 1 else []
    if workers == 1 or len(first) <= few:
        yield from map(function, first)
        yield from map(function, items)
        return
    pool: _Pool[Item, Result] = _Pool(function, workers, divide, join, lost, prepare)
    try:
        yield from pool.results(_chained(first, items))
    finally:
        pool.close()


def _chained(first: list[Item], rest: Iterator[Item]) -> Iterator[Item]:
    """Yield ``first`` and ``rest``, holding no item longer than needed."""
    while first:
        yield first.pop(0)
    yield from rest


@dataclass(eq=False)
class _Job(Generic[Item]):
    """An item, or a part of one, on its way.

    Attributes:
        item: What is to be done.
        whole: The job that this is a part of.
        place: Of the part in the whole.
        deaths: Processes that were killed over it.
        parts: Results of the parts, once it is divided.
    """

    item: Item
    whole: _Job[Item] | None = None
    place: int = 0
    deaths: int = 0
    parts: list[Any] = field(default_factory=list)


_NOTHING = object()  # in the place of a result that is not there yet


@dataclass(frozen=True)
class _Raised:
    """In the place of a result: what is to be raised when its turn comes."""

    error: Exception


class _Worker(Generic[Item]):
    """A process, and the jobs that it has: the first is in work."""

    def __init__(self, function: Callable[..., Any], prepare: Callable[[], object] | None) -> None:
        context = get_context("spawn")  # a forked one would have locks of threads it has not
        take, self.give = context.Pipe(duplex=False)
        self.back, answer = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(take, answer, prepare), daemon=True)
        self.process.start()
        take.close()  # so that the end of the process closes the pipes
        answer.close()
        self.jobs: deque[_Job[Item]] = deque()
        self.is_ready = False
        self.send(function)

    def send(self, item: Any) -> None:
        """Hand something over; whether the process still lives shows when it answers."""
        with contextlib.suppress(OSError):
            self.give.send(item)

    def close(self) -> None:
        """End the process, whatever it is doing: it holds nothing that must be kept."""
        self.process.kill()
        self.process.join()
        self.give.close()
        self.back.close()


class _Pool(Generic[Item, Result]):
    """Processes and jobs; see :func:`in_order`."""

    def __init__(
        self,
        function: Callable[[Item], Result],
        workers: int,
        divide: Callable[[Item], Sequence[Item]] | None,
        join: Callable[[Sequence[Result]], Result] | None,
        lost: Callable[[Item, str], Result] | None,
        prepare: Callable[[], object] | None,
    ) -> None:
        self._prepare = prepare
        self._function, self._divide, self._join, self._lost = function, divide, join, lost
        self._size = workers
        self._workers: list[_Worker[Item]] = []
        self._again: deque[_Job[Item]] = deque()  # before new ones
        self._results: dict[_Job[Item], Any] = {}
        self._unborn = 0  # processes that died before they were ready, in turn

    def close(self) -> None:
        """End all processes."""
        while self._workers:
            self._workers.pop().close()

    def results(self, items: Iterator[Item]) -> Iterator[Result]:
        """Yield the results of ``items`` in their order."""
        self._workers = [_Worker(self._function, self._prepare) for _ in range(self._size)]
        order: deque[_Job[Item]] = deque()  # of what was drawn
        more = True
        while True:
            while more and not self._again and len(order) < AHEAD * self._size and self._free():
                item = next(items, _NOTHING)
                more = item is not _NOTHING
                if more:
                    order.append(_Job(item))  # type: ignore[arg-type]
                    self._hand(order[-1])
            while self._again and self._free():
                self._hand(self._again.popleft())
            while order and order[0] in self._results:
                result = self._results.pop(order.popleft())
                if isinstance(result, _Raised):
                    raise result.error
                yield result
            if order:
                self._listen()
            elif not more:
                return

    def _free(self) -> _Worker[Item] | None:
        """Return the process with the fewest jobs, if it takes one more."""
        worker = min(self._workers, key=lambda one: len(one.jobs))
        # A job that has killed goes alone, so that nobody else is suspected.
        limit = 1 if self._again or any(j.deaths for j in worker.jobs) else AT_HAND
        return worker if len(worker.jobs) < limit else None

    def _hand(self, job: _Job[Item]) -> None:
        worker = self._free()
        assert worker is not None  # noqa: S101  (asked for just before)
        worker.jobs.append(job)
        worker.send(job.item)

    def _listen(self) -> None:
        """Take one message of each process that has one, or replace it if it has died."""
        ready = connection.wait([worker.back for worker in self._workers])
        for worker in [worker for worker in self._workers if worker.back in ready]:
            try:
                kind, value = worker.back.recv()
            except (EOFError, OSError):
                self._replace(worker)
                continue
            if kind == "ready":
                worker.is_ready = True
                self._unborn = 0
            elif kind == "result":
                self._settle(worker.jobs.popleft(), value)
            elif kind == "log":
                name, level, text = value
                logging.getLogger(name).log(level, "%s", text)
            elif worker.jobs:
                self._settle(worker.jobs.popleft(), _Raised(value))
            else:
                raise value

    def _settle(self, job: _Job[Item], result: Any) -> None:
        """Note a result, and that of the whole when all of its parts are there."""
        whole = job.whole
        if whole is None:
            self._results[job] = result
            return
        whole.parts[job.place] = result
        if any(part is _NOTHING for part in whole.parts):
            return
        raised = next((part for part in whole.parts if isinstance(part, _Raised)), None)
        assert self._join is not None  # noqa: S101  (given wherever items are divided)
        self._settle(whole, raised or self._join(whole.parts))

    def _replace(self, worker: _Worker[Item]) -> None:
        """Start another process in the place of one that has died, and try its jobs again."""
        worker.close()
        code = worker.process.exitcode
        self._unborn += not worker.is_ready
        if self._unborn >= _TRIES:
            raise PotNetError(
                f"workers: a process must start and load what it needs, got one that ended with "
                f"code {code}. Use fewer workers, as for want of memory; a script of your own must "
                'start its work under `if __name__ == "__main__":`.'
            )
        jobs, self._workers = list(worker.jobs), [one for one in self._workers if one is not worker]
        begun = jobs[:1] if worker.is_ready else []  # what is to blame
        self._again.extendleft(reversed(jobs[len(begun) :]))
        if begun:
            jobs[0].deaths += 1
            self._retry(jobs[0], f"ended with code {code}, as when the memory is full")
        self._workers.append(_Worker(self._function, self._prepare))

    def _retry(self, job: _Job[Item], why: str) -> None:
        """Put a job that killed its process before the others, in parts if it did so again."""
        if job.deaths < _TRIES:
            self._again.appendleft(job)
            return
        parts = self._divide(job.item) if self._divide is not None else [job.item]
        if len(parts) > 1:
            job.parts = [_NOTHING] * len(parts)
            jobs = [_Job(part, job, place) for place, part in enumerate(parts)]
            self._again.extendleft(reversed(jobs))
        elif self._lost is not None:
            self._settle(job, self._lost(job.item, why))
        else:
            raise PotNetError(
                f"workers: a process must be let finish, got {_TRIES} in turn over the same item "
                f"that {why}. Use fewer workers, or a machine with more memory."
            )


def _work(take: Connection, answer: Connection, prepare: Callable[[], object] | None) -> None:
    """Run in a process: do what comes, until whoever sends it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that is in charge
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    if prepare is not None:
        prepare()
    _report(lambda *said: answer.send(("log", said)))
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(take, waiting), daemon=True).start()
    function: Callable[[Any], Any] | None = None
    while True:
        kind, item = waiting.get()
        # Whatever it is, it is raised where the results are awaited.
        try:
            if kind == "error":
                raise item
            if function is None:
                function, message = item, ("ready", None)
                if "torch" in sys.modules:
                    sys.modules["torch"].set_num_threads(1)
            else:
                message = ("result", function(item))
        except Exception as error:  # noqa: BLE001
            message = ("error", error)
        try:
            answer.send(message)
        except (TypeError, AttributeError, ValueError) as error:  # it cannot be copied
            answer.send(("error", PotNetError(f"workers: {error!r} of {message[1]!r:.300}")))
        del item, message


def _receive(take: Connection, waiting: queue.SimpleQueue[Any]) -> None:
    """Take what is sent at once, so that the sender never waits for the work to be done."""
    while True:
        try:
            message = ("item", take.recv())
        except (EOFError, OSError):
            os._exit(1)  # killed or done, the sender is gone
        except Exception as error:  # noqa: BLE001  (as above)
            message = ("error", error)
        waiting.put(message)


def _report(send: Callable[[str, int, str], None]) -> None:
    """Let the process that is in charge say what libraries note and warn of in this one."""

    class Sent(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            send(record.name, record.levelno, record.getMessage())

    for name in ("potnet", "latticesums"):
        log = logging.getLogger(name)
        log.addHandler(Sent())
        log.setLevel(logging.INFO)
        log.propagate = False
    warnings.showwarning = lambda text, *_, **__: send("potnet", logging.WARNING, str(text))
