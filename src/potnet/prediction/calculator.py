"""A model of an energy as an ASE calculator: energy, forces and stress."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from potnet.errors import ModelError
from potnet.prediction.predictor import Precision, Predictor, load


class Calculator(AseCalculator):
    """Energy, forces and stress from a model that predicts an energy per atom.

    Forces and stress are exact derivatives of the predicted energy. A model that was trained on
    relaxed structures alone has never seen a force: use them to see where the energy wants to go,
    not for dynamics.

    Args:
        model: A predictor, or what :func:`potnet.load` takes.
        property: Which property is the energy, if the model predicts several.
        precision: What the network computes in, "float64" or, for dynamics, "float32": faster for
            forces within about 1e-6 eV/Å and energies within 1e-7 eV/atom of the others. Sums keep
            their bounds in both, and energy is conserved as well.
        **kwargs: What every ASE calculator takes.

    Raises:
        ModelError: If the model predicts no energy in eV/atom.
    """

    implemented_properties: list[str] = ["energy", "free_energy", "forces", "stress"]

    def __init__(
        self,
        model: Predictor | str | os.PathLike[str],
        *,
        property: str | None = None,
        precision: Precision = "float64",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model if isinstance(model, Predictor) else load(model)
        targets = self.model.card.targets
        energies = [
            k
            for k, target in enumerate(targets)
            if target.unit == "eV/atom" and property in (None, target.name)
        ]
        if len(energies) != 1:
            names = ", ".join(f"{target.name} in {target.unit or '?'}" for target in targets)
            raise ModelError(
                f"calculator: the model must predict one energy in eV/atom, got {names}. "
                "Name it by `property`, or choose another model."
            )
        self._property = targets[energies[0]].name
        self._precision: Precision = precision

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute all properties of ``atoms``; called by ASE."""
        super().calculate(atoms, list(properties), list(system_changes))
        atoms = self.atoms
        if atoms is None:
            raise ModelError("calculator: `atoms` must be given, got none. Set atoms.calc.")
        (found,) = self.model.gradients(atoms, precision=self._precision, property=self._property)
        n_atoms = len(atoms)
        energy = n_atoms * found.value
        stress = n_atoms * found.strain / atoms.get_volume()
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": -n_atoms * found.positions,
            "stress": full_3x3_to_voigt_6_stress(stress),
        }
