"""Count the operators of a training step: what a GPU is asked for, counted where there is none.

A step on a GPU is bound by launches, each of which costs the host some microseconds. An operator
that computes launches a kernel or two; here torch's profiler counts those of one step on a CPU
(forward, backward, optimizer, averaged weights), without views and allocations. Messages are the
tensor algebra that a GPU does, not the fused form of a CPU, and all matrices move together.

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
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch.profiler import ProfilerActivity, profile

from potnet.crystal import Crystal
from potnet.features import Batch
from potnet.features.complete import CompleteFeatures
from potnet.models import completenet
from potnet.targets import Scale
from potnet.training import TrainingConfig
from potnet.training.batches import HeldFeatures
from potnet.training.features import Survey, compute_features
from potnet.training.trainer import Trainer

RESULT = Path(__file__).parent / "results" / "step_operators.json"
BATCH_SIZE = 128
N_REFERENCES = 119
# Views, allocations and questions: nothing is computed. What is inside of them may be.
_FREE = """
view as_strided t transpose expand slice select split narrow unsqueeze squeeze permute detach
empty empty_like empty_strided resize_ reshape _unsafe_view alias chunk mT split_with_sizes unbind
new_empty new_empty_strided _reshape_alias item lift_fresh result_type _local_scalar_dense
expand_as view_as flatten unflatten resolve_conj resolve_neg to dropout linear matmul contiguous
diagonal numpy_T zeros new_zeros zeros_like ones_like full_like stack layer_norm
"""
FREE = {f"aten::{name}" for name in _FREE.split()}
# One call for a GPU, though a CPU takes the tensors of a list one by one.
WHOLE = ("aten::_foreach_", "aten::_fused_", "aten::mm", "aten::bmm", "aten::addmm")
WHOLE += ("aten::baddbmm", "aten::native_layer_norm", "aten::index_add", "aten::linalg_vector_norm")


def crystals_like_oxides(n: int, seed: int = 0) -> list[Crystal]:
    """Return random crystals of two to six atoms of four elements."""
    rng = np.random.default_rng(seed)
    crystals = []
    for _ in range(n):
        n_atoms = int(rng.integers(2, 7))
        grid = np.array(np.unravel_index(rng.permutation(8)[:n_atoms], (2, 2, 2))).T / 2
        scaled = grid + rng.uniform(-0.05, 0.05, (n_atoms, 3))
        cell = np.diag(rng.uniform(4.5, 6.5, 3))
        crystals.append(Crystal(rng.choice([3, 8, 12, 22], n_atoms), scaled @ cell, cell))
    return crystals


def trainer_of(
    batch: Batch, *, batch_size: int = BATCH_SIZE, device: str = "cpu"
) -> tuple[Trainer, HeldFeatures]:
    """Return a trainer of the default network, and what it learns from, with made-up targets."""
    config = TrainingConfig(epochs=100, batch_size=batch_size, device=device)
    fabric = Fabric(accelerator=device, devices=1)
    trainer = Trainer(
        fabric,
        config,
        0,
        scales=[Scale("x", "", "none", 0.0, 1.0)],
        pair_counts=np.ones(len(batch), np.int64),
        references=np.zeros((N_REFERENCES, 1)),
    )
    targets = np.random.default_rng(1).normal(size=(len(batch), 1))
    return trainer, HeldFeatures(Survey.of(batch), targets, fabric.device)


def count(step: Callable[[], object]) -> Counter[str]:
    """Return how often each operator that computes is called by ``step``."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    found: Counter[str] = Counter()

    def look(event: Any) -> None:
        inner = [child for child in event.cpu_children if child.name.startswith("aten::")]
        has_none = all(child.name in FREE for child in inner)
        is_operator = event.name.startswith("aten::") and event.name not in FREE
        if is_operator and (has_none or event.name.startswith(WHOLE)):
            found[event.name] += 1
        else:
            for child in event.cpu_children:
                look(child)

    for event in profiler.events():
        if event.cpu_parent is None:
            look(event)
    return found


def main() -> None:
    """Count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=RESULT)
    output = parser.parse_args().output
    batch, *_ = compute_features(CompleteFeatures(), crystals_like_oxides(BATCH_SIZE))
    trainer, loader = trainer_of(batch)
    minibatches = list(loader.minibatches([np.arange(BATCH_SIZE)] * 2))
    completenet.prepared = lambda sums, *_: sums  # no lists
    trainer.optimizer.in_one_stack = True
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
