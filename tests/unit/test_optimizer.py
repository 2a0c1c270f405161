"""Matrices move along orthogonalised momentum, everything else by AdamW."""

from collections import Counter

import pytest
import torch
from torch import nn

from potnet.training.optimizer import BLOCK, SHORTEST_SIDE, Muon, Tiles


@pytest.fixture(autouse=True)
def fixed_numbers():
    torch.manual_seed(0)


def example() -> nn.ModuleDict:
    """Return one of each kind: an embedding, two matrices, a thin one, a norm."""
    return nn.ModuleDict(
        {
            "embedding": nn.Embedding(20, 80),
            "wide": nn.Linear(80, 100),
            "second": nn.Linear(100, 80),
            "norm": nn.LayerNorm(80),
            "thin": nn.Linear(80, SHORTEST_SIDE - 1),
        }
    )


def give_gradients(*networks: nn.Module) -> None:
    """Give the networks the same random gradients."""
    for parameters in zip(*(network.parameters() for network in networks), strict=True):
        gradient = torch.randn_like(parameters[0])
        for parameter in parameters:
            parameter.grad = gradient.clone()


def adamw(network: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Return torch's AdamW with the same rule of decay."""
    kept = [p for n, p in network.named_parameters() if p.ndim == 1 or n.startswith("embedding")]
    decayed = [p for p in network.parameters() if not any(p is k for k in kept)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept}]
    return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=0.0)


def together(matrices: torch.Tensor) -> torch.Tensor:
    """Return the orthogonalised matrices of a stack, or of one, with singular values of 1."""
    alone = matrices.ndim == 2
    stack = list(matrices[None] if alone else matrices)
    found = [move / max(move.shape) ** 0.5 for move in Tiles(stack).orthogonalised(stack)]
    return found[0] if alone else torch.stack(found)


@pytest.mark.parametrize("shape", [(40, 40), (200, 30), (30, 200), (3, 64, 48), (1, 16)])
def test_singular_values_become_one_and_singular_vectors_stay(shape):
    matrices = torch.randn(shape)
    result = together(matrices)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    values = left.mT @ result @ right.mT
    diagonal = values.diagonal(dim1=-2, dim2=-1)
    assert result.shape == matrices.shape
    assert diagonal.min() > 0.6
    assert diagonal.max() < 1.4
    assert torch.allclose(values, torch.diag_embed(diagonal), atol=1e-4)


def test_the_size_of_a_matrix_does_not_matter_and_nothing_stays_nothing():
    matrix = torch.randn(20, 30)
    for factor in (1e-36, 1e-24, 1e12, 1e30):
        assert torch.allclose(together(factor * matrix), together(matrix), atol=1e-4)
    assert torch.equal(together(torch.zeros(20, 30)), torch.zeros(20, 30))


def test_matrices_of_many_shapes_become_what_each_becomes_alone():
    shapes = [(40, 40), (90, 40), (40, 70), (90, 40), (30, 30), (40, 40)]
    matrices = [torch.randn(shape) for shape in shapes]
    for matrix, result in zip(matrices, Tiles(matrices).orthogonalised(matrices), strict=True):
        size = max(matrix.shape) ** 0.5
        assert torch.allclose(result, size * together(matrix), atol=1e-5 * size)


def test_tiles_serve_again_for_other_matrices_of_the_same_shapes():
    shapes = [(40, 40), (90, 40), (40, 70)]
    first, second = ([torch.randn(shape) for shape in shapes] for _ in range(2))
    tiles = Tiles(first)
    tiles.orthogonalised(first)
    assert tiles.hold(second)
    assert not tiles.hold(second[1:])
    again, new = tiles.orthogonalised(second), Tiles(second).orthogonalised(second)
    assert all(torch.equal(a, b) for a, b in zip(again, new, strict=True))


def test_a_step_asks_for_few_operators():
    network = example()
    optimizer = Muon(network, 0.01, 0.1, fused=True)
    give_gradients(network)
    optimizer.step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        optimizer.step()
    called = Counter(event.name for event in profiler.events())
    # All momenta in two calls, and each product of all matrices in one.
    assert called["aten::_foreach_lerp_"] + called["aten::_foreach_lerp"] == 2
    assert called["aten::bmm"] == 14
    assert called["aten::baddbmm"] == 5


def test_without_orthogonality_it_is_adamw():
    mine, torchs = example(), example()
    torchs.load_state_dict(mine.state_dict())
    optimizers = Muon(mine, 0.01, 0.1, orthogonal=False), adamw(torchs, 0.01, 0.1)
    for _ in range(3):
        give_gradients(mine, torchs)
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(mine.parameters(), torchs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-8)


def test_only_matrices_with_two_long_sides_move_differently():
    mine, torchs = example(), example()
    torchs.load_state_dict(mine.state_dict())
    give_gradients(mine, torchs)
    Muon(mine, 0.01, 0.1).step()
    adamw(torchs, 0.01, 0.1).step()
    same = {
        name
        for (name, a), b in zip(mine.named_parameters(), torchs.parameters(), strict=True)
        if torch.allclose(a, b, rtol=1e-6, atol=1e-8)
    }
    assert {n for n, _ in mine.named_parameters()} - same == {"wide.weight", "second.weight"}


def test_a_step_is_as_large_as_one_of_adamw_and_as_wide_in_all_directions():
    network = nn.Linear(64, 96, bias=False)
    before = network.weight.detach().clone()
    give_gradients(network)
    Muon(network, 0.01, 0.0).step()
    step = network.weight.detach() - before
    assert step.square().mean().sqrt() == pytest.approx(0.2 * 0.01, rel=0.2)
    values = torch.linalg.svdvals(step)
    assert values.max() < 2 * values.min()


def test_the_columns_of_a_large_matrix_are_made_orthogonal_block_by_block():
    one, other = (nn.Linear(2 * BLOCK, 2 * BLOCK, bias=False) for _ in range(2))
    other.load_state_dict(one.state_dict())
    give_gradients(one, other)
    other.weight.grad[:, BLOCK:] *= 100
    for network in (one, other):
        Muon(network, 0.01, 0.0).step()
    assert torch.allclose(one.weight, other.weight, atol=1e-6)


def test_momentum_carries_on_where_the_gradient_vanishes():
    network = nn.Linear(64, 64, bias=False)
    optimizer = Muon(network, 0.01, 0.0)
    give_gradients(network)
    optimizer.step()
    before = network.weight.detach().clone()
    network.weight.grad.zero_()
    optimizer.step()
    assert (network.weight - before).square().mean().sqrt() > 0.001


def test_biases_norms_and_embeddings_do_not_decay():
    network = example()
    names = {id(p): name for name, p in network.named_parameters()}
    decays = {
        names[id(p)]: group["weight_decay"]
        for group in Muon(network, 0.01, 0.1).param_groups
        for p in group["params"]
    }
    decayed = {name for name, decay in decays.items() if decay == 0.1}
    assert len(decays) == len(names)
    assert set(decays.values()) == {0.0, 0.1}
    assert decayed == {"wide.weight", "second.weight", "thin.weight"}


def test_it_finds_a_matrix_while_the_learning_rate_falls():
    truth, network = torch.randn(64, 64) / 8, nn.Linear(64, 64, bias=False)
    inputs = torch.randn(512, 64)
    optimizer = Muon(network, 0.05, 0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1e-3, total_iters=100)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = (network(inputs) - inputs @ truth.t()).square().mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-3 * losses[0]
