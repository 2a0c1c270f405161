"""Runs what requests ask for: in threads, within limits, no longer than somebody waits for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from fastapi import Request

from potnet.crystal import Crystal
from potnet.errors import Failure, PotNetError
from potnet.serve.batching import Batcher, Job
from potnet.serve.metrics import Metrics
from potnet.serve.problems import Problem, busy, too_long
from potnet.serve.reading import Limits, Read
from potnet.serve.records import failure

THREADS = 4

T = TypeVar("T")
Record = dict[str, Any]
Sheets = Batcher[Crystal | Failure, list[Record]]


class Work:
    """What runs and what waits.

    Args:
        compute: Returns the records of each of some crystals or failures.
        limits: How much one request may ask for.
        metrics: Where it is counted.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Crystal | Failure]], list[list[Record]]],
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self._batcher: Sheets = Batcher(compute, note=metrics.count_batch)
        self._pool = ThreadPoolExecutor(THREADS, "potnet-call")
        self._limits = limits
        self._metrics = metrics

    def close(self) -> None:
        """Finish what runs."""
        self._pool.shutdown()
        self._batcher.close()

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return what ``function`` returns in a thread.

        Raises:
            Problem: If the server is full, or it takes too long.
        """
        self._enter()
        running = asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
        # A thread cannot be stopped: it keeps its place until it ends, so that those which nobody
        # waits for any more never become many.
        running.add_done_callback(self._leave)
        done, _ = await asyncio.wait({running}, timeout=self._limits.seconds)
        if not done:
            running.cancel()
            raise too_long(self._limits.seconds)
        return running.result()

    async def records(self, reads: Sequence[Read], request: Request) -> list[Record]:
        """Return the records of some structures, in their order.

        Raises:
            Problem: If the server is full, it takes too long, or the client goes away.
        """
        with self._job(reads) as job:
            return await self._watched(_all(job, reads), request)

    async def lines(self, reads: Sequence[Read]) -> AsyncIterator[bytes]:
        """Yield a line for each record as it is made; a problem on the way is the last line."""
        try:
            with self._job(reads) as job:
                for read in reads:
                    async with asyncio.timeout(self._limits.seconds):
                        outcome = await job.next()
                    for record in _records(read, outcome):
                        self.count([record])
                        yield json.dumps(record, allow_nan=False).encode() + b"\n"
        except TimeoutError:
            yield too_long(self._limits.seconds).body + b"\n"
        except Problem as problem:
            yield problem.body + b"\n"

    def count(self, records: Sequence[Record]) -> None:
        """Count what is answered."""
        failures = sum("reason" in record for record in records)
        self._metrics.count("failures", failures)
        self._metrics.count("structures", len(records) - failures)

    @contextmanager
    def _job(self, reads: Sequence[Read]) -> Iterator[Job[Any, list[Record]]]:
        """Hand structures to the batches, and take back what is left when nobody waits for it."""
        self._enter()
        job = self._batcher.submit([read.item for read in reads])
        try:
            yield job
        finally:
            job.cancel()
            self._metrics.waiting -= 1

    async def _watched(self, wanted: Coroutine[Any, Any, T], request: Request) -> T:
        """Return what is waited for, unless the client leaves or it takes too long."""
        task = asyncio.create_task(wanted)
        gone = asyncio.create_task(_until_gone(request))
        try:
            await asyncio.wait(
                {task, gone},
                timeout=self._limits.seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if task.done():
                return task.result()
            if gone.done():
                self._metrics.count("cancelled")
            raise too_long(self._limits.seconds)
        finally:
            task.cancel()
            gone.cancel()

    def _enter(self) -> None:
        if self._metrics.waiting >= self._limits.waiting:
            raise busy()
        self._metrics.waiting += 1

    def _leave(self, running: asyncio.Future[Any]) -> None:
        self._metrics.waiting -= 1
        if not running.cancelled():
            running.exception()  # seen, even where nobody waits for it


async def _all(job: Job[Any, list[Record]], reads: Sequence[Read]) -> list[Record]:
    return [record for read in reads for record in _records(read, await job.next())]


def _records(read: Read, outcome: list[Record] | PotNetError) -> list[Record]:
    """Return the records of one structure, with what reading it had to say."""
    if isinstance(outcome, PotNetError):
        outcome = [failure(Failure(read.id, "predict", str(outcome)))]
    return [record if "reason" in record else {**record, **read.told()} for record in outcome]


async def _until_gone(request: Request) -> None:
    """Return when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
