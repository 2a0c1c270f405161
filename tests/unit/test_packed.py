"""Features without zeros have the same bits again."""

import numpy as np
import pytest
from tiny_network import made_up_dataset

from potnet.features import Batch
from potnet.features.complete import CompleteFeatures
from potnet.training.features import as_tensors, size_of
from potnet.training.packed import lengths, pack, unpack, unpacked_size

CRYSTALS = made_up_dataset(9).crystals


def tensors_of(features, crystals):
    return {key: t.numpy() for key, t in features(crystals).to_tensors().items()}


def same(one, other):
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype
        and one[key].shape == other[key].shape
        and one[key].tobytes() == other[key].tobytes()
        for key in one
    )


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_features_are_the_same_to_the_last_bit(degree):
    given = tensors_of(CompleteFeatures(degree=degree), CRYSTALS)
    packed = pack(given)
    assert same(unpack(packed), given)
    assert unpacked_size(packed) == size_of(given)
    assert size_of(packed) < 0.7 * size_of(given)


def test_minus_zero_nan_and_infinity_stay_what_they_are():
    given = tensors_of(CompleteFeatures(), CRYSTALS[:2])
    given["pairs.complete.values"].flat[[0, 3, 70]] = [-0.0, np.nan, -np.inf]
    given["pairs.complete.values"][-1] = 0
    assert same(unpack(pack(given)), given)


def test_crystals_can_be_taken_one_by_one():
    features = CompleteFeatures()
    packed = pack(tensors_of(features, CRYSTALS))
    ends = {key: np.append(0, np.cumsum(n)) for key, n in lengths(packed).items()}
    assert all(ends[key][-1] == len(array) for key, array in packed.items())
    for row in (0, 4, 8):
        piece = {key: array[ends[key][row] : ends[key][row + 1]] for key, array in packed.items()}
        assert same(unpack(piece), tensors_of(features, [CRYSTALS[row]]))


def test_many_atoms_have_longer_indices():
    n = 70_000
    given = tensors_of(CompleteFeatures(), CRYSTALS[:1])
    given["pairs.complete.i"] = np.full_like(given["pairs.complete.i"], n)
    packed = pack(given)
    assert packed["pairs.complete.i"].dtype == np.uint32
    assert packed["pairs.complete.j"].dtype == np.uint16
    assert same(unpack(packed), given)
    assert Batch.from_tensors(as_tensors(unpack(packed))).pairs["complete"].i.max() == n
