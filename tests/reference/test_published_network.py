"""PotNet against recorded outputs, graphs and sums of the published code."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from potnet.crystal import Crystal
from potnet.features.batch import Batch, Pairs
from potnet.features.potnet import PotNetFeatures
from potnet.models.potnet import PotNet, PotNetSettings

RECORDED = json.loads(Path(__file__).with_name("published_network.json").read_text())
CRYSTALS = {record["id"]: record for record in RECORDED["crystals"]}
DEAD = ("lin_concate", "lin_skip", "skip_bn")  # Declared by the original, without any effect.


def recorded_batch() -> Batch:
    """Return the recorded graphs, float64."""
    batches = []
    for record in RECORDED["crystals"]:
        n = torch.tensor([len(record["numbers"])])
        weights = torch.full((int(n),), 1 / int(n), dtype=torch.float64)
        complete = [[*row, 1] for row in record["complete"]]
        pairs = {"local": as_pairs(record["local"]), "complete": as_pairs(complete)}
        batches.append(Batch(torch.tensor(record["numbers"]), weights, n, n, pairs))
    return Batch.cat(batches)


def as_pairs(rows: list[list[float]]) -> Pairs:
    table = torch.tensor(rows, dtype=torch.float64)
    return Pairs(table[:, 0].long(), table[:, 1].long(), table[:, 2:], torch.tensor([len(rows)]))


def filled_network(variant: str) -> PotNet:
    """Return a network in float64 with the weights of the recorded runs."""
    network = PotNet(PotNetSettings(variant=variant, features=PotNetFeatures(published=True)))
    order = RECORDED["parameters"]["transformer" if variant == "transformer" else "default"]
    if variant == "euclidean":
        order = [name for name in order if not name.startswith("infinite")]
    parameters = dict(network.named_parameters())
    assert parameters.keys() == {n for n in order if not any(dead in n for dead in DEAD)}
    with torch.no_grad():
        for place, name in enumerate(order):
            if name in parameters:
                parameters[name].copy_(recorded_weight(name, place, parameters[name].shape))
    return network.double()


def recorded_weight(name: str, place: int, shape: torch.Size) -> torch.Tensor:
    wave = torch.sin(0.7 * torch.arange(shape.numel(), dtype=torch.float64) + place).reshape(shape)
    if len(shape) == 2:
        return (wave * math.sqrt(1.5 / shape[1])).float()
    return (1 + 0.1 * wave if name.endswith("weight") else 0.05 * wave).float()


def crystal_of(record: dict) -> Crystal:
    cell = np.array(record["cell"])
    return Crystal(record["numbers"], np.array(record["scaled_positions"]) @ cell, cell)


@pytest.mark.parametrize("variant", ["default", "transformer", "euclidean"])
def test_outputs_agree_in_evaluation_mode(variant):
    output = filled_network(variant).eval()(recorded_batch())
    np.testing.assert_allclose(
        output.detach()[:, 0], RECORDED["outputs"][variant]["eval"], rtol=0, atol=3e-6
    )


# The recorded numbers are float32, where the batch statistics over 17 nodes lose digits: with the
# transformer, the order of the edges alone moves a float32 output by up to 3e-5 from the float64
# one that is tested here, and the recorded output is one of those orders (to 9e-6 the best of 12).
@pytest.mark.parametrize(
    ("variant", "atol"), [("default", 1e-6), ("transformer", 6e-5), ("euclidean", 1e-6)]
)
def test_outputs_agree_in_training_mode(variant, atol):
    output = filled_network(variant).train()(recorded_batch())
    np.testing.assert_allclose(
        output.detach()[:, 0], RECORDED["outputs"][variant]["train"], rtol=0, atol=atol
    )


@pytest.mark.parametrize("variant", ["default", "euclidean"])
def test_parameters_are_as_many_as_published(variant):
    count = sum(p.numel() for p in filled_network(variant).parameters())
    assert count == RECORDED["outputs"][variant]["n_parameters"]


def test_only_the_dead_parameters_of_the_transformer_are_left_out():
    count = sum(p.numel() for p in filled_network("transformer").parameters())
    assert count + 3 * 132_096 == RECORDED["outputs"]["transformer"]["n_parameters"]


def test_charge_map_adds_ten_inputs():
    count = sum(p.numel() for p in PotNet(PotNetSettings(charge_map=True)).parameters())
    assert count == RECORDED["n_parameters_charge_map"]


@pytest.mark.parametrize("name", CRYSTALS)
def test_published_bonds_come_out_one_for_one(name):
    local = PotNetFeatures(published=True)([crystal_of(CRYSTALS[name])]).pairs["local"]
    found, recorded = Counter(), Counter()
    for i, j, (distance, multiplicity) in zip(
        local.i.tolist(), local.j.tolist(), local.values.tolist(), strict=True
    ):
        found[i, j, round(distance, 4)] += int(multiplicity)
    for i, j, distance, multiplicity in CRYSTALS[name]["local"]:
        recorded[i, j, round(distance, 4)] += multiplicity
    assert found == recorded


@pytest.mark.parametrize("name", CRYSTALS)
def test_published_sums_are_exact(name):
    record = CRYSTALS[name]
    batch = PotNetFeatures(published=True, tolerance=1e-9)([crystal_of(record)])
    n = len(record["numbers"])
    values = batch.pairs["complete"].values[:, :3].reshape(n, n, 3).double()
    i, j, *exact = np.array(record["exact"]).T
    found = values[i.astype(int), j.astype(int)].T
    np.testing.assert_allclose(found, exact, rtol=2e-7, atol=2e-7)


def test_prediction_from_the_crystals_is_the_recorded_one():
    network = filled_network("default").float().eval()
    batch = network.features([crystal_of(record) for record in RECORDED["crystals"]])
    # The original's own sums are off by up to 2e-5.
    np.testing.assert_allclose(
        network(batch).detach()[:, 0], RECORDED["outputs"]["default"]["eval"], rtol=0, atol=5e-5
    )
