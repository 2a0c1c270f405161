"""Complete sums as features: any potential, with or without its tail, in any cell."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from potnet.crystal import Crystal
from potnet.features.complete import CompleteFeatures

# Two titania in a skewed cell: no two atoms but the copies are alike.
CELL = np.array([[4.6, 0.2, 0.1], [-0.3, 4.7, 0.4], [0.5, -0.2, 3.1]])
ATOMS = np.array([[0, 0, 0], [2.3, 2.2, 1.6], [1.4, 1.3, 0.2], [3.3, 3.4, 0.3]])
CRYSTAL = Crystal([22, 22, 8, 8], ATOMS, CELL)
DOUBLE = Crystal(
    [22, 22, 8, 8] * 2, np.concatenate([ATOMS, ATOMS + CELL[2]]), CELL * [[1], [1], [2]]
)
COMPILED = ("coulomb", "exponential:1.5")
POTENTIALS = (*COMPILED, "inverse-power:4")
CUT_OFF = tuple(f"{name} to 5" for name in POTENTIALS)


def channels(features: CompleteFeatures, crystal: Crystal) -> torch.Tensor:
    """Return the long-range channels of all pairs, shape (n_nodes, n_nodes, n_potentials)."""
    batch = features([crystal])
    values = batch.pairs["complete"].values[:, features.n_shells : features.n_scalars]
    return values.reshape(len(batch.numbers), len(batch.numbers), -1)


@pytest.mark.parametrize("long_range", [COMPILED, POTENTIALS, CUT_OFF])
def test_copies_of_an_atom_share_its_sums(long_range) -> None:
    options = {"long_range": long_range, "tolerance": 1e-7}
    single = channels(CompleteFeatures(**options, merge_tolerance=None), CRYSTAL)
    alone = CompleteFeatures(**options, primitive=False, merge_tolerance=None)
    apart = channels(alone, DOUBLE)
    torch.testing.assert_close(apart[:4, :4] + apart[:4, 4:], single, rtol=0, atol=2e-6)
    merged = channels(CompleteFeatures(**options, primitive=False), DOUBLE)
    assert len(merged) == 4
    torch.testing.assert_close(merged, single, rtol=0, atol=2e-6)


def test_a_potential_that_is_cut_off_is_the_sum_over_the_images_within() -> None:
    features = CompleteFeatures(long_range=CUT_OFF, merge_tolerance=None, primitive=False)
    steps = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"), -1).reshape(-1, 3)
    expected = np.zeros((4, 4, 3))
    for i in range(4):
        for j in range(4):
            r = np.linalg.norm(ATOMS[j] + steps @ CELL - ATOMS[i], axis=1)
            r = r[(r > 0) & (r < 5)]
            kernels = np.stack([1 / r, 0.5 * np.exp(3 - 1.5 * r), 8 / r**4])
            expected[i, j] = (kernels * (1 - (r / 5) ** 2) ** 3).sum(1)
    found = channels(features, CRYSTAL)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("long_range", [POTENTIALS, CUT_OFF])
def test_both_paths_give_the_same_channels(long_range) -> None:
    features = CompleteFeatures(long_range=long_range, merge_tolerance=None, primitive=False)
    positions = torch.tensor(ATOMS, requires_grad=True)
    batch = features.differentiable(CRYSTAL, positions, torch.tensor(CELL))
    values = batch.pairs["complete"].values
    found = features([CRYSTAL]).pairs["complete"].values
    torch.testing.assert_close(found, values.float(), rtol=1e-5, atol=1e-5)
    values.sum().backward()
    assert bool(positions.grad.isfinite().all())


def test_what_is_no_potential_is_refused() -> None:
    for name, rule in (("gravity", "must be one of"), ("coulomb to far", "must be a number in Å")):
        with pytest.raises(ValidationError, match=rule):
            CompleteFeatures(long_range=(name,))


def test_channels_have_derivatives_of_derivatives() -> None:
    features = CompleteFeatures(n_shells=2, long_range=("coulomb",), tolerance=1e-10)
    positions = torch.tensor(ATOMS[:2], requires_grad=True)
    crystal = Crystal([22, 8], ATOMS[:2], CELL)

    def channels(x: torch.Tensor) -> torch.Tensor:
        values = features.differentiable(crystal, x, torch.tensor(CELL)).pairs["complete"].values
        return values[1:2].square().sum()

    assert torch.autograd.gradcheck(channels, [positions], atol=1e-5)
    assert torch.autograd.gradgradcheck(channels, [positions], atol=1e-4)


def test_channels_that_are_nothing_are_zero() -> None:
    features = CompleteFeatures(merge_tolerance=None, primitive=False)
    found = features([CRYSTAL]).pairs["complete"].values.numpy()
    doubled = features.differentiable(CRYSTAL, torch.tensor(ATOMS), torch.tensor(CELL))
    exact = doubled.pairs["complete"].values.numpy()
    assert ((exact != 0) & (np.abs(exact) < 1e-20)).any()
    assert (np.abs(found[found != 0]) >= 1e-12).all()
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-6)
