"""Features on disk: computed once, for whoever needs them, and never trusted when damaged."""

import logging
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_network import (
    FORBIDDEN,
    TinyFeatures,
    made_up_dataset,
    registered,  # noqa: F401  (a fixture)
)

from potnet.crystal import Crystal
from potnet.errors import ConfigError, PotNetError, StructureError
from potnet.features.complete import CompleteFeatures
from potnet.features.contract import Features
from potnet.files import exclusive
from potnet.training import TrainingConfig, cross_validate, feature_folder, train
from potnet.training.feature_folder import FeatureFolder
from potnet.training.features import Survey, survey

FILL = Path(__file__).parents[1] / "reliability" / "fill_features.py"
TINY = TinyFeatures()
CONFIG = {"network": "tiny", "epochs": 1, "batch_size": 16, "device": "cpu", "threads": 1}


@pytest.fixture
def seen(monkeypatch) -> list[str]:
    """Ids of the crystals whose features are computed for a folder, as often as they are."""
    names: list[str] = []
    real = feature_folder.computed

    def noted(features, crystals, **told):
        names.extend(crystal.id for crystal in crystals)
        return real(features, crystals, **told)

    monkeypatch.setattr(feature_folder, "computed", noted)
    return names


def same(found: Survey, crystals, features: Features = TINY) -> bool:
    """Whether a survey has the features of crystals, to the last bit, in any order."""
    rows = np.random.default_rng(0).permutation(len(found.kept))
    expected = features([crystals[k] for k in found.kept[rows]]).to_tensors()
    assert found.read is not None
    tensors = found.read(rows).to_tensors()
    counts = survey(features, [crystals[k] for k in found.kept])
    assert found.atom_counts.tolist() == counts.atom_counts.tolist()
    assert found.pair_counts.tolist() == counts.pair_counts.tolist()
    return tensors.keys() == expected.keys() and all(
        torch.equal(tensors[key], expected[key]) for key in expected
    )


def test_nothing_is_computed_twice_for_folds_seeds_targets_and_a_dataset_that_grows(tmp_path, seen):
    small, large = made_up_dataset(40, n_targets=2), made_up_dataset(60, n_targets=2)
    config = dict(CONFIG, feature_folder=tmp_path / "features", feature_memory=0)
    train(small, TrainingConfig(**config, targets=("size",)), tmp_path / "a")
    assert sorted(seen) == sorted(small.ids)
    train(small, TrainingConfig(**config, targets=("half",), seed=1), tmp_path / "b")
    train(small, TrainingConfig(**config, split={"kind": "k-fold", "fold": 3}), tmp_path / "c")
    assert len(seen) == 40
    train(large, TrainingConfig(**config), tmp_path / "d")
    assert sorted(seen) == sorted(large.ids)


def test_folds_share_features_until_they_are_finished(tmp_path, seen):
    data = made_up_dataset(40)
    result = cross_validate(data, TrainingConfig(**CONFIG), tmp_path / "series", n_folds=2)
    assert sorted(seen) == sorted(data.ids)
    assert not (tmp_path / "series" / "features").exists()
    alone = TrainingConfig(**CONFIG, split={"kind": "k-fold", "n_folds": 2, "fold": 0})
    train(data, alone, tmp_path / "alone")
    shared = tmp_path / "series" / "fold0" / "predictions.csv"
    assert shared.read_bytes() == (tmp_path / "alone" / "predictions.csv").read_bytes()
    assert result.failures == ()


def test_features_of_other_settings_are_others(tmp_path):
    crystals = made_up_dataset(12).crystals
    plain, more = CompleteFeatures(n_shells=3), CompleteFeatures(n_shells=4)
    for features in (plain, more, CompleteFeatures(n_shells=3, long_range=())):
        found = FeatureFolder(tmp_path, features).survey(crystals)
        assert same(found, crystals, features)
    assert len(list(tmp_path.glob("CompleteFeatures-*/about.json"))) == 3


