"""What the rivals share: reading the harness's files, one training recipe, writing predictions.

Needs torch and numpy alone, so that it works in every rival's environment. The recipe is that of
potnet's own networks as far as a foreign network allows: L1 on standardised targets, AdamW, one
cycle of the learning rate over the budget, best epoch on validation, one CPU thread. The cycle
follows the clock, so that each rival uses all of its processor seconds and not one more step.
"""

from __future__ import annotations

import copy
import csv
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Order:
    """One job of the harness; records are {id, lattice, species, frac_coords, target}."""

    folder: Path
    train: list[dict[str, Any]]
    val: list[dict[str, Any]]
    test: list[dict[str, Any]]
    seed: int
    budget: float | None
    settings: dict[str, Any]

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The crystals to predict."""
        return [*self.val, *self.test]


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file of JSON Lines."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read_order() -> Order:
    """Return the job in the folder that the command line names."""
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    parts = {part: read_records(folder / f"{part}.jsonl") for part in ("train", "val", "test")}
    return Order(folder, **parts, **{k: job[k] for k in ("seed", "budget", "settings")})


def compete(
    order: Order,
    network: nn.Module,
    graph_of: Callable[[dict[str, Any]], Any],
    collate: Callable[[Sequence[Any]], Any],
    *,
    learning_rate: float = 1e-3,
    batch_size: int = 32,
    weight_decay: float = 1e-5,
) -> None:
    """Train ``network`` for the budget, and write predictions and cost.

    Args:
        order: The job.
        network: Maps what ``collate`` returns to one number per crystal, any shape.
        graph_of: Makes the graph of a record.
        collate: Joins the graphs of a batch.
        learning_rate: Peak of the one cycle.
        batch_size: Crystals per step.
        weight_decay: Of AdamW.
    """
    if order.budget is None:
        raise SystemExit("this rival trains as long as --budget says: give it")
    clock = time.process_time
    start = clock()
    graphs = {r["id"]: graph_of(r) for r in [*order.train, *order.asked]}
    preparation = clock() - start
    targets = np.array([record["target"] for record in order.train])
    mean, std = float(targets.mean()), float(targets.std()) or 1.0

    def forward(net: nn.Module, records: Sequence[dict[str, Any]]) -> torch.Tensor:
        return net(collate([graphs[record["id"]] for record in records])).reshape(-1)

    def loss_of(net: nn.Module, records: Sequence[dict[str, Any]]) -> torch.Tensor:
        wanted = torch.tensor([(record["target"] - mean) / std for record in records])
        return nn.functional.l1_loss(forward(net, records), wanted.float())

    @torch.no_grad()
    def predict(net: nn.Module, records: Sequence[dict[str, Any]]) -> np.ndarray:
        net.eval()
        parts = [forward(net, chunk) for chunk in chunks(records, 2 * batch_size)]
        net.train()
        return torch.cat(parts).double().numpy() * std + mean

    rng = np.random.default_rng(order.seed)

    def batches() -> list[list[dict[str, Any]]]:
        shuffled = [order.train[k] for k in rng.permutation(len(order.train))]
        found = chunks(shuffled, batch_size)
        # Batch normalisation cannot do with one crystal.
        return found if len(found) == 1 or len(found[-1]) > 1 else found[:-1]

    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=weight_decay)
    truth = np.array([record["target"] for record in order.val])
    best, kept, epochs = np.inf, copy.deepcopy(network.state_dict()), 0.0
    begun = clock()
    while (share := (clock() - begun) / order.budget) < 1:
        shuffled = batches()
        for batch in shuffled:
            if (share := (clock() - begun) / order.budget) >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * one_cycle(share)
            optimizer.zero_grad()
            loss_of(network, batch).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            epochs += 1 / len(shuffled)
        error = float(np.abs(predict(network, order.val) - truth).mean())
        if error < best:
            best, kept = error, copy.deepcopy(network.state_dict())
        print(f"epoch {epochs:.2f}, {share:.0%}: validation MAE {error:.4g}", flush=True)
    seconds = clock() - begun
    network.load_state_dict(kept)
    answer(
        order,
        predict(network, order.asked),
        n_parameters=sum(p.numel() for p in network.parameters() if p.requires_grad),
        epochs=epochs,
        seconds=seconds,
        preparation=preparation,
    )


def answer(order: Order, values: np.ndarray, **cost: float) -> None:
    """Write the predictions for ``order.asked``, and what they cost."""
    with open(order.folder / "predictions.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "prediction"])
        rows = zip(order.asked, values, strict=True)
        writer.writerows([record["id"], repr(float(value))] for record, value in rows)
    (order.folder / "cost.json").write_text(json.dumps(cost), encoding="utf-8")


def one_cycle(share: float, warmup: float = 0.1) -> float:
    """Return the learning rate, in units of its peak, when ``share`` of the budget is used."""
    if share < warmup:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * share / warmup)) / 2
    return (1 + math.cos(math.pi * (share - warmup) / (1 - warmup))) / 2


def chunks(items: Sequence[Any], size: int) -> list[Any]:
    """Return ``items`` in runs of ``size``."""
    return [items[k : k + size] for k in range(0, len(items), size)]


def set_up(order: Order) -> None:
    """Seed torch and keep it to one thread."""
    torch.manual_seed(order.seed)
    torch.set_num_threads(1)
