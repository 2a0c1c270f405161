"""Two hundred clients for a minute: nothing is lost, memory is bounded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_serve.py"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_lost_under_two_hundred_clients(tmp_path) -> None:
    output = tmp_path / "load.json"
    asked = ["--clients", "8", "200", "--seconds", "60", "--output", str(output)]
    subprocess.run([sys.executable, str(BENCHMARK), *asked], check=True)
    few, many = json.loads(output.read_text())["rows"]
    assert few["lost"] == many["lost"] == 0
    assert many["answers"] >= 200, "every client got at least one answer"
    assert many["p99_s"] < 120, "nobody waits to the limit"
    assert many["memory_mb"] < few["memory_mb"] + 300
