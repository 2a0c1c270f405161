"""Datasets larger than memory: features computed while loading, steps taken in parts."""

import json

import numpy as np
import pytest
import torch
from tiny_network import TinyFeatures, made_up_folder, registered  # noqa: F401  (a fixture)

from potnet.crystal import Crystal
from potnet.errors import StructureError
from potnet.features.complete import CompleteFeatures
from potnet.parallel import all_memory
from potnet.training import TrainingConfig, prepared, train
from potnet.training.batches import HeldFeatures, StreamedFeatures, in_parts
from potnet.training.features import survey

CONFIG = {
    "network": "tiny",
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 1e-2,
    "checkpoint_seconds": 0,
    "device": "cpu",
    "threads": 1,
}
RESULTS = ("metrics.csv", "predictions.csv", "predictions-val.csv", "split.json", "metrics.json")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The made-up dataset in a store."""
    return made_up_folder(tmp_path_factory.mktemp("data") / "s")


def results(folder) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RESULTS}


def test_features_train_to_the_same_bits_wherever_they_are(stored, tmp_path):
    kept = {"feature_folder": tmp_path / "features"}
    settings = {
        "held": {},
        "streamed": {"feature_memory": 0, "workers": 2},
        "stored": {"feature_memory": 0, "workers": 2, **kept},
        "held again": kept,
    }
    for name, changes in settings.items():
        train(stored, TrainingConfig(**CONFIG | changes), tmp_path / name)
        run = json.loads((tmp_path / name / "run.json").read_text())
        assert run["features"] == name.partition(" ")[0]
        assert results(tmp_path / name) == results(tmp_path / "held")


def test_by_default_features_take_a_share_of_the_memory_that_there_is(
    stored, tmp_path, monkeypatch
):
    monkeypatch.setattr(prepared, "all_memory", lambda: 1000)
    train(stored, TrainingConfig(**CONFIG), tmp_path / "a")
    assert json.loads((tmp_path / "a" / "run.json").read_text())["features"] == "streamed"
    assert 2**28 < all_memory() < 2**46


class Stop(Exception):
    pass


def test_a_streamed_run_resumes_to_the_same_bits(stored, tmp_path):
    def stop(progress) -> None:
        if progress.stage == "training" and progress.done == 2:
            raise Stop

    config = TrainingConfig(**CONFIG, feature_memory=0)
    with pytest.raises(Stop):
        train(stored, config, tmp_path / "a", progress=stop)
    train(stored, config, tmp_path / "a", resume=True)
    train(stored, config, tmp_path / "b")
    assert results(tmp_path / "a") == results(tmp_path / "b")


def test_a_step_in_parts_is_the_same_step(stored, tmp_path):
    plain = CONFIG | {"network_settings": {"plain": True}}
    whole = train(stored, TrainingConfig(**plain), tmp_path / "whole")
    parts = train(stored, TrainingConfig(**plain, max_pairs=40), tmp_path / "parts")
    (name,) = whole.metrics["test"]
    assert parts.metrics["test"][name]["mae"] == pytest.approx(
        whole.metrics["test"][name]["mae"], rel=1e-4
    )


def test_parts_keep_the_order_and_the_limit():
    pairs = np.array([4, 9, 1, 100, 1, 1, 25])
    rows = np.array([6, 5, 3, 0, 1, 2, 4])
    parts = in_parts(rows, pairs, 26)
    assert np.concatenate(parts).tolist() == rows.tolist()
    assert [part.tolist() for part in parts] == [[6, 5], [3], [0, 1, 2, 4]]
    assert [part.tolist() for part in in_parts(rows, pairs, 10**9)] == [rows.tolist()]


def test_a_survey_keeps_sizes_when_features_are_too_large(stored):
    crystals = stored.crystals
    small = survey(TinyFeatures(), crystals)
    large = survey(TinyFeatures(), crystals, most_bytes=100)
    assert small.batch is not None
    assert large.batch is None
    assert large.kept.tolist() == list(range(len(crystals)))
    assert large.atom_counts.tolist() == small.atom_counts.tolist()
    assert large.pair_counts.tolist() == small.batch.pairs["all"].counts.tolist()


def test_real_sums_do_not_depend_on_what_they_are_computed_with(stored):
    features, crystals = CompleteFeatures(n_shells=4), stored.crystals[:12]
    found = survey(features, crystals)
    targets = np.zeros((12, 1))
    device = torch.device("cpu")
    held = HeldFeatures(found, targets, device, 200)

    def compute(rows):
        return features([crystals[k] for k in rows])

    streamed = StreamedFeatures(compute, found, targets, device, 200, workers=2)
    groups = [np.array([3, 1, 7, 8, 2, 0]), np.array([11, 4, 5])]
    ends = 0
    pairs = zip(held.minibatches(groups), streamed.minibatches(groups), strict=True)
    for one, other in pairs:
        tensors = other.batch.to_tensors()
        for key, tensor in one.batch.to_tensors().items():
            assert torch.equal(tensor, tensors[key]), key
        assert (one.n_labels, one.ends_step) == (other.n_labels, other.ends_step)
        ends += one.ends_step
    assert ends == 2


def test_a_crystal_that_cannot_be_summed_is_named(stored):
    tiny = Crystal([1], [[0, 0, 0]], 0.501 * np.eye(3), id="tiny cell")
    features = CompleteFeatures(n_shells=2, cutoff=50)
    with pytest.raises(StructureError, match="tiny cell: `cell` must need at most"):
        features([stored.crystals[0], tiny, stored.crystals[1]])
