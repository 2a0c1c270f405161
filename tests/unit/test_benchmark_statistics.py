"""Errors, intervals and paired tests on cases whose answer is known."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from potnet.benchmark import compare
from potnet.benchmark.predictions import PredictionTable, read_predictions
from potnet.benchmark.statistics import compare_areas, sign_flip_p, summarise
from potnet.errors import DataError
from potnet.training.metrics import roc_auc


def made(errors, *, folds=None, seeds=None, ids=None, targets=None) -> PredictionTable:
    n = len(errors)
    targets = np.arange(n, dtype=float) if targets is None else np.asarray(targets, float)
    return PredictionTable(
        np.array([f"c{k}" for k in range(n)] if ids is None else ids),
        np.zeros(n, int) if folds is None else np.asarray(folds),
        np.zeros(n, int) if seeds is None else np.asarray(seeds),
        targets,
        targets + np.asarray(errors, float),
    )


def test_the_sign_flip_test_counts_all_signs_of_a_few_pairs() -> None:
    # |+-1 +-2 +-3| >= 6 holds for two of the eight choices; >= 4 (1 - 2 - 3 and more) for four.
    assert sign_flip_p(np.array([1.0, 2, 3])) == 2 / 8
    assert sign_flip_p(np.array([-1.0, 2, 3])) == 4 / 8
    assert sign_flip_p(np.array([0.0, 0])) == 1


def test_the_sampled_sign_flip_test_agrees_with_the_normal_law() -> None:
    differences = np.random.default_rng(5).normal(0.1, 1, 400)
    z = differences.sum() / np.sqrt((differences**2).sum())
    from math import erfc

    assert sign_flip_p(differences) == pytest.approx(erfc(abs(z) / 2**0.5), rel=0.25, abs=2e-3)


def test_the_p_value_of_equal_contestants_is_uniform() -> None:
    rng = np.random.default_rng(0)
    values = [sign_flip_p(rng.normal(0, 1, 40), n_resamples=400, seed=k) for k in range(200)]
    assert 0.01 <= np.mean(np.array(values) <= 0.05) <= 0.10
    assert 0.4 <= np.mean(values) <= 0.6


def test_a_comparison_is_paired_by_id_and_says_which_is_better() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 5, 300)  # Large errors that both make: only pairing sees through them.
    good = made(shared)
    bad = made(shared + np.sign(shared) * 0.2)
    order = rng.permutation(300)
    found = compare(good, bad.select(order))
    assert found.difference == pytest.approx(-0.2)
    assert (found.low, found.high) == (pytest.approx(-0.2), pytest.approx(-0.2))
    assert found.p_value < 0.001
    assert found.wins == 1
    assert found.verdict == "the first is better"
    assert compare(bad, good).difference == pytest.approx(0.2)


def test_the_interval_of_a_comparison_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for k in range(150):
        first, second = rng.normal(0, 1, 80), rng.normal(0, 1.5, 80)
        truth = np.sqrt(2 / np.pi) * (1 - 1.5)
        found = compare(made(first), made(second), n_resamples=400, seed=k)
        hits += found.low <= truth <= found.high
    assert 0.88 <= hits / 150 <= 0.99


def test_equal_predictions_do_not_differ() -> None:
    found = compare(made([1, -2, 3]), made([1, -2, 3]))
    assert (found.difference, found.p_value, found.wins) == (0, 1, 0.5)
    assert found.verdict == "no significant difference"


def test_crystals_that_only_one_predicts_are_counted_and_left_out() -> None:
    first = made([1.0, 1, 1], ids=["a", "b", "c"], targets=[0, 0, 0])
    second = made([2.0, 2], ids=["b", "x"], targets=[0, 0])
    found = compare(first, second)
    assert (found.n, found.only_first, found.only_second) == (1, 2, 1)


def test_targets_may_be_in_one_table_only_but_not_contradict() -> None:
    blind = PredictionTable(*(c.copy() for c in vars(made([0.5, 0.5])).values()))
    blind.targets[:] = np.nan
    assert compare(made([1, 1]), blind).difference == pytest.approx(0.5)
    with pytest.raises(DataError, match="must share a crystal whose target"):
        compare(blind, blind)
    with pytest.raises(DataError, match="the same targets"):
        compare(made([1, 1]), made([1, 1], targets=[0, 7]))


def test_seeds_are_combined_by_their_mean_before_the_error() -> None:
    lines = made(
        [0.0, 3.0, -9.0, 1.0], ids=["a"] * 3 + ["b"], targets=[5, 5, 5, 1], seeds=[0, 1, 2, 0]
    )
    assert lines.combined().ids.tolist() == ["a", "b"]
    assert lines.combined().values.tolist() == [3.0, 2.0]
    assert lines.combined("median").values.tolist() == [5.0, 2.0]


def test_the_summary_has_folds_as_matbench_reports_them() -> None:
    found = summarise(made([1.0, -1, 3, -3, 3], folds=[0, 0, 1, 1, 1]))
    assert [fold["mae"] for fold in found["folds"]] == [1, 3]
    assert (found["fold_mae_mean"], found["fold_mae_std"]) == (2, 1)
    assert found["mae"] == pytest.approx(11 / 5)
    assert found["mae_low"] <= found["mae"] <= found["mae_high"]
    assert found["rmse"] == pytest.approx(np.sqrt(29 / 5))


def test_the_summary_has_single_seeds_beside_all_together() -> None:
    lines = made([1.0, 1, -1, -1], ids=["a", "b"] * 2, targets=[0, 1, 0, 1], seeds=[0, 0, 1, 1])
    found = summarise(lines)
    assert found["mae"] == 0
    assert (found["seed_mae_mean"], found["seed_mae_std"]) == (1, 0)


@pytest.mark.parametrize("name", ["p.csv", "p.csv.gz"])
def test_tables_survive_writing_and_reading(name: str, tmp_path: Path) -> None:
    lines = made([0.25, -1e-3, 7], folds=[0, 1, 1], seeds=[3, 3, 4])
    lines.targets[2] = np.nan
    lines.write(tmp_path / name)
    again = read_predictions(tmp_path / name)
    for column, values in vars(lines).items():
        np.testing.assert_array_equal(getattr(again, column), values)


def test_packed_tables_have_equal_bytes_and_the_text_of_others(tmp_path: Path) -> None:
    lines = made([0.25, -1e-3, 7])
    for name in ("a.csv.gz", "b.csv.gz", "c.csv"):
        lines.write(tmp_path / name)
    packed = (tmp_path / "a.csv.gz").read_bytes()
    assert packed == (tmp_path / "b.csv.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "c.csv").read_bytes()
    for damaged in (packed[:-20], b"id,prediction\n1,2\n"):
        (tmp_path / "a.csv.gz").write_bytes(damaged)
        with pytest.raises(DataError, match="columns id and prediction"):
            read_predictions(tmp_path / "a.csv.gz")


def test_foreign_tables_need_ids_and_predictions_alone(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("id, prediction\nJVASP-1, 0.5\n")
    assert read_predictions(path).values.tolist() == [0.5]
    path.write_text("id,value\nJVASP-1,0.5\n")
    with pytest.raises(DataError, match="columns id and prediction"):
        read_predictions(path)
    path.write_text("id,prediction\nJVASP-1,half\n")
    with pytest.raises(DataError, match="cells must be numbers"):
        read_predictions(path)


def chances(n, skill, seed=0) -> PredictionTable:
    """Return probabilities that tell 1 from 0 the better, the larger ``skill`` is."""
    rng = np.random.default_rng(seed)
    targets = (np.arange(n) % 3 == 0).astype(float)
    values = 1 / (1 + np.exp(-skill * (targets - 0.5) - rng.normal(0, 1, n)))
    return made(values - targets, targets=targets)


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    targets, values = np.array([0.0, 0, 1, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8, 0.2])
    assert roc_auc(targets, values)[0] == (0.5 + 1 + 1 + 1 + 1) / 6
    with pytest.raises(DataError, match="both must be there"):
        roc_auc(targets[2:], values[2:])


def test_the_interval_of_an_area_is_that_of_the_bootstrap() -> None:
    table = chances(600, 1.5)
    found = summarise(table, metric="roc_auc")
    rng, areas = np.random.default_rng(1), []
    for _ in range(400):
        rows = rng.integers(600, size=600)
        areas.append(roc_auc(table.targets[rows], table.values[rows])[0])
    half = (found["roc_auc_high"] - found["roc_auc_low"]) / 2
    assert half == pytest.approx(1.96 * np.std(areas), rel=0.1)
    rounded = made((table.values > 0.5) - table.targets, targets=table.targets)
    assert summarise(rounded, metric="roc_auc")["roc_auc"] == found["balanced_accuracy"]


def test_areas_are_compared_in_pairs() -> None:
    good = chances(600, 2.0)
    noise = np.random.default_rng(2).normal(0, 0.02, 600)
    near = made(good.values + noise - good.targets, targets=good.targets)
    alike, worse = compare_areas(good, near), compare_areas(good, chances(600, 1.0, seed=3))
    assert alike.low < 0.01
    assert alike.high - alike.low < 0.02 < worse.high - worse.low
    assert worse.low > 0
    assert worse.p_value < 1e-3
    assert compare_areas(good, good).p_value == 1
