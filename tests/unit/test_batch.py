"""What batches know of their crystals."""

import numpy as np
import pytest

from potnet.crystal import Crystal
from potnet.errors import ConfigError
from potnet.features.batch import Batch
from potnet.models import registry

CUBIC = 4.2 * np.eye(3)
FACE = 2.1 * np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
SALT = Crystal([12] * 4 + [8] * 4, np.concatenate([FACE, FACE + [2.1, 0, 0]]), CUBIC)
OXYGEN = Crystal([8, 8], [[0, 0, 0], [1.2, 0, 0]], 6.0 * np.eye(3))


def test_atoms_of_the_reduced_formula():
    # Two formulas of hydrogen peroxide, of which nothing is equivalent.
    peroxide = Crystal(
        [1, 1, 8, 8],
        [[0.1, 0.2, 0.3], [1.9, 0.1, 5.5], [0.4, 2.2, 1.9], [2.4, -2.5, 3.0]],
        [[4.1, 0.3, 0.2], [-1.1, 4.9, 0.4], [0.6, -1.7, 5.3]],
    )
    batch = registry.build("completenet").features([SALT, peroxide, OXYGEN])
    assert batch.formula_counts.tolist() == [2, 2, 1]
    assert batch[[1, 0]].formula_counts.tolist() == [2, 2]


def test_a_batch_knows_which_features_it_is_of():
    features = registry.build("completenet").features
    batch = features([SALT, OXYGEN])
    for same in (batch, batch[[1]], batch[:1], batch.to("cpu"), batch.single()):
        assert same.features == features
    assert Batch.cat([batch, batch]).features == features
    unknown = Batch.from_tensors(batch.to_tensors())
    assert unknown.features is None
    unknown.require(features, "here")
    assert Batch.cat([batch, unknown]).features is None
    exact = features.model_copy(update={"tolerance": 1e-9})
    with pytest.raises(ConfigError, match="features with tolerance = 1e-09, got tolerance = 1e-07"):
        batch.require(exact, "here")
    with pytest.raises(ConfigError, match=r"Batch.cat: `batch` must be of features with tolerance"):
        Batch.cat([batch, exact([OXYGEN])])
    with pytest.raises(ConfigError, match="PotNetFeatures, got CompleteFeatures"):
        batch.require(registry.build("potnet").features, "here")
