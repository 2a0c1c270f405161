"""Steps that are recorded and replayed: the same as plain ones, whatever the batch."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from potnet.crystal import Crystal
from potnet.models import registry
from potnet.models.completenet import CompleteNet
from potnet.targets import Scale
from potnet.training import TrainingConfig
from potnet.training.batches import HeldFeatures, Minibatch
from potnet.training.cuda_graph import FIRST_STEPS, Shape, _padded, padded
from potnet.training.features import Survey
from potnet.training.optimizer import Muon
from potnet.training.trainer import Objective, Trainer

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def crystals(n: int, seed: int = 0) -> list[Crystal]:
    """Return random crystals of one to five atoms."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        n_atoms = int(rng.integers(1, 6))
        corners = rng.permutation(np.indices((2, 2, 2)).reshape(3, -1).T)[:n_atoms]
        scaled = (corners + rng.uniform(-0.1, 0.1, corners.shape)) / 2
        cell = np.diag(rng.uniform(4.5, 6.5, 3))
        found.append(Crystal(rng.choice([3, 8, 12, 22], n_atoms), scaled @ cell, cell))
    return found


def minibatch(network, n: int, seed: int = 0) -> Minibatch:
    batch = network.features(crystals(n, seed))
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randn(n, network.n_targets, generator=generator)
    mask = (torch.rand(n, network.n_targets, generator=generator) < 0.8).float()
    return Minibatch(batch, targets, mask, float(mask.sum()))


@pytest.mark.parametrize("settings", [{}, {"per_formula": True}])
def test_crystals_that_fill_a_batch_change_neither_loss_nor_gradients(settings):
    torch.manual_seed(0)
    network = registry.build("completenet", settings, n_targets=2)
    scales = [Scale(name, "", "none", 0.0, 1.0) for name in "ab"]
    objective = Objective(network, "l1", scales)
    given = minibatch(network, 7)
    found = []
    for one in (given, _padded(given, Shape.of(given.batch).with_room())):
        network.zero_grad()
        loss = objective(one)
        loss.backward()
        grads = [p.grad.clone() for p in network.parameters() if p.grad is not None]
        found.append([loss.detach(), *grads])
    for plain, filled in zip(*found, strict=True):
        torch.testing.assert_close(filled, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_added", [1, 2, 5])
def test_a_padded_batch_has_the_shape_and_begins_with_the_crystals(n_added):
    network = CompleteNet()
    batch = network.features(crystals(6))
    mine = Shape.of(batch)
    shape = Shape(mine.n_graphs + n_added, mine.n_nodes + n_added + 3, (mine.n_pairs[0] + 11,))
    found = padded(batch, shape)
    assert Shape.of(found) == shape
    assert found.node_counts.sum() == shape.n_nodes
    i, j = found.edge_index("complete")
    assert max(i.max(), j.max()) < shape.n_nodes
    assert (found.graph_index[i] == found.graph_index[j]).all()
    for key, tensor in found[range(6)].to_tensors().items():
        assert torch.equal(tensor, batch.to_tensors()[key])


def test_a_graph_serves_batches_that_fit_and_fill_it():
    shape = Shape(10, 100, (1000,))
    assert shape.serves(Shape(9, 99, (1000,)))
    assert not shape.serves(Shape(10, 99, (1000,)))  # no crystal can be added
    assert not shape.serves(Shape(8, 99, (1000,)))  # two crystals, but one node
    assert not shape.serves(Shape(9, 99, (1001,)))
    assert not shape.serves(Shape(9, 70, (1000,)))
    assert not shape.serves(Shape(9, 99, (700,)))
    for n in (1, 5, 1000):
        shape = Shape(n, 3 * n, (9 * n,))
        assert shape.with_room().serves(shape) or n < 5


def test_a_learning_rate_on_the_device_moves_weights_as_a_number_does():
    found = []
    for rate in (3e-3, torch.tensor(3e-3)):
        torch.manual_seed(0)
        network = registry.build("completenet")
        optimizer = Muon(network, 1e-3, 0.01)
        for group in optimizer.param_groups:
            group["lr"] = rate
        for seed in range(2):
            one = minibatch(network, 6, seed)
            optimizer.zero_grad()
            (network(one.batch) - one.targets).abs().mean().backward()
            optimizer.step()
        found.append([p.detach() for p in network.parameters()])
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-3, atol=1e-5)


def trainer_and_loader(
    n: int, *, batch_size: int, **network_settings
) -> tuple[Trainer, HeldFeatures]:
    fabric = Fabric(accelerator="cuda", devices=1)
    config = TrainingConfig(
        epochs=100, batch_size=batch_size, device="cuda", network_settings=network_settings
    )
    scales = [Scale("x", "", "none", 0.0, 1.0)]
    pair_counts = np.ones(n, np.int64)
    trainer = Trainer(
        fabric, config, 0, scales=scales, pair_counts=pair_counts, references=np.zeros((119, 1))
    )
    batch = trainer.network.features(crystals(n))
    targets = np.random.default_rng(1).normal(size=(n, 1))
    return trainer, HeldFeatures(Survey.of(batch), targets, fabric.device)


@pytest.mark.gpu
@needs_cuda
def test_recorded_steps_move_the_weights_as_plain_ones_do():
    found, losses = [], []
    for is_plain in (True, False):
        trainer, loader = trainer_and_loader(100, batch_size=20)
        if is_plain:
            trainer._recorder = None
        losses.append([trainer.train_epoch(loader, np.arange(100)) for _ in range(4)])
        found.append([p.detach().cpu() for p in trainer.network.parameters()])
    assert all(before > after for before, after in pairwise(losses[0]))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(other, plain, rtol=0, atol=2e-3)


@pytest.mark.gpu
@needs_cuda
def test_a_recorded_step_waits_for_nothing_and_few_are_recorded():
    trainer, loader = trainer_and_loader(400, batch_size=40)
    rows = np.arange(400)
    for _ in range(3):
        trainer.train_epoch(loader, rows)
    assert 1 <= len(trainer._recorder._graphs) <= 3
    minibatches = list(loader.minibatches(np.split(rows, 10)))
    trainer.step_through(minibatches)  # now there is a graph for each of them
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the mode, which is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.step_through(minibatches)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@needs_cuda
def test_each_replay_draws_its_own_dropout():
    trainer, loader = trainer_and_loader(40, batch_size=40, dropout=0.5)
    minibatches = list(loader.minibatches([np.arange(40)] * (FIRST_STEPS + 3)))
    trainer.objective.train()
    for group in trainer.optimizer.param_groups:
        group["lr"] = 0.0
    trainer.scheduler.step = lambda: None
    losses = [trainer.step_through([one]).item() for one in minibatches]
    assert len(set(losses)) == len(losses)
