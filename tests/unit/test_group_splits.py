"""Splits by what crystals have in common keep every group in one part, and can be repeated."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potnet.crystal import Crystal
from potnet.data import Dataset, Split, SplitConfig, make_split, nested_k_fold, published_split
from potnet.data import open as open_dataset
from potnet.data.splits import (
    cluster,
    fingerprint,
    group_folds,
    group_split,
    groups_of,
    numbered,
    ordered_split,
    prototype,
    shuffled_folds,
    stratified_folds,
)
from potnet.errors import ConfigError, DataError
from potnet.training import TrainingConfig


def everything(split):
    return np.concatenate([split.train, split.val, split.test])


def salt(number, other, a=5.6, **kwargs):
    return Crystal([number, other], [[0, 0, 0], [a / 2, 0, 0]], fcc(a), **kwargs)


def caesium_chloride(number, other, a=4.1):
    return Crystal([number, other], [[0, 0, 0], [a / 2] * 3], np.eye(3) * a)


def fcc(a):
    return a / 2 * (1 - np.eye(3))


def made_up_dataset(n=120, **kwargs):
    """Salts of 4 metals and 3 halogens, each several times in slightly other cells."""
    pairs = [(metal, halogen) for metal in (3, 11, 19, 37) for halogen in (9, 17, 35)]
    crystals = [salt(*pairs[k % len(pairs)], a=5.4 + 0.01 * (k // 12)) for k in range(n)]
    return Dataset(tuple(f"x-{k}" for k in range(n)), tuple(crystals), **kwargs)


groups_strategy = st.lists(st.integers(0, 12), min_size=5, max_size=60).filter(
    lambda groups: len(set(groups)) >= 3
)


@given(groups_strategy, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_no_group_straddles_and_every_crystal_is_in_one_part(keys, seed):
    groups = numbered(keys)
    split = group_split(groups, seed=seed, shares=(0.6, 0.2, 0.2))
    assert sorted(everything(split)) == list(range(len(keys)))
    held = [set(groups[part].tolist()) for part in (split.train, split.val, split.test)]
    assert all(held)
    assert sum(map(len, held)) == len(set(keys))


def test_shares_are_met_exactly_where_small_groups_can_fill_up():
    groups = np.repeat(np.arange(130), [40, *[5] * 20, *[1] * 109])
    split = group_split(groups, seed=3, shares=(0.8, 0.1, 0.1))
    assert [len(part) / len(groups) for part in (split.train, split.val, split.test)] == (
        pytest.approx([0.8, 0.1, 0.1], abs=0.5 / len(groups) * 2)
    )


def test_a_group_larger_than_a_part_leaves_the_others_closest():
    groups = np.repeat([0, 1, 2, 3], [70, 10, 10, 10])
    assert group_split(groups, shares=(0.5, 0.25, 0.25)).sizes["train"] == 70


def test_group_splits_depend_on_their_seed_only():
    groups = np.repeat(np.arange(40), 3)
    first, again, other = (group_split(groups, seed=seed).test.tolist() for seed in (1, 1, 2))
    assert first == again != other


@given(groups_strategy, st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_group_folds_hold_whole_groups_and_are_balanced(keys, seed):
    groups = numbered(keys)
    folds = group_folds(groups, n_folds=3, seed=seed)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups.tolist()))
    sizes = np.bincount(folds, minlength=3)
    assert sizes.min() > 0
    assert sizes.max() - sizes.min() <= np.bincount(groups).max()


def test_too_few_groups_are_refused():
    with pytest.raises(DataError, match="at least 3 groups for as many parts, got 2"):
        group_split(np.array([0, 0, 1, 1, 1]))
    with pytest.raises(DataError, match="`n_folds` must be at most the number of groups 2"):
        group_folds(np.array([0, 0, 1, 1, 1]), n_folds=3)


def test_time_splits_train_on_the_old_and_cut_between_times():
    years = np.array([2001, 2010, 2003, 2003, 2003, 2004, 2010, 2008, 2002, 2009.0])
    split = ordered_split(years, shares=(0.5, 0.3, 0.2))
    assert years[split.train].tolist() == [2001, 2002, 2003, 2003, 2003]
    assert years[split.val].tolist() == [2004, 2008, 2009]
    assert years[split.test].tolist() == [2010, 2010]


def test_time_splits_never_leave_a_part_empty():
    split = ordered_split(np.array([2000.0] * 98 + [2001, 2002]), shares=(0.8, 0.1, 0.1))
    assert split.sizes == {"train": 98, "val": 1, "test": 1}
    assert ordered_split(np.array([1.0, 2, 2]), shares=(0.5, 0.5, 0)).sizes["val"] == 2
    with pytest.raises(DataError, match="at least 3 different times, got 2"):
        ordered_split(np.array([2000.0] * 5 + [2001] * 5))


def test_every_crystal_validates_once_in_nested_folds():
    splits = [nested_k_fold(53, fold=2, inner_folds=4, inner_fold=k) for k in range(4)]
    assert len({tuple(sorted(split.test)) for split in splits}) == 1
    assert all(sorted(everything(split)) == list(range(53)) for split in splits)
    validating = np.concatenate([split.val for split in splits])
    assert sorted(validating) == sorted(set(range(53)) - set(splits[0].test.tolist()))


# ------------------------------------------------------------------------------------- groups


def test_the_prototype_does_not_depend_on_elements_cell_or_origin():
    nacl = salt(11, 17)
    assert prototype(nacl) == "AB 225 1:m-3m 1:m-3m"
    moved = Crystal(nacl.numbers, nacl.positions + 0.7, nacl.cell)
    alike = [salt(12, 8, a=4.2), salt(17, 11), moved, nacl.supercell(2), nacl.supercell((1, 2, 3))]
    assert {prototype(crystal) for crystal in alike} == {prototype(nacl)}
    assert prototype(caesium_chloride(55, 17)) != prototype(nacl)


def test_the_prototype_tells_which_element_sits_where():
    perovskite = [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    crystal = Crystal([38, 22, 8, 8, 8], np.array(perovskite) * 3.9, np.eye(3) * 3.9)
    assert prototype(crystal) == "ABC3 221 1:m-3m 1:m-3m 3:4/mmm"


@pytest.mark.parametrize(
    ("by", "n_groups"), [("crystal", 24), ("composition", 12), ("prototype", 1)]
)
def test_groups_are_what_their_name_says(by, n_groups):
    assert len(set(groups_of(made_up_dataset(24).crystals, by).tolist())) == n_groups


def test_a_chemical_system_joins_all_ratios_of_its_elements():
    a = [Crystal([11, 17, 17], np.eye(3) * 2, np.eye(3) * 6), salt(17, 11), salt(19, 17)]
    assert groups_of(a, "chemical-system").tolist() == [0, 0, 1]
    assert groups_of(a, "composition").tolist() == [0, 1, 2]


def test_fingerprints_do_not_depend_on_the_cell():
    crystal = salt(11, 17)
    larger = crystal.supercell([[2, 1, 0], [0, 1, 0], [0, 0, 3]])
    np.testing.assert_allclose(fingerprint(larger), fingerprint(crystal), atol=1e-9)
    assert abs(fingerprint(caesium_chloride(11, 17)) - fingerprint(crystal)).max() > 0.01


def test_fingerprints_are_closer_for_elements_of_one_group():
    near, far = (
        np.linalg.norm(fingerprint(salt(*pair)) - fingerprint(salt(11, 17)))
        for pair in ((19, 35), (26, 7))
    )
    assert near < far


def test_clusters_find_crystals_that_are_alike():
    salts = [salt(11, x, 5.5 + 0.02 * k) for x in (9, 17) for k in range(4)]
    oxides = [caesium_chloride(m, 8, a) for m in (26, 27, 28, 29) for a in (3.0, 3.1)]
    found = cluster(salts + oxides, n_clusters=2, seed=0)
    assert found.tolist() == [0] * 8 + [1] * 8


def test_clusters_are_at_most_as_many_as_crystals_differ():
    assert set(cluster([salt(11, 17)] * 5, n_clusters=3).tolist()) == {0}


# ------------------------------------------------------------------------------- by settings


@pytest.mark.parametrize("kind", ["random", "k-fold", "nested", "element"])
@pytest.mark.parametrize("by", ["composition", "chemical-system", "cluster"])
def test_every_rule_keeps_every_kind_of_group_together(kind, by):
    dataset = made_up_dataset()
    chosen = {"elements": ["Br"]} if kind == "element" else {}
    config = SplitConfig(kind=kind, by=by, n_folds=3, inner_folds=3, n_clusters=6, **chosen)
    split, failures = make_split(dataset, config)
    again, _ = make_split(dataset, config)
    assert failures == []
    assert sorted(everything(split)) == list(range(len(dataset)))
    np.testing.assert_array_equal(everything(split), everything(again))
    groups = groups_of(dataset.crystals, by, n_clusters=6)
    if kind == "element":
        assert all(35 in dataset.crystals[k].numbers for k in split.test)
        assert not any(35 in dataset.crystals[k].numbers for k in split.train)
        groups = np.delete(groups, split.test)
    parts = [set(groups_of_part) for groups_of_part in _by_part(split, groups, kind)]
    assert not set.intersection(*parts[:2])


def _by_part(split, groups, kind):
    if kind == "element":
        rest = np.sort(np.concatenate([split.train, split.val]))
        places = {k: place for place, k in enumerate(rest.tolist())}
        return [[groups[places[k]] for k in part] for part in (split.train, split.val)]
    return [groups[part].tolist() for part in (split.train, split.val, split.test)]


def test_a_bare_word_of_grouping_is_a_random_split_by_it():
    config = TrainingConfig(split="prototype").split
    assert (config.kind, config.by) == ("random", "prototype")


@pytest.mark.parametrize("column", ["year", "published", ""])
def test_time_comes_from_numbers_dates_or_ids(column):
    n = 20
    dates = [f"20{10 + k}-0{1 + k % 9}-01" for k in range(n)]
    crystals = [salt(11, 17, info={"published": date}) for date in dates]
    order = np.random.default_rng(0).permutation(n)
    dataset = Dataset(
        ids=tuple(f"mp-{k}" for k in order),
        crystals=tuple(crystals[k] for k in order),
        targets={"year": 2010.0 + order},
    )
    split, _ = make_split(dataset, SplitConfig(kind="time", column=column))
    assert order[split.train].tolist() == list(range(16))
    assert order[split.test].tolist() == [18, 19]


def test_a_column_of_dates_in_a_table_divides_it(tmp_path):
    records = [
        {**salt(11, 17).as_dict(), "id": f"x-{k}", "seen": f"20{30 - k}-05-01"} for k in range(10)
    ]
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    split, _ = make_split(open_dataset(path), SplitConfig(kind="time", column="seen"))
    assert (split.train.tolist(), split.test.tolist()) == ([*range(9, 1, -1)], [0])


def test_times_that_are_missing_are_refused_with_the_crystal():
    dataset = made_up_dataset(10, targets={"year": [2000.0] * 9 + [np.nan]})
    with pytest.raises(DataError, match="column 'year' must be a number.* got nan for 'x-9'"):
        make_split(dataset, SplitConfig(kind="time", column="year"))
    with pytest.raises(DataError, match="got None for 'x-0'"):
        make_split(dataset, SplitConfig(kind="time", column="date"))


def test_crystals_without_the_target_are_left_out_of_every_rule():
    known = np.where(np.arange(60) < 50, 1.0, np.nan)
    dataset = made_up_dataset(60, targets={"y": known})
    split, failures = make_split(dataset, SplitConfig(kind="composition"), ["y"])
    assert sorted(everything(split)) == list(range(50))
    assert [failure.id for failure in failures] == [f"x-{k}" for k in range(50, 60)]


def test_a_file_divides_as_it_says_and_the_rest_is_named(tmp_path):
    dataset = made_up_dataset(30)
    path = tmp_path / "split.json"
    wanted = published_split(29)
    wanted.write(path, dataset.ids[:29], about={"kind": "published"})
    split, failures = make_split(dataset, SplitConfig(kind="file", path=str(path)))
    assert split.named(dataset.ids) == wanted.named(dataset.ids)
    unused = sorted(set(range(30)) - set(everything(wanted).tolist()))
    assert [failure.id for failure in failures] == [f"x-{k}" for k in unused]
    assert "puts it in no part" in failures[0].reason


def test_official_folds_are_the_test_sets(tmp_path):
    folds = np.arange(60) % 5
    dataset = made_up_dataset(60, folds=folds)
    tests = [make_split(dataset, SplitConfig(fold=k))[0].test for k in range(5)]
    assert all((folds[test] == k).all() for k, test in enumerate(tests))
    split, _ = make_split(dataset, SplitConfig(kind="given", fold=3, val=0.25))
    assert split.sizes == {"train": 36, "val": 12, "test": 12}
    assert dataset.subset([4, 3]).folds.tolist() == [4, 3]
    with pytest.raises(DataError, match="one of the official folds 0 to 4, got 5"):
        make_split(dataset, SplitConfig(fold=5, n_folds=9))


def test_a_target_learned_beside_another_follows_the_split_of_the_other():
    names = ("gap", "energy")
    targets = {name: np.arange(20.0) for name in names}
    own = np.array(["train"] * 8 + ["val", "test"] + [""] * 10)
    other = np.array(["test", "val"] + ["train"] * 18)
    dataset = made_up_dataset(
        20, targets=targets, units=dict.fromkeys(names, "eV"), splits={"gap": own, "energy": other}
    )
    split, _ = make_split(dataset, SplitConfig(kind="given", of="gap"), names)
    assert split.val.tolist() == [8]
    assert split.test.tolist() == [9]
    assert split.train.tolist() == [*range(8), *range(10, 20)]
    with pytest.raises(ValueError, match="`of` goes with given"):
        SplitConfig(kind="random", of="gap")


@pytest.mark.parametrize("folds", [[0.5] * 10, [0] * 9, [-2] * 10])
def test_folds_that_do_not_fit_are_refused(folds):
    with pytest.raises(DataError, match="`folds` must be one whole number"):
        made_up_dataset(10, folds=folds)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "element"}, "`elements` must be given if, and only if"),
        ({"kind": "random", "elements": "O"}, "`elements` must be given if, and only if"),
        ({"kind": "file"}, "`path` must be given if, and only if"),
        ({"kind": "time", "by": "composition"}, "`by` goes with random, k-fold, nested"),
        ({"kind": "nested", "inner_fold": 5}, "`inner_fold` must be below `inner_folds` = 5"),
        ({"kind": "cluster", "train": 100}, "all below 1 or all numbers"),
        ({"kind": "cluster", "by": "composition"}, "cluster goes with no other `by`"),
        ({"kind": "letters"}, "'auto'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(split=settings)


def test_an_element_that_no_crystal_has_is_refused():
    with pytest.raises(DataError, match="must have Au or Pt, got none"):
        make_split(made_up_dataset(20), SplitConfig(kind="element", elements="Au Pt"))


# -------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must be JSON"),
        ("[]", "`train` must be a list of ids, got None"),
        ('{"train": ["a"], "val": ["b"]}', "`test` must be a list"),
        ('{"train": [1], "val": ["b"], "test": []}', "`train` must be a list of ids"),
        ('{"train": ["a"], "val": ["a"], "test": []}', "ids must not repeat, got 'a' twice"),
    ],
)
def test_damaged_split_files_are_refused(tmp_path, content, message):
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        Split.read(path, ["a", "b"])


def test_a_split_file_that_is_not_there_is_an_error_in_a_sentence(tmp_path):
    with pytest.raises(DataError, match="cannot be read, No such file"):
        Split.read(tmp_path / "split.json", ["a", "b"])


def test_a_split_file_says_of_every_crystal_where_it_is(tmp_path):
    ids = [f"mp-{k}" for k in range(57)]
    published_split(57).write(tmp_path / "split.json", ids, about={"seed": 123})
    content = json.loads((tmp_path / "split.json").read_text())
    assert content.pop("about") == {"seed": 123}
    assert sorted(id for part in content.values() for id in part) == sorted(ids)
    assert len(content["unused"]) == 2


# ----------------------------------------------------------------------- folds of scikit-learn


@pytest.mark.parametrize("n", [10, 637, 4764])
def test_shuffled_folds_are_those_of_scikit_learn(n):
    model_selection = pytest.importorskip("sklearn.model_selection")
    folds = shuffled_folds(n, seed=18012019)
    theirs = model_selection.KFold(5, shuffle=True, random_state=18012019).split(np.zeros(n))
    for k, (_, test) in enumerate(theirs):
        np.testing.assert_array_equal(np.flatnonzero(folds == k), test)


@pytest.mark.parametrize("n", [23, 640, 4921])
def test_stratified_folds_are_those_of_scikit_learn(n):
    model_selection = pytest.importorskip("sklearn.model_selection")
    classes = np.random.default_rng(0).random(n) < 0.43
    folds = stratified_folds(classes, seed=18012019)
    rule = model_selection.StratifiedKFold(5, shuffle=True, random_state=18012019)
    for k, (_, test) in enumerate(rule.split(np.zeros(n), classes)):
        np.testing.assert_array_equal(np.flatnonzero(folds == k), test)
