"""The public check of potentials passes what is right, and names what is wrong."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from latticesums import (
    Buckingham,
    ConfigError,
    Coulomb,
    Exponential,
    Gaussian,
    InversePower,
    LennardJones,
    London,
    Morse,
    Shell,
    Yukawa,
    parse_potential,
    resolve,
)
from latticesums.potentials import names
from latticesums.testing import check_potential

POTENTIALS = (
    Coulomb(),
    London(),
    InversePower(2.5),
    InversePower(4),
    Exponential(0.9),
    Yukawa(0.8),
    Gaussian(1.3),
    Shell(2.0, 0.8, 5.0),
    LennardJones(0.1, 2.0),
    Morse(0.7, 1.2, 1.5),
    Buckingham(50.0, 2.5, 7.0),
    2 * Coulomb() - London(),
)


@pytest.mark.parametrize("potential", POTENTIALS, ids=lambda p: p.name)
def test_every_potential_of_the_package_passes(potential):
    check_potential(potential)


def broken(**methods):
    """Return a Yukawa potential with mistakes in some methods."""
    return type("Broken", (Yukawa,), methods)(0.8)


@pytest.mark.parametrize(
    ("potential", "claim"),
    [
        (broken(value=lambda self, r2: Yukawa.value(self, r2)[:1]), "`value` must be one finite"),
        (
            broken(direct_tail=lambda self, lattice, r: 0.1 * Yukawa.direct_tail(self, lattice, r)),
            "`direct_tail` beyond",
        ),
        (broken(short_bound=lambda self, r, a: np.exp(-(r**2))), "`short_bound` must bound"),
        (broken(fourier_bound=lambda self, k, a: 0 * k), "`fourier_bound` must bound"),
        (broken(long_at_zero=lambda self, a: 0 * a), "`long_at_zero` must be"),
        (broken(fourier=lambda self, k2, a: 0.9 * Yukawa.fourier(self, k2, a)), "the sum"),
    ],
)
def test_what_is_wrong_is_named(potential, claim):
    with pytest.raises(AssertionError, match=claim):
        check_potential(potential)


@dataclass(frozen=True, eq=False)
class Halved(Yukawa):
    """V(r) = exp(-rate r) / r, of another package."""


@pytest.fixture
def installed(monkeypatch):
    """Install potentials of another package, under a new name and under a taken one."""
    points = [
        EntryPoint("halved", f"{__name__}:Halved", names.GROUP),
        EntryPoint("coulomb", f"{__name__}:Halved", names.GROUP),
    ]
    monkeypatch.setattr(names, "entry_points", lambda group: points)
    names.named_potentials.cache_clear()
    yield
    names.named_potentials.cache_clear()


def test_potentials_of_other_packages_have_names(installed):
    assert parse_potential("halved:0.5") == Halved(0.5)
    assert resolve(["halved:0.5", "coulomb"]) == (Halved(0.5), Coulomb())


def test_names_mean_the_same_everywhere():
    assert resolve("yukawa:0.5") == (Yukawa(0.5),)
    assert resolve(["London", London()]) == (London(), London())
    with pytest.raises(ConfigError, match="`name` must be one of buckingham, coulomb,"):
        resolve(["none"])
    with pytest.raises(ConfigError, match="must hold potentials or their names, got 3"):
        resolve([3])
