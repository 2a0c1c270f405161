"""Madelung constants from complete Coulomb sums, to the tolerance that is asked for.

Run: python examples/madelung_constants.py
"""

import numpy as np

import potnet

# Charges by atomic number, cubic cell edge in units of the nearest distance, known constant.
FACE_CENTRED = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
CRYSTALS = {
    "NaCl": (FACE_CENTRED, FACE_CENTRED + [0.5, 0, 0], 2.0, 1.747564594633182),
    "CsCl": (np.zeros((1, 3)), np.full((1, 3), 0.5), 2 / np.sqrt(3), 1.762674773070988),
    "ZnS": (FACE_CENTRED, FACE_CENTRED + 0.25, 4 / np.sqrt(3), 1.638055053388789),
}
NUMBERS = {"NaCl": (11, 17), "CsCl": (55, 17), "ZnS": (30, 16)}


def madelung_constant(name: str) -> float:
    """Return the Madelung constant of a crystal type, referred to the nearest distance."""
    cations, anions, edge, _ = CRYSTALS[name]
    n = len(cations)
    nearest = 2.5  # Å; the constant does not depend on it
    crystal = potnet.Crystal(
        numbers=np.repeat(NUMBERS[name], n),
        positions=np.concatenate([cations, anions]) * edge * nearest,
        cell=np.eye(3) * edge * nearest,
        id=name,
    )
    sums = potnet.lattice_sums(crystal, potentials=("coulomb",), tolerance=1e-12)
    charges = np.repeat([1.0, -1.0], n)
    potential = sums.values[0, :, 0] @ charges  # at a cation, in 1/Å
    return -float(potential) * nearest


if __name__ == "__main__":
    print(f"{'crystal':8} {'computed':>18} {'known':>18} {'difference':>12}")
    for name, (*_, known) in CRYSTALS.items():
        computed = madelung_constant(name)
        print(f"{name:8} {computed:18.15f} {known:18.15f} {computed - known:12.1e}")
