"""A network and crystals small enough to be trained hundreds of times in a test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from potnet.crystal import Crystal
from potnet.data import Dataset, ParquetFolder, Record, open
from potnet.errors import StructureError
from potnet.features import Batch, Pairs
from potnet.models import registry
from potnet.models.contract import Features, Network
from potnet.training.optimizer import SHORTEST_SIDE

FORBIDDEN = 92  # Crystals with this element cannot be prepared.


class TinyFeatures(Features):
    """Every pair of atoms carries the volume per atom and three powers of it."""

    version: int = 1

    def __call__(self, crystals: Sequence[Crystal]) -> Batch:
        for crystal in crystals:
            if FORBIDDEN in crystal.numbers:
                raise StructureError(f"{crystal.id}: element must not be U, got U. Leave it out.")
        counts = np.array([crystal.n_atoms for crystal in crystals])
        volumes = np.array([crystal.volume / crystal.n_atoms / 20 for crystal in crystals])
        n_pairs = torch.from_numpy(counts**2)
        values = np.repeat(volumes[:, None] ** np.arange(4), counts**2, axis=0)
        i = np.concatenate([np.repeat(np.arange(n), n) for n in counts])
        j = np.concatenate([np.tile(np.arange(n), n) for n in counts])
        return Batch(
            torch.from_numpy(np.concatenate([crystal.numbers for crystal in crystals])),
            torch.from_numpy(np.repeat(1 / counts, counts).astype(np.float32)),
            torch.from_numpy(counts),
            torch.from_numpy(counts),
            {
                "all": Pairs(
                    torch.from_numpy(i),
                    torch.from_numpy(j),
                    torch.from_numpy(values.astype(np.float32)),
                    n_pairs,
                )
            },
        )


class TinySettings(BaseModel):
    """``plain`` leaves out what depends on the batch, normalisation and dropout, for float64."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    width: int = SHORTEST_SIDE  # so that one of its matrices is treated as such
    plain: bool = False


class TinyNet(Network):
    """Embedding, a round of messages, normalisation with running statistics, a map, dropout."""

    name = "tiny"
    Settings = TinySettings

    def __init__(self, settings: TinySettings, n_targets: int = 1) -> None:
        super().__init__(settings, n_targets)
        self.embed = nn.Embedding(119, settings.width)
        self.edge = nn.Linear(4, settings.width)
        self.norm = nn.Identity() if settings.plain else nn.BatchNorm1d(settings.width)
        self.mix = nn.Linear(settings.width, settings.width)
        self.dropout = nn.Dropout(0.0 if settings.plain else 0.1)
        self.head = nn.Linear(settings.width, n_targets)
        self.to(torch.float64 if settings.plain else torch.float32)

    @property
    def features(self) -> TinyFeatures:
        return TinyFeatures()

    def forward(self, batch: Batch) -> torch.Tensor:
        h = self.embed(batch.numbers)
        i, j = batch.edge_index("all")
        message = self.edge(batch.pairs["all"].values.to(h.dtype)) * h[j]
        h = self.norm(h + torch.zeros_like(h).index_add(0, i, message))
        h = self.dropout(torch.tanh(self.mix(h))) * batch.weights[:, None]
        return self.head(h.new_zeros(batch.n_graphs, h.shape[1]).index_add(0, batch.graph_index, h))


def register() -> None:
    """Make the network known under the name "tiny"."""
    registry.register(TinyNet)


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """Let the tests of a module that imports this train the network, and no others."""
    register()
    yield
    del registry._registered["tiny"]


def made_up_dataset(n: int = 60, *, n_targets: int = 1) -> Dataset:
    """Return ``n`` cubic crystals of one to three atoms whose targets follow size and element."""
    rng = np.random.default_rng(0)
    crystals, values = [], []
    for k in range(n):
        length, n_atoms = rng.uniform(4, 8), int(rng.integers(1, 4))
        numbers = rng.integers(1, 90, n_atoms)
        positions = np.arange(n_atoms)[:, None] * length / n_atoms * np.ones(3)
        crystals.append(Crystal(numbers, positions, np.eye(3) * length, id=f"made-{k}"))
        values.append(length + numbers.mean() / 30)
    names = ["size", "half"][:n_targets]
    return Dataset(
        ids=tuple(crystal.id for crystal in crystals),
        crystals=tuple(crystals),
        targets={name: np.array(values) / (k + 1) for k, name in enumerate(names)},
        units=dict.fromkeys(names, "Å"),
        name="made up",
    )


def made_up_folder(path: Path) -> Dataset:
    """Return the made-up dataset from a new store in the folder ``path``."""
    dataset = made_up_dataset()
    ParquetFolder.create(path).append(
        Record(id, crystal, {name: float(column[k]) for name, column in dataset.targets.items()})
        for k, (id, crystal) in enumerate(zip(dataset.ids, dataset.crystals, strict=True))
    )
    return open(path)
