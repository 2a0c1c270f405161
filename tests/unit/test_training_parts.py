"""The parts of training: settings, minibatches, averages, metrics, features."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from tiny_network import FORBIDDEN, TinyFeatures, made_up_dataset
from torch import nn

from potnet.calibration import conformal_halfwidth
from potnet.crystal import Crystal
from potnet.crystal.compositions import Compositions
from potnet.errors import ConfigError, DataError, PotNetError, StructureError
from potnet.targets import fit_references, fit_scale
from potnet.training import TrainingConfig, batches, regression_metrics
from potnet.training.average import WeightAverage
from potnet.training.batches import (
    HeldFeatures,
    epoch_shares,
    stratified_batches,
    taken_in_epoch,
)
from potnet.training.export import _anchors
from potnet.training.features import Survey, compute_features
from potnet.training.metrics import bootstrap_interval
from potnet.training.trainer import _one_cycle

# ------------------------------------------------------------------------------------- settings


def test_an_unknown_setting_is_an_error():
    with pytest.raises(ConfigError, match=r"`epoch` is not a setting. Known ones: batch_size"):
        TrainingConfig(epoch=3)


def test_an_unknown_setting_of_the_split_is_an_error():
    with pytest.raises(ConfigError, match=r"`split\.folds` is not a setting"):
        TrainingConfig(split={"folds": 3})


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"epochs": 0}, "epochs"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"loss": "mae"}, "loss"),
        ({"warmup": 1.0}, "warmup"),
        ({"split": {"kind": "k-fold", "fold": 5}}, "fold"),
        ({"target": "a", "targets": ["b"]}, "not both"),
    ],
)
def test_settings_out_of_range_are_errors(settings, name):
    with pytest.raises(ConfigError, match=name):
        TrainingConfig(**settings)


def test_short_forms_of_targets_and_split():
    config = TrainingConfig(target="gap", split="published")
    assert config.targets == ("gap",)
    assert config.split.kind == "published"
    assert TrainingConfig(targets="gap").targets == ("gap",)


@pytest.mark.parametrize(
    "text", ["epochs: 7\nsplit: {kind: random, seed: 4}\n", '{"epochs": 7, "split": {"seed": 4}}']
)
def test_yaml_and_json_files_with_overrides(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    config = TrainingConfig.read(path, batch_size=5)
    assert (config.epochs, config.split.seed, config.batch_size) == (7, 4, 5)


@pytest.mark.parametrize(
    ("text", "message"), [("- a\n", "mapping of settings"), ("a: [", "must be YAML or JSON")]
)
def test_files_that_hold_no_settings_are_errors(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        TrainingConfig.read(path)


def test_a_missing_file_of_settings_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        TrainingConfig.read(tmp_path / "none.yaml")


def test_settings_survive_their_file(tmp_path):
    config = TrainingConfig(targets=("a", "b"), transform={"a": "log10"}, patience=3)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    assert TrainingConfig.read(tmp_path / "config.json") == config


def test_only_where_a_run_happens_may_change():
    config = TrainingConfig(epochs=5)
    assert config.differences(TrainingConfig(epochs=5, workers=4, threads=2)) == []
    assert config.differences(TrainingConfig(epochs=6)) == ["epochs: 5, 6"]


# ---------------------------------------------------------------------------------- minibatches


@pytest.mark.parametrize(("n", "n_batches"), [(100, 10), (103, 10), (7, 7), (5, 1)])
def test_every_crystal_is_dealt_once(n, n_batches):
    sizes = np.random.default_rng(0).integers(1, 50, n)
    groups = stratified_batches(sizes, n_batches, np.random.default_rng(1))
    assert len(groups) == n_batches
    assert sorted(np.concatenate(groups)) == list(range(n))
    lengths = [len(group) for group in groups]
    assert max(lengths) - min(lengths) <= 1


def test_batches_have_crystals_of_all_sizes():
    sizes = np.repeat([1, 10, 100], 20)
    for group in stratified_batches(sizes, 20, np.random.default_rng(0)):
        assert sorted(sizes[group]) == [1, 10, 100]


def test_atoms_are_spread_more_evenly_than_by_chance():
    rng = np.random.default_rng(0)
    sizes = rng.geometric(0.05, 960)
    dealt = [sizes[group].sum() for group in stratified_batches(sizes, 30, rng)]
    shuffled = sizes[rng.permutation(960)].reshape(30, 32).sum(1)
    assert np.std(dealt) < 0.35 * np.std(shuffled)


def test_epochs_are_shuffled_differently():
    sizes = np.arange(64)
    first, second = (stratified_batches(sizes, 8, np.random.default_rng(k)) for k in (1, 2))
    assert {tuple(sorted(g)) for g in first} != {tuple(sorted(g)) for g in second}


def taken(shares, epoch, at_least=0):
    return taken_in_epoch(shares, epoch, at_least, np.random.default_rng(0))


def test_without_a_limit_every_crystal_is_taken_in_every_epoch():
    shares = epoch_shares(np.array([1, 16, 40_000]), None)
    assert [list(taken(shares, epoch)) for epoch in range(3)] == [[0, 1, 2]] * 3


def test_many_pairs_are_taken_by_the_root_of_their_number():
    shares = epoch_shares(np.array([0, 9, 100, 400, 10_000]), 100)
    np.testing.assert_array_equal(shares, [1, 1, 1, 0.5, 0.1])


def test_thinned_crystals_are_spread_evenly_over_the_epochs():
    shares = np.random.default_rng(1).uniform(0.05, 1, 300)
    visits = np.zeros(300)
    for epoch in range(40):
        visits[taken(shares, epoch)] += 1
        assert (np.abs(visits - (epoch + 1) * shares) < 1).all()


def test_an_epoch_is_filled_up_with_those_whose_turn_is_next():
    shares = np.full(50, 0.1)
    for epoch in range(4):
        turns = [set(taken(shares, epoch + k)) for k in range(7)]
        more = set(taken(shares, epoch, 30))
        assert len(more) == 30
        for due, later in itertools.pairwise(turns):
            assert due <= more or later.isdisjoint(more)


@pytest.fixture(scope="module")
def store():
    dataset = made_up_dataset(30)
    targets = np.column_stack([dataset.targets["size"], np.arange(30.0)])
    targets[3] = np.nan
    return HeldFeatures(Survey.of(TinyFeatures()(dataset.crystals)), targets, torch.device("cpu"))


@pytest.mark.parametrize("chunk_bytes", [1, 2000, 2**29])
def test_minibatches_hold_what_indexing_gives(store, monkeypatch, chunk_bytes):
    monkeypatch.setattr(batches, "CHUNK_BYTES", chunk_bytes)
    groups = stratified_batches(store.atom_counts, 4, np.random.default_rng(0))
    found = list(store.minibatches(groups))
    assert len(found) == 4
    for minibatch, group in zip(found, groups, strict=True):
        expected = store.batch[group.tolist()].to_tensors()
        for key, tensor in minibatch.batch.to_tensors().items():
            assert torch.equal(tensor, expected[key]), key
        assert torch.equal(minibatch.targets, store.targets[torch.from_numpy(group)])
        assert minibatch.mask.sum() == minibatch.n_labels


def test_processes_share_a_batch_without_overlap(store):
    groups = [np.arange(10), np.arange(10, 21)]
    shares = [list(store.minibatches(groups, rank=rank, world_size=2)) for rank in range(2)]
    for k, group in enumerate(groups):
        parts = [share[k] for share in shares]
        assert sum(len(part.batch) for part in parts) == len(group)
        labels = torch.cat([part.targets[:, 1] for part in parts])
        assert sorted(labels.tolist()) == sorted(store.targets[group, 1].tolist())
        assert sum(part.mask.sum().item() for part in parts) == 2 * parts[0].n_labels


# ------------------------------------------------------------------------- averages, schedules


def test_the_average_follows_its_formula():
    network = nn.Linear(1, 1, bias=False)
    average = WeightAverage(network, decay=0.3)
    expected = network.weight.item()
    for step in range(8):
        with torch.no_grad():
            network.weight.fill_(step)
        average.update()
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        assert average.network.weight.item() == pytest.approx(expected, rel=1e-5)


def test_the_average_takes_over_buffers():
    network = nn.BatchNorm1d(2)
    average = WeightAverage(network, decay=0.9)
    network(torch.randn(50, 2) + 5)
    average.copy_buffers()
    assert torch.equal(average.network.running_mean, network.running_mean)
    assert average.network.num_batches_tracked == 1


@pytest.mark.parametrize("warmup", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("n_steps", [1, 2, 3, 5, 40])
def test_the_schedule_never_breaks_on_a_short_run(n_steps, warmup):
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = _one_cycle(optimizer, TrainingConfig(learning_rate=0.5, warmup=warmup), n_steps)
    rates = []
    for _ in range(n_steps):
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    assert all(0 < rate <= 0.5 + 1e-12 for rate in rates)
    if n_steps == 40:
        assert max(rates) > 0.49
        assert rates[-1] < 0.02


# ----------------------------------------------------------------------------------- references


def test_references_begin_only_where_the_composition_explains_the_target():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet([0.3] * 5, 300)
    energies = np.array([-3.0, 1.0, 0.5, -8.0, 2.0])
    total = shares @ energies
    total -= total.mean()
    references, left = fit_references(shares, total + 0.1 * rng.standard_normal(300))
    np.testing.assert_allclose(references - references[0], energies - energies[0], atol=0.1)
    assert left.std() == pytest.approx(0.1, rel=0.1)
    other = total + 2 * total.std() * rng.standard_normal(300)
    references, left = fit_references(shares, other)
    assert not references.any()
    np.testing.assert_array_equal(left, other)


def test_references_of_many_crystals_are_fitted_some_at_a_time(monkeypatch):
    dataset = made_up_dataset(60)
    values = dataset.targets["size"] - dataset.targets["size"].mean()
    shares = Compositions.of(dataset.crystals, 119)
    monkeypatch.setattr("potnet.targets.EXPLAINED", -np.inf)
    whole = fit_references(shares[:], values)
    monkeypatch.setattr("potnet.crystal.compositions.AT_ONCE", 7)
    for found, expected in zip(fit_references(shares, values), whole, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-10)


def test_compositions_are_those_of_the_crystals_that_are_asked_for():
    dataset = made_up_dataset(20)
    rows = np.array([7, 3, 3, 19])
    found = Compositions.of(dataset.crystals).subset(rows)[1:]
    for row, crystal in zip(found, [dataset.crystals[k] for k in (3, 3, 19)], strict=True):
        shares = np.bincount(crystal.numbers, minlength=119) / crystal.n_atoms
        formula = crystal.n_atoms / np.gcd.reduce(np.bincount(crystal.numbers))
        np.testing.assert_allclose(row, np.concatenate([shares, shares / formula]), rtol=1e-15)


def test_a_missing_value_changes_neither_scale_nor_references():
    dataset = made_up_dataset(60)
    values, rows = dataset.targets["size"].copy(), np.arange(60)
    values[7] = np.nan
    shares = Compositions.of(dataset.crystals)
    missing = dataclasses.replace(dataset, targets={"size": values})
    found = fit_scale(missing, "size", "none", rows, shares)
    expected = fit_scale(dataset, "size", "none", np.delete(rows, 7), shares)
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])


# -------------------------------------------------------------------------------------- metrics


def test_metrics_of_four_numbers_by_hand():
    found = regression_metrics([1.0, 2.0, 3.0, np.nan], [1.0, 3.0, 5.0, 9.0], baseline=2.0)
    assert found["n"] == 3
    assert found["mae"] == pytest.approx(1.0)
    assert found["rmse"] == pytest.approx((5 / 3) ** 0.5)
    assert found["r2"] == pytest.approx(1 - 5 / 2)
    assert found["baseline_mae"] == pytest.approx(2 / 3)
    assert 0 <= found["mae_low"] <= 1 <= found["mae_high"] <= 2


def test_constant_targets_have_no_r2():
    assert regression_metrics([1.0, 1.0], [1.0, 2.0])["r2"] is None


@pytest.mark.parametrize(("target", "prediction"), [([1.0], [1.0, 2.0]), ([np.nan], [1.0])])
def test_metrics_need_pairs_of_numbers(target, prediction):
    with pytest.raises(DataError, match="metrics: `target`"):
        regression_metrics(target, prediction)


def test_the_bootstrap_interval_has_the_width_of_the_standard_error():
    values = np.random.default_rng(0).normal(size=2000)
    low, high = bootstrap_interval(values, n_resamples=2000)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 2000**0.5, rel=0.08)
    assert (low, high) == bootstrap_interval(values, n_resamples=2000)


def test_conformal_intervals_cover_what_they_promise():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(300):
        halfwidth = conformal_halfwidth(rng.standard_t(3, 50), 0.9)
        assert halfwidth is not None
        inside.append(np.mean(np.abs(rng.standard_t(3, 200)) <= halfwidth))
    assert 0.9 <= np.mean(inside) < 0.93


def test_too_few_residuals_give_no_interval():
    assert conformal_halfwidth(np.ones(8), 0.9) is None
    assert conformal_halfwidth(np.arange(9.0), 0.9) == 8.0


# ------------------------------------------------------------------------------------- features


def test_features_do_not_depend_on_chunks_or_processes(monkeypatch):
    crystals = made_up_dataset(20).crystals
    whole = TinyFeatures()(crystals).to_tensors()
    monkeypatch.setattr("potnet.training.features.CHUNK", 7)
    seen = []
    for workers in (1, 2):
        batch, kept, failures = compute_features(
            TinyFeatures(), crystals, workers=workers, progress=lambda *done: seen.append(done)
        )
        assert kept.tolist() == list(range(20))
        assert failures == []
        assert all(torch.equal(t, whole[key]) for key, t in batch.to_tensors().items())
    assert seen == [(7, 20), (14, 20), (20, 20)] * 2


def test_one_bad_crystal_is_skipped_by_name_or_stops_the_run(monkeypatch):
    monkeypatch.setattr("potnet.training.features.CHUNK", 4)
    crystals = list(made_up_dataset(10).crystals)
    crystals[5] = Crystal([FORBIDDEN], [[0, 0, 0]], np.eye(3) * 4, id="bad")
    with pytest.raises(StructureError, match="bad: element"):
        compute_features(TinyFeatures(), crystals)
    batch, kept, failures = compute_features(TinyFeatures(), crystals, on_error="skip")
    assert kept.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert len(batch) == 9
    assert [(f.id, f.stage) for f in failures] == [("bad", "features")]
    with pytest.raises(PotNetError, match="no crystal could be prepared"):
        compute_features(TinyFeatures(), crystals[5:6], on_error="skip")


@pytest.mark.parametrize(
    ("compositions", "anchors"),
    [
        ([{"Mg", "O"}, {"Al", "N"}, {"Ca", "O"}, {"Ga", "N"}], ("O", "N")),
        ([{"Mg", "O"}, {"Al", "O"}], ("O",)),
        ([{"Cu"}, {"Si"}, {"Na", "Cl"}], ()),
        ([{"Mg", "O"}, {"Ca", "O"}] * 99 + [{"Cu"}] * 2, ("O",)),
    ],
)
def test_anchors_are_elements_that_nearly_every_crystal_has(compositions, anchors):
    assert _anchors(compositions) == anchors
