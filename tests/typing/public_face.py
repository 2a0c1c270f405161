# pyright: strict
"""How users call the public face: pyright must know the type of every expression, in strict mode.

`make types` checks this file; nothing runs it. A name of ``potnet.__all__`` or
``latticesums.__all__`` that is missing here fails ``tests/unit/test_types.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import torch
from numpy.typing import NDArray

import latticesums
import potnet


def crystals(path: Path) -> potnet.Crystal:
    salt = potnet.Crystal([11, 17], [[0, 0, 0], [2.82, 2.82, 2.82]], 2.82 * np.eye(3), id="salt")
    assert_type(salt.positions, NDArray[np.float64])
    assert_type(salt.numbers, NDArray[np.int64])
    assert_type(salt.formula, str)
    found = potnet.read(path)
    assert_type(found, list[potnet.Crystal])
    assert_type(found[0].volume, float)
    for item in potnet.scan([path]):
        if isinstance(item, potnet.Failure):
            assert_type(item.reason, str)
        else:
            assert_type(item.n_atoms, int)
    potnet.write([salt], path)
    return potnet.Crystal.from_any(salt.to_ase()).primitive().supercell([2, 2, 2])


def sums(salt: potnet.Crystal) -> None:
    found = potnet.lattice_sums(salt, potentials=("coulomb", "pauli"), tolerance=1e-9)
    assert_type(found, latticesums.LatticeSums)
    assert_type(found.values, NDArray[np.float64])
    assert_type(found.error_bound, NDArray[np.float64])
    positions = torch.from_numpy(salt.positions)  # pyright: ignore[reportUnknownMemberType]
    cell = torch.eye(3, dtype=torch.float64)
    pairs = potnet.pair_sums(positions, cell, [latticesums.Yukawa(0.5)], tolerance=1e-9)
    assert_type(pairs, latticesums.PairSums)
    assert_type(pairs.values, torch.Tensor)
    plan = latticesums.fixed_plan(salt, "coulomb", tolerance=1e-9, strain=0.1)
    assert_type(plan, latticesums.FixedPlan)
    assert_type(latticesums.lattice_sums(salt, plan=plan), latticesums.LatticeSums)


def potentials(rate: torch.Tensor) -> list[latticesums.Potential]:
    screened = 2.0 * latticesums.Coulomb() + latticesums.Yukawa(rate)
    assert isinstance(screened, latticesums.Combination)
    assert_type(latticesums.unit_of(screened), str)
    assert_type(latticesums.parse_potential("london"), latticesums.Potential)
    return [
        screened,
        latticesums.Buckingham(1000.0, 0.3, 10.0),
        latticesums.Exponential(rate),
        latticesums.Gaussian(0.5),
        latticesums.InversePower(4),
        latticesums.LennardJones(0.1, 2.5),
        latticesums.London(),
        latticesums.Morse(1.0, 2.0, 1.5),
        latticesums.Pauli(),
        latticesums.Shell(2.0, 0.5, 6.0),
        *latticesums.resolve(["coulomb", latticesums.London()]),
    ]


def other_sums(salt: potnet.Crystal, positions: torch.Tensor, cell: torch.Tensor) -> None:
    shells = [latticesums.Shell(2.0, 0.5, 6.0)]
    float64, int64 = np.zeros((2, 3)), np.zeros(2, dtype=np.int64)
    arrays = (float64, float64, int64, int64)
    try:
        assert_type(latticesums.point_sums(salt, float64), latticesums.PointSums)
        assert_type(
            latticesums.directed_sums(positions, cell, shells, degree=1), latticesums.PairSums
        )
        assert_type(latticesums.directed_shells(positions, cell, shells, degree=2), torch.Tensor)
        assert_type(latticesums.partial_sums(positions, cell, shells, radius=5.0), torch.Tensor)
        values, pairs = latticesums.orbit_sums(*arrays, shells, tolerance=1e-8)
        assert_type(values, NDArray[np.float64])
        assert_type(pairs, NDArray[np.int64])
        assert_type(latticesums.orbit_shells(*arrays, shells, degree=1)[0], NDArray[np.float64])
        latticesums.pair_sums(positions, cell, latticesums.DEFAULT_POTENTIALS)
        latticesums.lattice_sums(salt)
    except (latticesums.StructureError, latticesums.ConfigError) as error:
        caught: latticesums.LatticeSumsError = error
        assert_type(str(caught), str)


def energies(positions: torch.Tensor, cell: torch.Tensor, charges: torch.Tensor) -> None:
    bounded = latticesums.pair_sums(positions, cell, ["coulomb to 6"], bound_derivatives=True)
    assert_type(bounded.derivative_bounds, latticesums.DerivativeBounds | None)
    assert_type(latticesums.energy(positions, cell, charges), latticesums.Energies)
    assert_type(latticesums.COULOMB_CONSTANT, float)
    latticesums.lattice_sums(latticesums.Atoms(np.zeros((1, 3)), np.eye(3)))
    cut: latticesums.Potential = latticesums.CutOff(latticesums.Coulomb(), 6.0)
    assert_type(latticesums.unit_of(cut), str)
    assert_type(latticesums.reduced(np.eye(3)), NDArray[np.float64])
    latticesums.named_potentials()
    i, _, shifts = latticesums.images(torch.zeros(1, 3), torch.eye(3), 2.0)
    assert_type(i, torch.Tensor)
    assert_type(shifts, torch.Tensor)


def predictions(salt: potnet.Crystal) -> None:
    assert_type(potnet.available(), list[str])
    model = potnet.load("bulk-modulus")
    assert_type(model, potnet.Predictor)
    rows = model.predict([salt], on_error="skip")
    assert_type(rows.values, NDArray[np.float64])
    assert_type(rows[0].prediction, float)
    assert_type(rows[0].lower, float)
    assert_type(rows[0].flags, tuple[str, ...])
    assert_type(rows.failures[0].id, str)
    rows.to_csv("predictions.csv")
    atoms: Any = salt.to_ase()
    reasons = potnet.explain(salt, model, edges=(3.0, 8.0))
    assert_type(reasons, list[potnet.Explanation])
    assert_type(reasons[0].by_channel, NDArray[np.float64])
    assert_type(reasons[0].to_dict(), dict[str, Any])
    atoms.calc = potnet.Calculator(model)


def training(path: Path) -> None:
    from potnet import data

    dataset = data.open(path)
    assert_type(dataset, potnet.Dataset)
    config = potnet.TrainingConfig(targets=("gap",), epochs=10)
    result = potnet.train(dataset, config, path / "run", on_error="skip")
    assert_type(result.model, Path)
    fitted = potnet.Regressor(epochs=10).fit(dataset.crystals, [1.0, 2.0])
    assert_type(fitted, potnet.Regressor)
    assert_type(fitted.predict(dataset.crystals), NDArray[np.float64])
    assert_type(fitted.score(dataset.crystals, [1.0, 2.0]), float)
    features = potnet.CompleteFeatures().once(list(dataset.crystals))
    assert_type(features.numbers, torch.Tensor)
    potnet.Classifier(epochs=10).fit(dataset.crystals, ["metal", "insulator"])


def errors(path: Path) -> str:
    try:
        predictions(potnet.read(path)[0])
    except (potnet.StructureError, potnet.DataError, potnet.ConfigError, potnet.ModelError) as e:
        caught: potnet.PotNetError = e
        return f"{potnet.__version__}: {caught}"
    return ""
