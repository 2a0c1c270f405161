"""What a hundred million structures take on 10, 100 and 1,000 machines: a model and a simulation.

    python benchmarks/cluster_model.py    # writes benchmarks/results/cluster_model.json

Costs of a crystal, a shard and a worker are those of ``benchmarks/results/cluster.json``, measured
on one machine; ten times the costs of a crystal stand for the whole sheet, or larger crystals. The
simulation plays the rules of ``potnet.cluster.crew``: each worker has one shard; the driver gives
out so many a second as it was measured to; machines differ in speed, some are several times as
slow, some die and come back after a while; what was in work there is done again, and at the end
slow shards are begun a second time. What it cannot know is in ``ASSUMED``: networks, file systems
and machines of others.
"""

from __future__ import annotations

import argparse
import heapq
import json
import statistics
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

RESULTS = Path(__file__).parent / "results"
CRYSTALS, SHARD, CORES = 100_000_000, 8192, 16
SPREAD = 0.1  # standard deviation of the logarithm of a machine's speed
SLOW, SLOW_SHARE = 4.0, 0.01  # times as slow, of so many machines
SLOW_FACTOR, SLOW_SECONDS = 3.0, 30.0  # as in crew.py
LOOK = 30.0  # seconds between looks for slow shards
ASSUMED = {
    "start_s": 30.0,  # of a worker on an idle machine: Python, torch, models
    "workers_started_a_second": 50.0,  # by the head
    "machine_hours_between_deaths": 50.0,
    "seconds_until_a_machine_is_back": 300.0,
    "seconds_until_a_death_is_known": 60.0,
    "entry_bytes": 600,  # of one file in the driver's lists
    "worker_entry_bytes": 200_000,  # of one worker in the driver and the head, at most
    "listing_files_a_second": 1000.0,  # of an object store, a thousand a request
}


class Costs(NamedTuple):
    """What was measured.

    Attributes:
        crystal_s: Of a core, for a crystal.
        shards_a_second: That one driver gives out.
        table_bytes: Of the table of a crystal.
        worker_mb, driver_mb: Memory.
    """

    crystal_s: float
    shards_a_second: float
    table_bytes: float
    worker_mb: float
    driver_mb: float


def measured() -> Costs:
    """Return the costs that ``benchmarks/cluster.py`` wrote."""
    found = json.loads((RESULTS / "cluster.json").read_text("utf-8"))
    run = found["run"]
    last = run["samples"][-1]
    return Costs(
        run["cpu_ms_a_crystal"] / 1000,
        found["head"]["shards_a_second"],
        run["table_bytes_a_crystal"],
        last["workers_mb"],
        last["driver_mb"],
    )


