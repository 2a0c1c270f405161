"""Running a benchmark: jobs side by side, each finished one kept, then one scoring of the test."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from potnet.benchmark.contestants import PLACES, Contestant, Job, Network
from potnet.benchmark.cost import Cost
from potnet.benchmark.opened import OpenSuite, open_suite
from potnet.benchmark.scoring import Order, TableRow, conclude, write_json
from potnet.benchmark.sweep import different
from potnet.errors import ConfigError
from potnet.files import atomic_write, remove_leftovers
from potnet.training import Progress
from potnet.training.feature_folder import FeatureFolder


def run(
    opened: OpenSuite,
    rows: Sequence[TableRow],
    *,
    source: str | os.PathLike[str],
    features: str | os.PathLike[str],
    targets: Sequence[str] = (),
    folds: Sequence[int] = (),
    n_seeds: int | None = None,
    jobs: int = 1,
    workers: int = 1,
    score_test: bool = True,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[Progress], None] | None = None,
) -> list[dict[str, Any]]:
    """Train and score contestants on a suite.

    Each contestant learns each target in each fold with each seed: a job with a folder of its
    own. A job that is finished is not repeated, one that was killed goes on, so that the same
    call continues after any interruption; further folds and seeds may be added to a folder, other
    settings may not. Test targets are nan in all that a contestant sees. When the jobs are done
    they are compared with the predictions, and ``scored.jsonl`` of the row keeps a line for every
    time this was done with new predictions: a row that was scored once was not chosen by its test
    error.

    Args:
        opened: The suite with its data.
        rows: Who competes.
        source: Where ``opened`` came from, for processes that open it again.
        features: Folder for the features that networks share, unless they name one.
        targets: Which of the suite's targets; empty takes all. Contestants that name targets of
            their own learn those together.
        folds: Which folds; empty takes all.
        n_seeds: Networks from different seeds, which predict together; None asks the contestant.
        jobs: Processes side by side; 1 works in this one.
        workers: Processes that make features.
        score_test: False leaves the test sealed and reports validation alone.
        say: Called with one line about each finished step.
        progress: Called with each epoch where ``jobs`` is 1.

    Returns:
        The results of each row, as ``results.json`` in its folder holds them.

    Raises:
        ConfigError: If a folder holds a row of other settings, or a fold does not exist.
        DataError: If a job fails.
    """
    names = _chosen(opened, targets)
    wanted = list(folds) or list(range(opened.suite.n_folds))
    absent = [fold for fold in wanted if not 0 <= fold < opened.suite.n_folds]
    if absent:
        raise ConfigError(
            f"{opened.suite.name}: `folds` must be from 0 to {opened.suite.n_folds - 1}, got "
            f"{absent[0]}. Correct it."
        )
    asked = opened.asking([name for row in rows for name in row.contestant.targets])
    orders: list[Order] = []
    threads = max(1, (os.cpu_count() or 1) // jobs)
    for row in rows:
        _claim(row, opened)
        own = row.contestant.config.feature_folder if isinstance(row.contestant, Network) else None
        place = Path(own or features)
        shared = _have_features(opened, row.contestant, place, workers, say)
        for group in _groups(row.contestant, names):
            _chosen(asked, group)
            for fold in wanted:
                for turn in range(n_seeds or row.contestant.n_seeds):
                    orders.append(
                        Order(opened.suite, str(source), row, group, fold, turn, shared, threads)
                    )
    _work(asked, [order for order in orders if not order.is_done], jobs, say, progress)
    results = []
    for row in rows:
        own = [order for order in orders if order.row is row]
        results.append(conclude(asked, row, own, score_test=score_test))
    return results


def _chosen(opened: OpenSuite, targets: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in targets if name not in opened.tasks]
    if unknown:
        raise ConfigError(
            f"{opened.suite.name}: targets must be {', '.join(opened.tasks)}, got "
            f"{unknown[0]!r}. Correct the name."
        )
    return tuple(targets) or tuple(opened.tasks)


def _groups(contestant: Contestant, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the targets of each network: what the settings join, else one by one."""
    return [contestant.targets] if contestant.targets else [(name,) for name in names]