def test_equal_crystals_are_computed_once_and_fail_each(tmp_path, seen):
    crystals = list(made_up_dataset(5).crystals)
    crystals += [crystal.replace(id=f"{crystal.id} again") for crystal in crystals]
    bad = Crystal([FORBIDDEN], [[0, 0, 0]], 4 * np.eye(3), id="bad")
    crystals[3:3] = [bad, bad.replace(id="worse")]
    found = FeatureFolder(tmp_path, TinyFeatures()).survey(crystals, on_error="skip")
    assert found.kept.tolist() == [0, 1, 2, *range(5, 12)]
    assert [failure.id for failure in found.failures] == ["bad", "worse"]
    assert not [name for name in seen if name.endswith("again")]
    assert same(found, crystals)
    with pytest.raises(StructureError, match="worse: element must not be U"):
        FeatureFolder(tmp_path, TinyFeatures()).survey(crystals[4:])
    with pytest.raises(PotNetError, match="no crystal could be prepared"):
        FeatureFolder(tmp_path, TinyFeatures()).survey([bad], on_error="skip")


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied", "text"])
def test_a_damaged_file_is_said_and_computed_anew(tmp_path, seen, caplog, monkeypatch, damage):
    monkeypatch.setattr("potnet.training.features.CHUNK", 10)
    monkeypatch.setattr(feature_folder, "FILE_BYTES", 1000)
    crystals = made_up_dataset(50).crystals
    folder = FeatureFolder(tmp_path, TinyFeatures())
    folder.survey(crystals)
    files = sorted(folder.path.glob("*.safetensors"))
    assert len(files) == 5
    content = files[2].read_bytes()
    changed = content[:-9] + bytes([content[-9] ^ 4]) + content[-8:]
    parts = {"cut": content[:-40], "changed": changed, "emptied": b"", "text": b"my thesis" * 99}
    files[2].write_bytes(parts[damage])
    seen.clear()
    with caplog.at_level(logging.WARNING):
        found = folder.survey(crystals)
    assert f"{files[2]}: must be a whole file of features, got " in caplog.text
    assert sorted(seen) == sorted(crystal.id for crystal in crystals[20:30])
    assert same(found, crystals)


def test_damage_in_files_of_others_is_none_of_ours(tmp_path, caplog):
    crystals = made_up_dataset(20).crystals
    folder = FeatureFolder(tmp_path, TinyFeatures())
    folder.survey(crystals[:10])
    (file,) = folder.path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    folder.survey(crystals[10:])
    assert not caplog.records
    assert file.exists()


def test_features_that_are_computed_in_another_way_by_now_are_not_used(
    tmp_path, caplog, monkeypatch
):
    crystals = made_up_dataset(20).crystals
    folder = FeatureFolder(tmp_path, TINY)
    folder.survey(crystals)
    real = TinyFeatures.__call__

    def changed(self, crystals):
        batch = real(self, crystals)
        batch.pairs["all"].values.mul_(1 + 1e-6)
        return batch

    monkeypatch.setattr(TinyFeatures, "__call__", changed)
    found = folder.survey(crystals)
    assert "got features that are computed in another way" in caplog.text
    assert same(found, crystals)


def test_who_is_killed_while_writing_loses_one_file_at_most(tmp_path, seen):
    crystals, died = made_up_dataset(100).crystals, 0
    for call in (4, 9, 3, 8):
        command = [sys.executable, str(FILL), str(tmp_path), "--die-at", str(call)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        died += done.returncode == -signal.SIGKILL
    assert died >= 3
    folder = FeatureFolder(tmp_path, TinyFeatures())
    n_files = len(list(folder.path.glob("*.safetensors")))
    assert 2 <= n_files < 10
    found = folder.survey(crystals)
    assert len(seen) == 100 - 10 * n_files
    assert same(found, crystals)
    assert not list(folder.path.glob(".*.tmp"))


def test_a_second_process_waits_and_computes_nothing(tmp_path, seen, caplog):
    crystals = made_up_dataset(20).crystals
    folder, told = FeatureFolder(tmp_path, TinyFeatures()), []
    folder.survey(crystals)
    seen.clear()
    folder.survey(crystals, progress=lambda done, total: told.append((done, total)))
    assert told == [(20, 20)]
    with exclusive(folder.path / ".lock", ConfigError()), caplog.at_level(logging.INFO):
        waiting = threading.Thread(target=folder.survey, args=(crystals,))
        waiting.start()
        waiting.join(1.0)
        assert waiting.is_alive()
    waiting.join(20)
    assert not waiting.is_alive()
    assert caplog.text.count("waiting for another process") == 1
    assert seen == []


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "mine").write_text("thesis")
    config = TrainingConfig(**CONFIG, feature_folder=tmp_path / "mine")
    with pytest.raises(ConfigError, match="feature_folder"):
        train(made_up_dataset(), config, tmp_path / "run")
