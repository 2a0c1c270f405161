"""Crystals of requests that wait at the same time, computed together.

A batch of crystals costs little more than one. Whatever waits when the last batch is done makes
the next: nobody waits for a batch to fill. Requests take turns in it, so that one of a thousand
crystals never makes one of a single crystal wait for more than a batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from potnet.errors import PotNetError, as_refusal

BATCH_SIZE = 32

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Job(Generic[Item, Outcome]):
    """What one request asks for; its outcomes come in the order of its items."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.left = deque(items)
        self.size = len(self.left)
        self.is_cancelled = False
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Queue[Outcome | PotNetError] = asyncio.Queue()

    async def next(self) -> Outcome | PotNetError:
        """Return the next outcome, of which there are ``size``, or why there is none."""
        return await self._done.get()

    def cancel(self) -> None:
        """Say that nobody waits for what is left."""
        self.is_cancelled = True

    def deliver(self, outcome: Outcome | PotNetError) -> None:
        """Hand an outcome on, from whatever thread."""
        if self.is_cancelled:
            return
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            self._loop.call_soon_threadsafe(self._done.put_nowait, outcome)


class Batcher(Generic[Item, Outcome]):
    """A thread that computes what waits, batch by batch.

    Args:
        compute: Returns an outcome for each item, in their order.
        size: Most items of a batch.
        note: Called with the number of items of each batch.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], Sequence[Outcome]],
        size: int = BATCH_SIZE,
        note: Callable[[int], Any] = lambda n: None,
    ) -> None:
        self._compute = compute
        self._size = size
        self._note = note
        self._jobs: deque[Job[Item, Outcome]] = deque()
        self._changed = threading.Condition()
        self._is_open = True
        self._thread = threading.Thread(target=self._work, name="potnet-batches", daemon=True)
        self._thread.start()

    def submit(self, items: Iterable[Item]) -> Job[Item, Outcome]:
        """Return the job of some items, which waits for its turn."""
        job: Job[Item, Outcome] = Job(items)
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()
        return job

    def close(self) -> None:
        """Compute what waits and end the thread."""
        with self._changed:
            self._is_open = False
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._take():
            self._note(len(batch))
            outcomes = self._outcomes([item for _, item in batch])
            for (job, _), outcome in zip(batch, outcomes, strict=True):
                job.deliver(outcome)

    def _take(self) -> list[tuple[Job[Item, Outcome], Item]]:
        """Return the next batch, an item of each job in turn; empty when there is no more."""
        batch: list[tuple[Job[Item, Outcome], Item]] = []
        with self._changed:
            while not batch:
                while not self._jobs and self._is_open:
                    self._changed.wait()
                if not self._jobs:
                    break
                while self._jobs and len(batch) < self._size:
                    job = self._jobs.popleft()
                    if job.is_cancelled or not job.left:
                        continue
                    batch.append((job, job.left.popleft()))
                    self._jobs.append(job)
        return batch

    def _outcomes(self, items: Sequence[Item]) -> Sequence[Outcome | PotNetError]:
        """Compute items together; where that breaks, each alone, so that it costs no other."""
        try:
            return self._compute(items)
        # The wall around a crystal: whatever it does, no other request may suffer, and the
        # thread that all of them wait for must not end.
        except Exception as error:  # noqa: BLE001
            if len(items) == 1:
                return [as_refusal("predict", error)]
            return [outcome for item in items for outcome in self._outcomes([item])]
