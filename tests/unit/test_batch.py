"""What batches know of their crystals."""

import numpy as np

from potnet.crystal import Crystal
from potnet.models import registry


def test_atoms_of_the_reduced_formula():
    cubic = 4.2 * np.eye(3)
    face = 2.1 * np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
    salt = Crystal([12] * 4 + [8] * 4, np.concatenate([face, face + [2.1, 0, 0]]), cubic)
    # Two formulas of hydrogen peroxide, of which nothing is equivalent.
    peroxide = Crystal(
        [1, 1, 8, 8],
        [[0.1, 0.2, 0.3], [1.9, 0.1, 5.5], [0.4, 2.2, 1.9], [2.4, -2.5, 3.0]],
        [[4.1, 0.3, 0.2], [-1.1, 4.9, 0.4], [0.6, -1.7, 5.3]],
    )
    oxygen = Crystal([8, 8], [[0, 0, 0], [1.2, 0, 0]], 6.0 * np.eye(3))
    batch = registry.build("completenet").features([salt, peroxide, oxygen])
    assert batch.formula_counts.tolist() == [2, 2, 1]
    assert batch[[1, 0]].formula_counts.tolist() == [2, 2]
