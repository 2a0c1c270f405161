"""latticesums stands alone: it needs numpy, torch and numba, each when something asks for it."""

import subprocess
import sys

ALONE = '''
import importlib.metadata as metadata
import re
import sys


def needed(names):
    """Return what these distributions need, and what that needs."""
    found, waiting = set(), list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        found.add(name)
        try:
            wanted = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        waiting += [re.match(r"[\\w.-]+", x)[0] for x in wanted if "extra ==" not in x]
    return found


allowed = needed(["numpy", "torch", "numba"])
owners = metadata.packages_distributions()


class Blocked:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        names = {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(top, ())}
        if top == "potnet" or (names and not names & allowed and top != "latticesums"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)


sys.meta_path.insert(0, Blocked())
for name in ("potnet", "safetensors", "moyopy", "vesin", "scipy", "ase"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} is not blocked")

from types import SimpleNamespace

import numpy as np

import latticesums

salt = SimpleNamespace(
    positions=np.array([[0.0, 0, 0], [2, 2, 2]]),
    cell=np.array([[0.0, 2, 2], [2, 0, 2], [2, 2, 0]]),
    pbc=np.ones(3, dtype=bool),
)
sums = latticesums.lattice_sums(salt, ["coulomb", "yukawa:0.5"], tolerance=1e-10)
print(f"{2 * (sums.values[0, 1, 0] - sums.values[0, 0, 0]):.8f}")

import torch

x = torch.tensor(salt.positions, requires_grad=True)
cell = torch.tensor(salt.cell)
latticesums.pair_sums(x, cell, ["london"]).values.sum().backward()
latticesums.directed_sums(x, cell, ["coulomb", "shell:2,0.5,5"], degree=1)
latticesums.point_sums(salt, np.ones((1, 3)))
print(x.grad.abs().max() < 1e-6)
'''


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_it_sums_with_nothing_but_numpy_torch_and_numba():
    assert run(ALONE).split() == ["1.74756459", "tensor(True)"]


def test_importing_it_imports_nothing_heavy():
    code = "import sys, latticesums; print(*(m.split('.')[0] for m in sys.modules))"
    assert not set(run(code).split()) & {"numpy", "torch", "numba", "scipy"}


def test_a_reduced_cell_needs_numpy_alone():
    code = (
        "import sys, numpy, latticesums; latticesums.reduced(numpy.eye(3)); "
        "print(*(m.split('.')[0] for m in sys.modules))"
    )
    assert not set(run(code).split()) & {"torch", "numba", "scipy"}
