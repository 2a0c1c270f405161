"""What waits for a GPU is one script, which runs on a CPU too."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from potnet.devices import device
from potnet.errors import ConfigError

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_all_figures_come_out_of_a_try_on_a_cpu(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    gpu = importlib.import_module("gpu")
    output = tmp_path / "gpu.json"
    names = ["training", "prediction", "sums"]
    words = ["--device", "cpu", "--quick", "--output", str(output), "--only", *names]
    found = gpu.main(words)
    assert json.loads(output.read_text()) == found
    assert not [name for name in names if "error" in found[name]], found
    assert found["sums"]["largest difference at 1e-06"] == 0
    assert found["prediction"]["largest difference"] == 0
    assert found["training"]["batch 4"]["epoch_s"] > 0
    late = gpu.main([*words, "--seconds", "0"])
    assert all(late[name] == {"left out": "the time was over"} for name in names)
    for name in ("gpu", "step_operators"):
        sys.modules.pop(name)


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_one_sentence(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=rf"have \(cpu\), got '{name}'\. Choose one of these\."):
        device(name)
