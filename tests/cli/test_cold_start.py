"""A first prediction imports nothing that no prediction needs."""

import os
import subprocess
import sys
from pathlib import Path

SALT = Path(__file__).parents[2] / "examples" / "crystals" / "NaCl.cif"
CODE = """
import sys
from potnet.cli import app
try:
    app(["predict", sys.argv[1], "--workers", "1"])
except SystemExit as end:
    assert not end.code
print(*sorted(sys.modules))
import torch
import torch._meta_registrations as deferred
print(hasattr(deferred, "meta_index_Tensor"), hasattr(torch, "_meta_registrations"))
"""
NOT_NEEDED = {
    "numba", "scipy", "pandas", "pyarrow", "matplotlib", "spglib", "lightning_fabric",
    "torch._dynamo", "torch._decomp", "torch._meta_registrations", "potnet.training",
    "potnet.data.readers", "rich.progress", "sympy",
}  # fmt: skip


def test_a_prediction_imports_nothing_that_it_does_not_need() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(SALT)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "error"},
    )
    assert done.returncode == 0, done.stderr
    *table, modules, deferred = done.stdout.splitlines()
    assert any(",band_gap," in line for line in table)
    assert not NOT_NEEDED & set(modules.split())
    assert deferred == "True True", "what was left out is there for whoever imports it"
