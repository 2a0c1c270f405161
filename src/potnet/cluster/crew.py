"""Workers of a cluster, and shards: each shard once, whoever dies.

A worker is an actor of Ray that has one shard at a time, so that it is always known over which
shard it died. Ray starts it where there is room, tells that it has died, and asks for more
machines where there is no room; the rest is here.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from potnet.errors import Failure, PotNetError

if TYPE_CHECKING:
    from potnet.cluster.addresses import Source
    from potnet.cluster.shard import Done

CAREFUL_AFTER = 2  # deaths over a shard; from then on other processes do the work
MOST_DEATHS = 8  # over a shard
MOST_TRIES = 3  # to reach a file
WAIT = 1.0  # seconds until the crew is looked at, when nothing happens
LOOK = 5.0  # seconds between looks at how large the cluster is
SLOW = 3.0  # a shard that takes so many times as long as half of them is begun a second time
SLOW_SECONDS = 30.0  # that it must have taken at least

_log = logging.getLogger("potnet")


@dataclass(eq=False)
class _Job:
    """A shard on its way.

    Attributes:
        source: What is read.
        deaths: Workers that died over it.
        tries: Times that its files could not be reached.
        workers: Those that have it now.
        since: When the first of them began.
    """

    source: Source
    deaths: int = 0
    tries: int = 0
    workers: set[_Worker] = field(default_factory=set)
    since: float = 0.0


@dataclass(eq=False)
class _Worker:
    """An actor, and what it does: nothing while it starts or waits."""

    actor: Any
    job: _Job | None = None


class Crew:
    """Workers that come and go.

    Args:
        start: Starts an actor; it has the methods of :class:`~potnet.cluster.shard.ShardWorker`.
        least: Workers that are there while there is work for them.
        most: Workers at most; as many as the cluster has room for, as it grows, if None.
        room: Returns for how many the cluster has room.
    """

    def __init__(
        self,
        start: Callable[[], Any],
        least: int,
        most: int | None,
        room: Callable[[], int],
    ) -> None:
        self._start, self._least, self._most, self._room = start, least, most, room
        self._refs: dict[Any, _Worker] = {}  # what is awaited of whom
        self._idle: list[_Worker] = []
        self._todo: deque[_Job] = deque()
        self._times: list[float] = []
        self._unborn = 0  # workers that died before they could work, in turn
        self._limit = self._fit = 1
        self._looked = -LOOK
        self.n_workers = self.n_deaths = 0  # at most at once; in all

    def close(self) -> None:
        """End all workers, whatever they do: a table of theirs is whole or not there."""
        for worker in [*self._refs.values(), *self._idle]:
            self._end(worker)
        self._refs.clear()
        self._idle.clear()

    def results(self, sources: Iterable[Source]) -> Iterator[tuple[Source, Done | Failure]]:
        """Yield what came of each source, as they are done, or why it has no table.

        Raises:
            PotNetError: If no worker can start, or what the worker raises about the settings.
        """
        import ray

        self._todo.extend(_Job(source) for source in sources)
        while self._todo or any(worker.job for worker in self._refs.values()):
            self._grow()
            self._assign()
            refs = list(self._refs)
            # Sleep until there is one, then take all that are there.
            if ray.wait(refs, num_returns=1, timeout=WAIT)[0]:
                for ref in ray.wait(refs, num_returns=len(refs), timeout=0)[0]:
                    yield from self._take(ref)

    def _grow(self) -> None:
        """Start workers where there is work for them: those that fit, and beyond, twice as many.

        Those that do not fit wait, by which Ray knows that more machines are wanted.
        """
        if time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            self._fit = max(1, self._room())
            self._limit = self._fit if self._most is None else self._most
        busy = [worker for worker in self._refs.values() if worker.job is not None]
        starting, there = len(self._refs) - len(busy), len(busy) + len(self._idle)
        wanted = min(self._limit, len(self._todo) + len(busy)) - there - starting
        allowed = max(self._least, self._fit, 2 * there) - there - starting
        for _ in range(min(wanted, allowed)):
            worker = _Worker(self._start())
            self._refs[worker.actor.load.remote()] = worker
        self.n_workers = max(self.n_workers, there)

    def _assign(self) -> None:
        """Give out shards, at the end slow ones a second time, and let go of who has none."""
        while self._idle and self._todo:
            self._hand(self._idle.pop(), self._todo.popleft())
        slow = self._slow() if self._idle else []
        while self._idle and slow:
            self._hand(self._idle.pop(), slow.pop())
        spare = sum(worker.job is not None for worker in self._refs.values())
        while len(self._idle) > spare:
            self._end(self._idle.pop())

    def _slow(self) -> list[_Job]:
        """Return the shards that one worker has had for much longer than others take."""
        if not self._times:
            return []
        limit = max(SLOW * statistics.median(self._times), SLOW_SECONDS)
        now = time.monotonic()
        jobs = {worker.job for worker in self._refs.values() if worker.job is not None}
        return [job for job in jobs if len(job.workers) == 1 and now - job.since > limit]

    def _hand(self, worker: _Worker, job: _Job) -> None:
        worker.job = job
        if not job.workers:
            job.since = time.monotonic()
        job.workers.add(worker)
        source, careful = job.source, job.deaths >= CAREFUL_AFTER
        self._refs[worker.actor.predict.remote(source.address, source.name, careful)] = worker

    def _take(self, ref: Any) -> Iterator[tuple[Source, Done | Failure]]:
        """Take an answer, or the news that who was to give it has died."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        worker = self._refs.pop(ref)
        job, worker.job = worker.job, None
        try:
            done: Any = ray.get(ref)
        except RayTaskError as error:
            self._idle.append(worker)
            yield from self._again(job, error.cause)
            return
        except RayError as error:
            yield from self._died(job, worker, error)
            return
        self._idle.append(worker)
        self._unborn = 0
        if job is None:
            return
        job.workers.discard(worker)
        for other in job.workers:  # whoever has it too
            self._end(other)
        self._refs = {r: w for r, w in self._refs.items() if w not in job.workers}
        self._times.append(done.seconds)
        yield job.source, done

    def _again(self, job: _Job | None, error: Any) -> Iterator[tuple[Source, Failure]]:
        """Try a shard again whose files could not be reached; all else is raised."""
        if job is None or not isinstance(error, OSError):
            raise error
        job.workers = {worker for worker in job.workers if worker.job is job}
        job.tries += 1
        if job.workers:
            return
        if job.tries < MOST_TRIES:
            self._todo.append(job)
            return
        yield job.source, _lost(job, f"files that cannot be reached ({error})")

    def _died(self, job: _Job | None, worker: _Worker, error: Exception) -> Iterator[Any]:
        """Let others do what a worker had that has died."""
        self.n_deaths += 1
        if job is None:
            self._unborn += 1
            if self._unborn > 2 + 2 * self._limit:
                raise PotNetError(
                    "cluster: a worker must start and load what it needs, got "
                    f"{self._unborn} in turn that ended before ({_first_line(error)}). "
                    "Use fewer workers, as for want of memory."
                )
            return
        job.workers.discard(worker)
        job.deaths += 1
        if job.workers:
            return
        if job.deaths < MOST_DEATHS:
            self._todo.appendleft(job)
            return
        yield job.source, _lost(job, f"{job.deaths} workers that died ({_first_line(error)})")

    @staticmethod
    def _end(worker: _Worker) -> None:
        import ray

        ray.kill(worker.actor)


def _lost(job: _Job, why: str) -> Failure:
    reason = (
        f"{job.source.address}: a worker must be able to read it and write its table, got {why}. "
        "Start the same command again, or give workers more memory."
    )
    return Failure(job.source.address, "shard", reason)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
