"""The suites have exactly the crystals and folds that others use, and seal their test targets."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from potnet.benchmark import SUITES, Suite, Task, open_suite
from potnet.benchmark.opened import outer_and_inner
from potnet.data import SplitConfig
from potnet.data.public.official import MATBENCH_SEED
from potnet.data.splits.by_crystal import shuffled_folds, stratified_folds
from potnet.errors import ConfigError, DataError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
TINY = Suite("tiny", "a test", (Task("energy", "eV", ("the energy",)),), "matbench", 23)


def matbench_folds(n: int) -> np.ndarray:
    return shuffled_folds(n, seed=MATBENCH_SEED)


def written(path: Path, n: int = 23, **columns) -> Path:
    """Write ``n`` crystals; ``columns`` are functions of the row number, None leaves a key out."""
    with gzip.open(path, "wt") as file:
        for k in range(n):
            record = {
                "id": f"mb-tiny-{k + 1:04d}",
                "lattice": (np.eye(3) * (3 + k / 10)).tolist(),
                "species": ["Na"],
                "frac_coords": [[0, 0, 0]],
                "targets": {"energy": float(k)},
            }
            changes = {key: column(k) for key, column in columns.items()}
            record |= {key: value for key, value in changes.items() if value is not None}
            file.write(json.dumps(record) + "\n")
    return path


@pytest.mark.parametrize(
    ("name", "file", "n"),
    [
        ("matbench-phonons", "matbench_phonons", 1265),
        ("matbench-jdft2d", "matbench_jdft2d", 636),
        ("matbench-elastic", "matbench_elastic", 10987),
        ("matbench-log-gvrh", "matbench_elastic", 10987),
        ("matbench-perovskites", "matbench_perovskites", 18928),
    ],
)
def test_the_published_labels_say_the_same_folds(name: str, file: str, n: int) -> None:
    path = SHARED / f"{file}.jsonl.gz"
    if not path.exists():
        pytest.skip("the data are not at hand")
    opened = open_suite(SUITES[name], path)  # It raises where a label differs from the rule.
    with gzip.open(path, "rt") as lines:
        labels = [json.loads(line)["matbench_fold"] for line in lines]
    assert len(opened.dataset) == n
    assert opened.folds is not None
    assert opened.folds.tolist() == labels
    assert opened.notes == ()


def test_every_crystal_is_tested_once_and_validates_in_one_turn() -> None:
    folds = matbench_folds(101)
    tested = np.concatenate(
        [outer_and_inner(folds, k, turn=0, val_share=0.1, seed=1).test for k in range(5)]
    )
    assert sorted(tested) == list(range(101))
    turns = [outer_and_inner(folds, 3, turn=t, val_share=0.2, seed=1) for t in range(5)]
    assert sorted(np.concatenate([turn.val for turn in turns])) == sorted(
        np.flatnonzero(folds != 3)
    )
    again = outer_and_inner(folds, 3, turn=5, val_share=0.2, seed=1)
    assert again.val.tolist() == turns[0].val.tolist()
    for turn in turns:
        everything = np.concatenate([turn.train, turn.val, turn.test])
        assert sorted(everything) == list(range(101))


def parts_of(splits):
    """Return the crystals that each split learns from, and those that it tests."""
    return [set(np.concatenate([split.train, split.val])) for split in splits], [
        split.test.tolist() for split in splits
    ]


def test_fewer_crystals_to_learn_from_are_a_part_of_more_and_the_test_stays() -> None:
    folds = matbench_folds(101)
    sizes = (20, 40, 0, 1000)
    splits = [outer_and_inner(folds, 3, turn=0, val_share=0.1, seed=1, most=n) for n in sizes]
    learned, tested = parts_of(splits)
    assert [len(split.val) for split in splits[:2]] == [2, 4]
    assert [len(part) for part in learned] == [20, 40, 81, 81]
    assert learned[0] < learned[1] < learned[2] == learned[3]
    assert all(test == tested[0] for test in tested)
    other = outer_and_inner(folds, 3, turn=1, val_share=0.1, seed=1, most=20)
    assert parts_of([other])[0] == learned[:1]
    assert not set(other.val) & set(splits[0].val)


def test_an_official_split_keeps_its_proportions_with_fewer_crystals(tmp_path: Path) -> None:
    label = {"split": lambda k: ("train", "train", "train", "val", "test")[k % 5]}
    path = written(tmp_path / "t.jsonl.gz", n=100, **label)
    splits = []
    for most in (20, 40, 0, 80, 1000):
        suite = Suite("few", "a test", (Task("energy", "eV"),), "labels", most=most)
        splits.append(open_suite(suite, path).split(("energy",), 0))
    learned, tested = parts_of(splits)
    assert [(len(split.train), len(split.val)) for split in splits[:3]] == [
        (15, 5),
        (30, 10),
        (60, 20),
    ]
    assert learned[0] < learned[1] < learned[2] == learned[3] == learned[4]
    assert all(test == tested[0] for test in tested)


def test_entries_that_are_not_there_are_named_and_the_others_keep_their_folds(
    tmp_path: Path,
) -> None:
    known = lambda k: {"energy": float(k)} if k not in (4, 7) else {}  # noqa: E731
    opened = open_suite(TINY, written(tmp_path / "t.jsonl.gz", targets=known))
    assert opened.left_out == ("mb-tiny-0005", "mb-tiny-0008")
    assert opened.folds is not None
    assert opened.folds.tolist() == np.delete(matbench_folds(23), [4, 7]).tolist()
    assert opened.notes == ("21 of the 23 entries are used.",)


def test_classes_are_spread_over_the_folds_as_matbench_does(tmp_path: Path) -> None:
    task = Task("is_metal", "1", metric="roc_auc")
    suite = Suite("classes", "a test", (task,), "matbench-stratified", 23)
    columns = {
        "targets": lambda k: {"is_metal": float(k % 3 == 0)},
        "matbench_fold": lambda k: int(matbench_folds(23)[k]),  # of the other task of the file
    }
    opened = open_suite(suite, written(tmp_path / "t.jsonl.gz", **columns))
    classes = opened.dataset.targets["is_metal"]
    assert opened.folds is not None
    assert opened.folds.tolist() == stratified_folds(classes, seed=MATBENCH_SEED).tolist()
    with pytest.raises(DataError, match="must have all 23 entries"):
        open_suite(suite, written(tmp_path / "u.jsonl.gz", n=20, **columns))


@pytest.mark.parametrize("by", ["crystal", "composition"])
def test_a_suite_can_be_cut_into_folds_by_a_rule(by: str, tmp_path: Path) -> None:
    rule = SplitConfig(kind="k-fold", by=by, n_folds=4)
    suite = Suite("ruled", "a test", (Task("energy", "eV"),), rule)
    kinds = ["Na", "K", "Rb", "Cs", "Li", "Ag", "Au", "Cu"]
    path = written(tmp_path / "t.jsonl.gz", species=lambda k: [kinds[k % 8]])
    opened = open_suite(suite, path)
    assert opened.folds is not None
    assert suite.n_folds == 4
    assert set(opened.folds) == {0, 1, 2, 3}
    of_kind = [set(opened.folds[k::8]) for k in range(8)]
    assert all(len(folds) == 1 for folds in of_kind) == (by == "composition")


def test_the_orderings_have_ten_folds_both_ways() -> None:
    path = SHARED / "li_mn_o_f_orderings.jsonl.gz"
    if not path.exists():
        pytest.skip("the data are not at hand")
    for name in ("lmof", "lmof-compositions"):
        opened = open_suite(SUITES[name], path)
        assert opened.folds is not None
        assert np.bincount(opened.folds, minlength=10).min() >= 60
        assert opened.notes == ()


def test_a_label_against_the_rule_is_an_error(tmp_path: Path) -> None:
    wrong = lambda k: int(matbench_folds(23)[k] if k != 9 else (matbench_folds(23)[9] + 1) % 5)  # noqa: E731
    path = written(tmp_path / "t.jsonl.gz", matbench_fold=wrong)
    with pytest.raises(DataError, match="'mb-tiny-0010' must be in fold"):
        open_suite(TINY, path)


def test_whole_data_without_ids_take_the_folds_by_order(tmp_path: Path) -> None:
    path = written(tmp_path / "t.jsonl.gz", id=lambda k: f"x{k}")
    opened = open_suite(TINY, path)
    assert opened.folds is not None
    assert opened.folds.tolist() == matbench_folds(23).tolist()


def test_folds_that_cannot_be_known_are_an_error(tmp_path: Path) -> None:
    path = written(tmp_path / "t.jsonl.gz", n=20, id=lambda k: f"x{k}")
    with pytest.raises(DataError, match="in which fold"):
        open_suite(TINY, path)


def test_a_target_may_have_another_name(tmp_path: Path) -> None:
    path = written(tmp_path / "t.jsonl.gz", targets=lambda k: {"the energy": float(k)})
    assert open_suite(TINY, path).dataset.targets["energy"].tolist() == list(range(23))
    path = written(tmp_path / "u.jsonl.gz", targets=lambda k: {"other": float(k)})
    with pytest.raises(DataError, match="must have the target 'energy'"):
        open_suite(TINY, path)


def test_official_labels_are_taken_and_held_back_targets_stay_unknown(tmp_path: Path) -> None:
    suite = Suite("own-split", "a test", (Task("energy", "eV"),), "labels")
    parts = ["train"] * 15 + ["val"] * 4 + ["test"] * 4
    path = written(
        tmp_path / "t.jsonl.gz",
        split=lambda k: {"energy": parts[k]},
        targets=lambda k: {"energy": float(k)} if k < 19 else {},
    )
    opened = open_suite(suite, path)
    split = opened.split(["energy"], 0)
    assert (split.train.tolist(), split.val.tolist()) == (list(range(15)), list(range(15, 19)))
    assert split.test.tolist() == list(range(19, 23))
    assert np.isnan(opened.dataset.targets["energy"][split.test]).all()


def test_a_contestant_never_sees_a_test_target(tmp_path: Path) -> None:
    opened = open_suite(TINY, written(tmp_path / "t.jsonl.gz"))
    split = opened.split(["energy"], 2, rule=SplitConfig(val=0.2))
    seen = opened.job_dataset(["energy"], split)
    assert np.isnan(seen.targets["energy"][split.test]).all()
    assert np.isfinite(seen.targets["energy"][np.concatenate([split.train, split.val])]).all()
    assert np.isfinite(opened.dataset.targets["energy"]).all()
    assert seen.units == {"energy": "eV"}


def test_a_suite_without_data_says_so() -> None:
    with pytest.raises(ConfigError, match="`--data` must name the file"):
        open_suite(SUITES["matbench-elastic"])
