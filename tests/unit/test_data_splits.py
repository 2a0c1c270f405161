"""Splits can be repeated by others, and no crystal is in two parts."""

import random

import numpy as np
import pytest

from potnet.data import (
    Dataset,
    Split,
    SplitConfig,
    given_split,
    k_fold,
    make_split,
    published_split,
    random_split,
)
from potnet.errors import DataError


def everything(split):
    return np.concatenate([split.train, split.val, split.test])


def test_a_random_split_has_every_crystal_once():
    split = random_split(1181, seed=7)
    assert sorted(everything(split)) == list(range(1181))
    assert (len(split.val), len(split.test)) == (118, 118)


def test_a_random_split_depends_on_its_seed_only():
    first, again, other = (random_split(50, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(everything(first), everything(again))
    assert everything(first).tolist() != everything(other).tolist()


def test_the_published_split_is_that_of_the_published_method():
    n, n_val, n_test = 57, 5, 5
    ids = list(range(n))
    random.seed(123)
    random.shuffle(ids)
    split = published_split(n)
    assert split.train.tolist() == ids[:45]
    assert split.val.tolist() == ids[-(n_val + n_test) : -n_test]
    assert split.test.tolist() == ids[-n_test:]


def test_whole_numbers_count_crystals():
    split = published_split(100, shares=(60, 5, 4))
    assert [len(part) for part in (split.train, split.val, split.test)] == [60, 5, 4]


def test_folds_cover_every_crystal_once():
    folds = [k_fold(23, n_folds=5, fold=k) for k in range(5)]
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(23))
    assert all(sorted(everything(fold)) == list(range(23)) for fold in folds)


def test_given_labels_are_taken_as_they_are():
    split = given_split(np.array(["test", "train", "", "val", "train"]))
    assert (split.train.tolist(), split.val.tolist(), split.test.tolist()) == ([1, 4], [3], [0])


def test_without_validation_labels_training_crystals_validate():
    split = given_split(np.array(["train"] * 20 + ["test"] * 5))
    assert (len(split.train), len(split.val), len(split.test)) == (18, 2, 5)
    assert max(split.val) < 20


def test_a_split_is_written_with_ids_and_read_again(tmp_path):
    ids = [f"mp-{k}" for k in range(30)]
    split = random_split(30)
    split.write(tmp_path / "split.json", ids)
    shuffled = ids[::-1]
    again = Split.read(tmp_path / "split.json", shuffled)
    assert again.named(shuffled) == split.named(ids)
    with pytest.raises(DataError, match="got 'mp-.*' that it lacks"):
        Split.read(tmp_path / "split.json", ids[:10])
    with pytest.raises(DataError, match="got none for 'new'"):
        Split.read(tmp_path / "split.json", [*ids, "new"])
    assert Split.read(tmp_path / "split.json", [*ids, "new"], partial=True).sizes == split.sizes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Split([0, 1], [1], []), "in one part only"),
        (lambda: Split([0, 1], [], [2]), "`val` must hold at least one"),
        (lambda: random_split(10, shares=(0.8, 0.3, 0.1)), "must fit into 10 crystals"),
        (lambda: random_split(10, shares=(5.5, 0.3, 0.1)), "below 1 or whole numbers"),
        (lambda: random_split(3), "at least one crystal"),
        (lambda: k_fold(10, n_folds=5, fold=5), "`fold` must be below"),
    ],
)
def test_impossible_splits_are_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()


def test_crystals_that_the_data_put_in_no_part_are_said(salts, caplog):
    labels = np.array(["train", "val", *[""] * (len(salts) - 2)])
    ids = [crystal.id for crystal in salts]
    gaps = {"gap": np.arange(len(salts)) * 1.0}
    table = Dataset(ids, salts, gaps, splits={"": labels}, name="salts")
    split, failures = make_split(table, SplitConfig(), ["gap"])
    assert (split.sizes, failures) == ({"train": 1, "val": 1, "test": 0}, [])
    said = f"puts {len(salts) - 2} of {len(salts)} crystals in no part"
    assert said in caplog.text


def test_a_target_without_values_is_named(salts):
    table = Dataset([c.id for c in salts], salts, {"gap": [np.nan] * len(salts)}, name="salts")
    with pytest.raises(
        DataError, match=f"salts: gap must .* got none of {len(salts)} with a value"
    ):
        make_split(table, SplitConfig(), ["gap"])
