"""Count the operators of a training step: what a GPU is asked for, counted where there is none.

A step on a GPU is bound by launches, each of which costs the host some microseconds. An operator
that computes launches a kernel or two; here torch's profiler counts those of one step on a CPU
(forward, backward, optimizer, averaged weights), without views and allocations. Messages are the
tensor algebra that a GPU does, not the fused form of a CPU.

    python benchmarks/step_operators.py    # writes benchmarks/results/step_operators.json
"""

from __future__ import annotations

import argparse
import json
import platform
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch.profiler import ProfilerActivity, profile

from potnet.crystal import Crystal
from potnet.models import completenet
from potnet.models.messages import tensor_messages
from potnet.targets import Scale
from potnet.training import TrainingConfig
from potnet.training.batches import HeldFeatures
from potnet.training.features import Survey, compute_features
from potnet.training.trainer import Trainer

RESULT = Path(__file__).parent / "results" / "step_operators.json"
N_CRYSTALS = 128
N_REFERENCES = 119
# Views, allocations and questions: nothing is computed.
FREE = {
    f"aten::{name}"
    for name in [
        "view",
        "as_strided",
        "t",
        "transpose",
        "expand",
        "slice",
        "select",
        "split",
        "narrow",
        "unsqueeze",
        "squeeze",
        "permute",
        "detach",
        "empty",
        "empty_like",
        "empty_strided",
        "resize_",
        "reshape",
        "_unsafe_view",
        "alias",
        "chunk",
        "mT",
        "split_with_sizes",
        "unbind",
        "new_empty",
        "new_empty_strided",
        "_reshape_alias",
        "item",
        "lift_fresh",
        "result_type",
        "_local_scalar_dense",
        "expand_as",
        "view_as",
        "flatten",
        "unflatten",
    ]
}


def trainer_of(seed: int = 0) -> tuple[Trainer, HeldFeatures]:
    """Return a trainer of the default network, and random crystals of four elements."""
    rng = np.random.default_rng(seed)
    crystals = []
    for _ in range(N_CRYSTALS):
        n_atoms = int(rng.integers(2, 7))
        grid = np.array(np.unravel_index(rng.permutation(8)[:n_atoms], (2, 2, 2))).T / 2
        scaled = grid + rng.uniform(-0.05, 0.05, (n_atoms, 3))
        cell = np.diag(rng.uniform(4.5, 6.5, 3))
        crystals.append(Crystal(rng.choice([3, 8, 12, 22], n_atoms), scaled @ cell, cell))
    config = TrainingConfig(epochs=4, batch_size=N_CRYSTALS)
    fabric = Fabric(accelerator="cpu", devices=1)
    trainer = Trainer(
        fabric,
        config,
        0,
        scales=[Scale("x", "", "none", 0.0, 1.0)],
        n_train=N_CRYSTALS,
        references=np.zeros((N_REFERENCES, 1)),
    )
    batch, *_ = compute_features(trainer.network.features, crystals)
    targets = rng.normal(size=(N_CRYSTALS, 1))
    return trainer, HeldFeatures(Survey.of(batch), targets, fabric.device)


def count(step: Callable[[], object]) -> Counter[str]:
    """Return how often each operator that computes is called by ``step``."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    found: Counter[str] = Counter()
    for event in profiler.events():
        inner = [child.name for child in event.cpu_children if child.name.startswith("aten::")]
        is_leaf = all(name in FREE for name in inner)
        if event.name.startswith("aten::") and event.name not in FREE and is_leaf:
            found[event.name] += 1
    return found


def main() -> None:
    """Count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=RESULT)
    output = parser.parse_args().output
    trainer, loader = trainer_of()
    minibatches = list(loader.minibatches([np.arange(N_CRYSTALS)] * 2))
    completenet.messages = tensor_messages
    first, second = ([minibatch] for minibatch in minibatches)
    trainer.step_through(first)  # makes the optimizer's buffers
    found = count(lambda: trainer.step_through(second))
    result = {
        "what": "operators that compute in one training step, default CompleteNet, batch of 128",
        "operators": found.total(),
        "by_name": dict(found.most_common()),
        "parameters": len(list(trainer.network.parameters())),
        "command": "python benchmarks/step_operators.py",
        "potnet": version("potnet"),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    for name, n in found.most_common(25):
        print(f"{n:5} {name}")
    print(f"{found.total():5} operators")
    output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