class Simulation:
    """A run, played event by event; times are in seconds.

    Attributes:
        end: When the last table was there.
        again: Shards that were done in vain.
        deaths: Of machines.
    """

    def __init__(self, machines: int, shard: int, costs: Costs, rng: np.random.Generator) -> None:
        self.costs, self.rng, self.work = costs, rng, shard * costs.crystal_s
        self.speed = np.exp(rng.normal(0, SPREAD, machines))
        self.speed[rng.random(machines) < SLOW_SHARE] *= SLOW
        n_shards = -(-CRYSTALS // shard)
        self.waiting = deque(range(n_shards))
        self.left = n_shards
        self.finished = np.zeros(n_shards, dtype=bool)
        self.workers_of: dict[int, dict[int, float]] = {}  # shard -> worker -> since when
        self.idle: set[int] = set()
        n_workers = min(machines * CORES, n_shards)
        self.lives = np.zeros(n_workers, dtype=int)  # one that is born again has another
        self.driver_free = self.end = 0.0
        self.took: deque[float] = deque(maxlen=1000)
        self.again = self.deaths = 0
        self.events: list[tuple[float, int, str, tuple[int, ...]]] = []
        self.count = 0
        for worker in range(n_workers):
            started = worker / ASSUMED["workers_started_a_second"]
            self.at(started + ASSUMED["start_s"], "born", worker, 0)
        for machine in range(machines):
            self.at(self.next_death(0.0), "death", machine)
        self.at(LOOK, "look")

    def at(self, time: float, kind: str, *what: int) -> None:
        """Let something happen."""
        self.count += 1
        heapq.heappush(self.events, (time, self.count, kind, what))

    def next_death(self, now: float) -> float:
        return now + self.rng.exponential(ASSUMED["machine_hours_between_deaths"] * 3600)

    def played(self) -> Simulation:
        """Return itself after all has happened."""
        while self.left:
            now, _, kind, what = heapq.heappop(self.events)
            getattr(self, kind)(now, *what)
            self.assign(now)
        return self

    def born(self, now: float, worker: int, life: int) -> None:
        if life == self.lives[worker]:
            self.idle.add(worker)

    def look(self, now: float) -> None:
        self.at(now + LOOK, "look")

    def done(self, now: float, worker: int, life: int, shard: int) -> None:
        if life != self.lives[worker]:
            return
        since = self.workers_of[shard].pop(worker)
        self.took.append(now - since)
        self.idle.add(worker)
        if not self.finished[shard]:
            self.finished[shard], self.end = True, now
            self.left -= 1
            for other in self.workers_of.pop(shard):  # it is ended, and another one starts
                self.again += 1
                self.lives[other] += 1
                self.at(now + ASSUMED["start_s"], "born", other, int(self.lives[other]))

    def death(self, now: float, machine: int) -> None:
        self.deaths += 1
        self.at(self.next_death(now), "death", machine)
        mine = range(machine * CORES, min((machine + 1) * CORES, len(self.lives)))
        back = now + ASSUMED["seconds_until_a_machine_is_back"] + ASSUMED["start_s"]
        for worker in mine:
            self.lives[worker] += 1
            self.at(back, "born", worker, int(self.lives[worker]))
        self.idle.difference_update(mine)
        for shard, workers in self.workers_of.items():
            for worker in [worker for worker in workers if worker in mine]:
                del workers[worker]
                self.again += 1
                self.at(now + ASSUMED["seconds_until_a_death_is_known"], "lost", shard)

    def lost(self, now: float, shard: int) -> None:
        if not self.finished[shard] and not self.workers_of[shard]:
            self.waiting.appendleft(shard)

    def assign(self, now: float) -> None:
        """Give out shards; at the end, those that take long a second time."""
        while self.idle and self.waiting:
            self.hand(now, self.idle.pop(), self.waiting.popleft())
        if self.idle and self.took:
            limit = max(SLOW_FACTOR * statistics.median(self.took), SLOW_SECONDS)
            slow = [
                shard
                for shard, workers in self.workers_of.items()
                if len(workers) == 1 and now - min(workers.values()) > limit
            ]
            for shard in slow[: len(self.idle)]:
                self.hand(now, self.idle.pop(), shard)

    def hand(self, now: float, worker: int, shard: int) -> None:
        self.driver_free = max(self.driver_free, now) + 1 / self.costs.shards_a_second
        took = self.work * self.speed[worker // CORES] * np.exp(self.rng.normal(0, 0.05))
        self.workers_of.setdefault(shard, {})[worker] = self.driver_free
        self.at(self.driver_free + took, "done", worker, int(self.lives[worker]), shard)


def limits(machines: int, shard: int, costs: Costs) -> dict[str, float]:
    """Return what each part of a run needs, by formulas."""
    n_shards = -(-CRYSTALS // shard)
    workers = machines * CORES
    return {
        "shards": n_shards,
        "files": 2 * n_shards,
        "table_mb": shard * costs.table_bytes / 1e6,
        "all_tables_gb": CRYSTALS * costs.table_bytes / 1e9,
        "seconds_of_a_shard": shard * costs.crystal_s,
        "shards_a_second_wanted": min(workers, n_shards) / (shard * costs.crystal_s),
        "share_of_the_driver": min(workers, n_shards)
        / (shard * costs.crystal_s)
        / costs.shards_a_second,
        "driver_mb": costs.driver_mb
        + (2 * n_shards * ASSUMED["entry_bytes"] + workers * ASSUMED["worker_entry_bytes"]) / 1e6,
        "machine_gb": CORES * costs.worker_mb / 1e3,
        "object_store_mb": 1.0,  # settings alone: neither crystals nor tables go through it
        "seconds_to_list": 2 * n_shards / ASSUMED["listing_files_a_second"],
        "shards_for_each_worker": n_shards / workers,
    }


def main() -> None:
    """Play all sizes, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS / "cluster_model.json")
    options = parser.parse_args()
    costs = measured()
    ideal = CRYSTALS * costs.crystal_s / 3600
    results: dict[str, Any] = {
        "crystals": CRYSTALS,
        "cores_of_a_machine": CORES,
        "measured": costs._asdict(),
        "assumed": ASSUMED,
        "core_hours": ideal,
        "command": "python benchmarks/cluster_model.py",
        "runs": [],
    }
    for machines in (10, 100, 1000):
        for shard, factor in ((SHARD, 1), (SHARD // 8, 1), (SHARD, 10)):
            dear = costs._replace(crystal_s=factor * costs.crystal_s)
            played = Simulation(machines, shard, dear, np.random.default_rng(0)).played()
            hours = played.end / 3600
            row = {"machines": machines, "crystals_of_a_shard": shard, "cost": factor}
            row |= {"hours": hours, "efficiency": factor * ideal / (machines * CORES) / hours}
            row |= {"shards_again": played.again, "machines_that_died": played.deaths}
            row |= limits(machines, shard, dear)
            results["runs"].append(row)
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})
    options.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
