"""Crystals of several requests are computed together, and none of them pays for another."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

pytest.importorskip("fastapi")

from potnet.errors import PotNetError
from potnet.serve.batching import Batcher, Job


class Held:
    """Computes only when it is let to, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.go.wait()
        if 13 in items:
            raise MemoryError("thirteen")
        self.batches.append(list(items))
        return [10 * item for item in items]


async def collect(job: Job[int, int]) -> list[int | PotNetError]:
    return [await job.next() for _ in range(job.size)]


def outcomes_of(requests: list[list[int]], size: int, cancelled: int | None = None) -> tuple:
    """Return what each request got, and the batches after the first, which only blocks."""
    held = Held()

    async def run() -> list:
        batcher = Batcher(held, size)
        first = batcher.submit([0])
        while first.left:  # the thread has taken it: all others come while it computes
            await asyncio.sleep(0.001)
        jobs = [batcher.submit(items) for items in requests]
        if cancelled is not None:
            jobs[cancelled].cancel()
        held.go.set()
        kept = [job for k, job in enumerate(jobs) if k != cancelled]
        found = await asyncio.gather(*map(collect, kept))
        await asyncio.to_thread(batcher.close)
        return found

    return asyncio.run(run()), held.batches[1:]


def test_what_waits_together_is_computed_together() -> None:
    found, batches = outcomes_of([[1], [2], [3, 4]], size=32)
    assert found == [[10], [20], [30, 40]]
    assert batches == [[1, 2, 3, 4]]


def test_requests_take_turns_so_that_a_small_one_never_waits_for_a_large_one() -> None:
    found, batches = outcomes_of([list(range(100, 120)), [1]], size=4)
    assert 1 in batches[0]
    assert found[0] == [10 * n for n in range(100, 120)], "in their order"


def test_what_breaks_costs_no_other_its_answer() -> None:
    found, _ = outcomes_of([[1], [13], [2]], size=32)
    assert found[0] == [10]
    assert found[2] == [20]
    (refused,) = found[1]
    assert "thirteen" in str(refused)


def test_what_nobody_waits_for_is_not_computed() -> None:
    found, batches = outcomes_of([[1, 2], [3]], size=32, cancelled=0)
    assert found == [[30]]
    assert batches == [[3]]