def _claim(row: TableRow, opened: OpenSuite) -> None:
    """Make the folder of a row, or find it to be of this row."""
    row.folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(row.folder)
    path = row.folder / "benchmark.json"
    content = _plain(
        {
            "suite": opened.suite.name,
            "data": {
                "name": opened.dataset.name,
                "n": len(opened.dataset),
                "sha256": opened.dataset.sha256,
            },
            "settings": row.contestant.settings(),
            **({"most": opened.suite.most} if opened.suite.most else {}),
        }
    )
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        found["settings"] = {k: v for k, v in found["settings"].items() if k not in PLACES}
        new, old = different(content, found), different(found, content)
        if new or old:
            raise ConfigError(
                f"{path}: a row must keep its {' and '.join({**new, **old})}, got "
                f"{json.dumps(new)} in place of {json.dumps(old)}. Choose another folder."
            )
    elif any(row.folder.glob("jobs/*")):
        raise ConfigError(
            f"{row.folder}: must be empty or hold the row that was begun in it, got jobs of "
            "something else. Choose another folder."
        )
    if opened.left_out:
        with atomic_write(row.folder / "left-out.txt") as file:
            file.writelines(f"{id}\n" for id in opened.left_out)
    write_json(path, content)


def _have_features(
    opened: OpenSuite, contestant: Contestant, folder: Path, workers: int, say: Callable
) -> Path | None:
    """Return the folder in which the features of all crystals are, after this if not before."""
    features = contestant.features()
    if features is None:
        return None
    start = time.monotonic()
    found = FeatureFolder(folder, features).survey(opened.dataset.crystals, workers=workers)
    say(f"features of {len(found.kept):,} crystals: {time.monotonic() - start:.1f} s")
    return folder


# ------------------------------------------------------------------------------------------ jobs


def _work(
    opened: OpenSuite,
    orders: Sequence[Order],
    jobs: int,
    say: Callable[[str], None],
    progress: Callable[[Progress], None] | None,
) -> None:
    """Do the jobs; all of them are tried before the first fault is raised."""
    if jobs == 1 or len(orders) <= 1:
        for k, order in enumerate(orders, 1):
            cost = _do(order, opened, progress)
            say(_line(order, cost, k, len(orders)))
        return
    faults = []
    # A process per job: its peak memory is its own, and nothing is left over from another one.
    with ProcessPoolExecutor(jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        futures = {pool.submit(_do_elsewhere, order): order for order in orders}
        for k, future in enumerate(as_completed(futures), 1):
            order, fault = futures[future], future.exception()
            if fault is not None:
                faults.append(fault)
                say(f"[{k}/{len(orders)}] {order.row.name} {order.name}: {fault}")
            else:
                say(_line(order, future.result(), k, len(orders)))
    if faults:
        raise faults[0]


def _line(order: Order, cost: Cost, k: int, n: int) -> str:
    return f"[{k}/{n}] {order.row.name} {order.name}: {cost.seconds:.1f} s"


def _do_elsewhere(order: Order) -> Cost:
    torch.set_num_threads(order.threads)
    return _do(order, open_suite(order.suite, order.source).asking(order.targets), None)


def _do(order: Order, opened: OpenSuite, progress: Callable[[Progress], None] | None) -> Cost:
    """Train and predict, and keep the result: ``job.json`` is written last."""
    order.folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(order.folder)
    contestant = order.row.contestant
    split = opened.split(order.targets, order.fold, turn=order.turn, rule=contestant.split_rule)
    job = Job(
        dataset=opened.job_dataset(order.targets, split),
        split=split,
        seed=order.seed,
        folder=order.folder,
        features=order.features,
        binary=frozenset(t for t in order.targets if opened.tasks[t].metric == "roc_auc"),
        progress=progress,
    )
    outcome = contestant.compete(job)
    with atomic_write(order.folder / "predicted.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", *order.targets])
        for row, values in zip(job.asked, outcome.predictions.tolist(), strict=True):
            writer.writerow([job.dataset.ids[row], *(f"{value:.9g}" for value in values)])
    write_json(order.folder / "job.json", {"cost": outcome.cost.model_dump(mode="json")})
    return outcome.cost


def _plain(content: Any) -> Any:
    return json.loads(json.dumps(content))
