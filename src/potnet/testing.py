"""Checks for networks of your own, as :func:`check_network` runs them.

A network that passes can be trained, saved, loaded and trusted to give one crystal one answer.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from potnet.crystal import Crystal
from potnet.errors import ConfigError, PotNetError, StructureError
from potnet.models import archive, registry
from potnet.models.card import DataCard, ModelCard, TargetCard
from potnet.models.contract import Network

TOLERANCE = 1e-5  # in standard deviations of the target: networks compute in float32

_FCC = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
_BASES = ([[1, 2, 0], [0, 1, -3], [0, 0, 1]], [[0, 1, 0], [1, 3, 0], [2, 0, 1]])


class CheckError(PotNetError, AssertionError):
    """A network does not keep to its contract."""


def crystals() -> dict[str, Crystal]:
    """Return small crystals of all kinds: with and without symmetry, dense and layered."""
    return {
        "rock salt": Crystal([11, 17], [[0, 0, 0], [2.82, 0, 0]], 2.82 * _FCC),
        "copper": Crystal([29], [[0, 0, 0]], 1.805 * _FCC),
        "perovskite": Crystal(
            [38, 22, 8, 8, 8],
            1.9525 * np.array([[0, 0, 0], [1, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]]),
            3.905 * np.eye(3),
        ),
        # Coordinates that symmetry does not fix.
        "rutile": Crystal(
            [22, 22, 8, 8, 8, 8],
            np.array(
                [
                    [0, 0, 0],
                    [1, 1, 1],
                    [0.61, 0.61, 0],
                    [1.39, 1.39, 0],
                    [1.61, 0.39, 1],
                    [0.39, 1.61, 1],
                ]
            )
            * [2.297, 2.297, 1.4795],
            np.diag([4.594, 4.594, 2.959]),
        ),
        "triclinic": Crystal(
            [6, 8, 1],
            [[0.1, 0.2, 0.3], [1.4, 0.1, 0.5], [0.4, 2.2, 1.9]],
            [[4.1, 0.3, 0.2], [-1.1, 4.9, 0.4], [0.6, -1.7, 5.3]],
        ),
        "layered": Crystal(
            [42, 16, 16],
            [[0, 0, 0], [0, 1.8418, 1.56], [0, 1.8418, -1.56]],
            [[3.19, 0, 0], [-1.595, 2.7626, 0], [0, 0, 25.0]],
        ),
    }


# ------------------------------------------------------- other ways to write down the same crystal


def rotated(crystal: Crystal, seed: int) -> Crystal:
    """Return the crystal turned at random, for odd seeds mirrored as well."""
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn)) * (-1) ** seed
    return crystal.replace(positions=crystal.positions @ turn, cell=crystal.cell @ turn)


def translated(crystal: Crystal, seed: int) -> Crystal:
    """Return the crystal moved at random, each atom in another image of the cell."""
    rng = np.random.default_rng(seed)
    images = rng.integers(-2, 3, crystal.positions.shape) @ crystal.cell
    return crystal.replace(positions=crystal.positions + rng.uniform(-5, 5, 3) + images)


def reordered(crystal: Crystal, seed: int) -> Crystal:
    """Return the crystal with its atoms in another order."""
    order = np.random.default_rng(seed).permutation(crystal.n_atoms)
    return crystal.replace(numbers=crystal.numbers[order], positions=crystal.positions[order])


def rewritten(crystal: Crystal, seed: int) -> Crystal:
    """Return the crystal with another basis of its lattice."""
    return crystal.replace(cell=np.array(_BASES[seed % 2]) @ crystal.cell)


def doubled(crystal: Crystal, seed: int) -> Crystal:
    """Return the crystal in a cell of eight times the volume."""
    return crystal.supercell((2, 2, 2))


WRITINGS: tuple[Callable[[Crystal, int], Crystal], ...] = (
    rotated,
    translated,
    reordered,
    rewritten,
    doubled,
)


# -------------------------------------------------------------------------------------- the checks


def check_network(network: Network, *, tolerance: float = TOLERANCE) -> None:
    """Raise unless ``network`` keeps to the contract of :class:`~potnet.models.contract.Network`.

    Its settings come back from JSON; it is built from them and the number of targets; features fit
    a batch; a crystal's answer depends neither on the others of its batch nor on how the crystal
    is written down; every weight can learn; derivatives by positions, where the features have
    them, agree with differences; an archive gives the same numbers again.

    Args:
        network: One with random weights, whose class is known by its name: that of an installed
            package, or one that was given to :func:`potnet.models.registry.register`. It stays as
            it is.
        tolerance: How much answers for the same crystal may differ, in units of the network's
            output.

    Raises:
        CheckError: With the first fault that was found.
    """
    network = _with_statistics(network)
    for check in (
        _check_settings,
        _check_features,
        _check_output,
        _check_same_crystal,
        _check_gradients,
        _check_derivatives,
        _check_archive,
    ):
        check(network, tolerance)


def outputs(network: Network, crystals: list[Crystal]) -> NDArray[np.float64]:
    """Return what ``network`` gives for ``crystals``, shape (n, n_targets)."""
    with torch.inference_mode():
        return network(network.features(crystals)).double().numpy()


def _with_statistics(network: Network) -> Network:
    """Return a copy whose statistics of normalisation, if it has any, are those of crystals."""
    _require(
        isinstance(network, Network),
        "network",
        "be a potnet.models.contract.Network",
        type(network).__name__,
    )
    network = copy.deepcopy(network).cpu().train()
    batch = network.features(list(crystals().values()))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for _ in range(20):
            network(batch)
    return network.eval()


def _check_settings(network: Network, tolerance: float) -> None:
    settings = type(network.settings).model_validate_json(network.settings.model_dump_json())
    _require(settings == network.settings, "settings", "come back from JSON as they were", settings)
    try:
        registry.settings_of(network.name, {"no such setting": 1})
    except ConfigError as error:
        _require(
            "no such setting" in str(error),
            "name",
            "be known to potnet: give the class to potnet.models.registry.register, or name it in "
            "the entry points of its package",
            error,
        )
    else:
        _require(False, "Settings", "refuse unknown keys (extra='forbid')", "one that takes them")
    for n_targets in (1, 3):
        built = registry.build(network.name, network.settings, n_targets)
        _require(built.n_targets == n_targets, "n_targets", f"be {n_targets}", built.n_targets)


def _check_features(network: Network, tolerance: float) -> None:
    many = list(crystals().values())
    batch = network.features(many)
    _require(len(batch) == len(many), "features", f"give {len(many)} graphs", len(batch))
    n_nodes = int(batch.node_counts.sum())
    _require(len(batch.numbers) == n_nodes, "numbers", f"have {n_nodes} rows", len(batch.numbers))
    totals = torch.zeros(len(batch)).index_add(0, batch.graph_index, batch.weights.float())
    _require(
        bool(torch.allclose(totals, torch.ones(len(batch)), atol=1e-5)),
        "weights",
        "sum to 1 in each crystal",
        totals.tolist(),
    )
    for name, pairs in batch.pairs.items():
        n_pairs = int(pairs.counts.sum())
        for part in (pairs.i, pairs.j, pairs.values):
            _require(len(part) == n_pairs, f"pairs {name}", f"have {n_pairs} rows", len(part))
    with torch.inference_mode():
        often, once = network(batch), network(network.features.once(many))
    _require_close(once, often, tolerance, "features.once", "give what a call gives")


def _check_output(network: Network, tolerance: float) -> None:
    many = list(crystals().values())
    found = outputs(network, many)
    shape = (len(many), network.n_targets)
    _require(found.shape == shape, "output", f"have shape {shape}", found.shape)
    _require(bool(np.isfinite(found).all()), "output", "be finite", found.tolist())
    _require(bool((np.ptp(found, axis=0) > 100 * tolerance).all()), "output", "tell crystals apart",
             found.tolist())  # fmt: skip
    again = outputs(network, many)
    _require(bool((again == found).all()), "output", "be the same each time", again.tolist())
    alone = np.concatenate([outputs(network, [crystal]) for crystal in many])
    _require_close(found, alone, tolerance, "output", "not depend on the rest of the batch")
    with torch.inference_mode():
        part = network(network.features(many)[[4, 0, 4]]).double().numpy()
    _require_close(part, alone[[4, 0, 4]], tolerance, "output", "be that of the part of a batch")


def _check_same_crystal(network: Network, tolerance: float) -> None:
    named = crystals()
    expected = outputs(network, list(named.values()))
    for write in WRITINGS:
        for seed in (0, 1):
            found = outputs(network, [write(crystal, seed) for crystal in named.values()])
            rule = f"be the same for a crystal that is {write.__name__}"
            _require_close(found, expected, tolerance, "output", rule)


def _check_gradients(network: Network, tolerance: float) -> None:
    network = copy.deepcopy(network).requires_grad_(True).train()
    with torch.random.fork_rng(devices=[]):
        network(network.features(list(crystals().values()))).square().sum().backward()
    for name, parameter in network.named_parameters():
        gradient = parameter.grad
        _require(gradient is not None, name, "take part in the output", "no gradient")
        if gradient is not None:
            _require(bool(gradient.isfinite().all()), name, "have a finite gradient", gradient)


def _check_derivatives(network: Network, tolerance: float, step: float = 1e-4) -> None:
    if not network.features.is_differentiable:
        return
    network = copy.deepcopy(network).requires_grad_(False).double()
    crystal = crystals()["triclinic"]
    move = np.random.default_rng(0).standard_normal(crystal.positions.shape)
    strain = 0.02 * np.random.default_rng(1).standard_normal((3, 3))

    def value(t: torch.Tensor) -> torch.Tensor:
        deformation = torch.eye(3).double() + t * torch.tensor(strain)
        positions = torch.tensor(crystal.positions) + t * torch.tensor(move)
        cell = torch.tensor(crystal.cell) @ deformation
        return network(network.features.differentiable(crystal, positions @ deformation, cell))[0]

    at = torch.zeros((), dtype=torch.float64, requires_grad=True)
    here = value(at)
    exact = torch.stack([torch.autograd.grad(x, at, retain_graph=True)[0] for x in here])
    ahead, behind = (value(torch.tensor(s * step).double()) for s in (1, -1))
    scale = float(exact.abs().max().clamp_min(1e-3))
    differences = (ahead - behind) / (2 * step)
    rule = "have the derivatives that differences show"
    _require_close(exact, differences, 1e-3 * scale, "features.differentiable", rule)
    _require_close(here.detach(), outputs(network.float(), [crystal])[0], tolerance,
                   "features.differentiable", "give what a call gives")  # fmt: skip


def _check_archive(network: Network, tolerance: float) -> None:
    many = list(crystals().values())
    targets = tuple(TargetCard(name=f"target {k}", unit="") for k in range(network.n_targets))
    symbols = sorted({symbol for crystal in many for symbol in crystal.symbols})
    data = DataCard(
        name="none", n_train=1, elements=tuple(symbols), max_atoms=8, volume_per_atom=(1.0, 99.0)
    )
    settings = network.settings.model_dump(mode="json")
    card = ModelCard(network=network.name, settings=settings, targets=targets, data=data)
    try:
        card = archive.with_golden(card, [network], many[:2])
        with tempfile.TemporaryDirectory() as folder:
            archive.save(Path(folder) / "model.zip", [network], card)
            loaded, _ = archive.read(Path(folder) / "model.zip")
    except (PotNetError, StructureError) as error:
        raise CheckError(f"{network.name}: an archive must be saved and loaded. {error}") from error
    found, expected = outputs(loaded[0], many), outputs(network, many)
    _require(bool((found == expected).all()), "output", "be the same after loading", found.tolist())


def _require_close(
    found: torch.Tensor | NDArray[np.float64],
    expected: torch.Tensor | NDArray[np.float64],
    tolerance: float,
    name: str,
    rule: str,
) -> None:
    worst = float(np.abs(np.asarray(found) - np.asarray(expected)).max())
    _require(worst <= tolerance, name, f"{rule} within {tolerance:.2g}", f"{worst:.3g}")


def _require(holds: bool, name: str, rule: str, got: object) -> None:
    if not holds:
        raise CheckError(f"check_network: `{name}` must {rule}, got {str(got)[:200]}.")
