"""Sums and energies in JAX are those of the package, with their derivatives."""

import numpy as np
import pytest
import torch

from latticesums import energy, pair_sums

jax = pytest.importorskip("jax")

CELL = np.array([[4.1, 0.3, 0.2], [0.1, 4.3, 0.7], [0.2, 0.3, 3.9]])
ATOMS = np.array([[0.0, 0, 0], [2.0, 1.9, 1.8], [0.4, 2.2, 1.1]])
CHARGES = np.array([1.0, -1.5, 0.5])


@pytest.fixture(autouse=True)
def sixty_four_bits():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def test_sums_and_their_derivatives_are_the_same():
    from latticesums import for_jax

    def loss(x, a):
        return (for_jax.pair_sums(x, a, ["coulomb", "pauli"]) ** 2).sum()

    x, a = torch.tensor(ATOMS, requires_grad=True), torch.tensor(CELL, requires_grad=True)
    expected = (pair_sums(x, a, ["coulomb", "pauli"]).values ** 2).sum()
    slopes = torch.autograd.grad(expected, (x, a))
    found, grads = jax.jit(jax.value_and_grad(loss, (0, 1)))(ATOMS, CELL)
    assert float(found) == pytest.approx(expected.item(), rel=1e-7)
    for one, other in zip(grads, slopes, strict=True):
        assert np.allclose(one, other.numpy(), rtol=1e-6, atol=1e-7)


def test_energies_have_derivatives_by_all_they_depend_on():
    from latticesums import for_jax

    def function(x, a, q):
        return for_jax.energy(x, a, q, tolerance=1e-9, charged="background")

    given = [torch.tensor(v, requires_grad=True) for v in (ATOMS, CELL, CHARGES)]
    expected = energy(*given, tolerance=1e-9, charged="background").energy
    slopes = torch.autograd.grad(expected.sum(), given)
    found, grads = jax.value_and_grad(function, (0, 1, 2))(ATOMS, CELL, CHARGES)
    assert float(found) == pytest.approx(expected.item(), abs=1e-9)
    for one, other in zip(grads, slopes, strict=True):
        assert np.allclose(one, other.numpy(), rtol=0, atol=1e-8)


def test_vmap_sums_one_crystal_after_the_other():
    from latticesums import for_jax

    both = np.stack([ATOMS, 1.01 * ATOMS])
    found = jax.vmap(lambda x: for_jax.pair_sums(x, CELL, ["london"]))(both)
    expected = pair_sums(torch.tensor(both[1]), torch.tensor(CELL), ["london"]).values
    assert np.allclose(found[1].ravel(), expected.numpy().ravel(), rtol=1e-12)


def test_thirty_two_bits_are_refused():
    from latticesums import ConfigError, for_jax

    jax.config.update("jax_enable_x64", False)
    with pytest.raises(ConfigError, match="`jax_enable_x64` must be True, got False"):
        for_jax.energy(ATOMS, CELL, CHARGES)
