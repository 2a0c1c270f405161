"""Install the wheel in an empty environment and use it, far from the sources.

    python scripts/check_package.py dist

The environment gets the torch of this one (so that it is a build for the CPU where this one is)
and whatever else pip finds for the wheel's own requirements.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
USE = """
import latticesums, potnet
from potnet.demo import examples
crystals = potnet.read(examples())
assert len(crystals) == 12, len(crystals)
madelung = potnet.lattice_sums(crystals[0], ("coulomb",)).values
rows = potnet.load("bulk-modulus").predict(crystals)
assert len(rows) == 12 and all(row.lower < row.prediction < row.upper for row in rows)
print(potnet.__file__, latticesums.__file__, potnet.__version__, sep="\\n")
"""


def main() -> None:
    """Check what the archives hold, install the wheel, predict, and say where it ran."""
    (wheel,) = Path(sys.argv[1]).glob("*.whl")
    (source,) = Path(sys.argv[1]).glob("*.tar.gz")
    check_contents(wheel, source)
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty"
        empty.mkdir()
        python = environment(Path(folder) / "venv", wheel)
        clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        said = run([python, "-c", USE], empty, clean).split()
        assert all(folder in str(Path(path)) for path in said[:2]), said
        potnet = python.with_name("potnet")
        assert said[2] in run([potnet, "--version"], empty, clean)
        example = Path(said[0]).parent / "examples" / "NaCl.cif"
        table = run([potnet, "predict", example, "--model", "bulk-modulus"], empty, clean)
        assert "bulk_modulus" in table, table
        assert not list(empty.iterdir()), "nothing is written that was not asked for"
    print(f"{wheel.name}: installed in an empty environment, predicted 12 example crystals")


def check_contents(wheel: Path, source: Path) -> None:
    """Both archives hold types, weights and licences; the wheel nothing but the two packages."""
    names = zipfile.ZipFile(wheel).namelist()
    outside = {n for n in names if not n.startswith(("potnet/", "latticesums/", "potnet-"))}
    assert not outside, outside
    assert {"potnet/py.typed", "latticesums/py.typed"} <= set(names)
    assert any(name.endswith("licenses/NOTICE") for name in names)
    assert any(name.startswith("potnet/examples/") for name in names)
    with tarfile.open(source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "NOTICE", "tests/conftest.py", "src/potnet/py.typed"} <= inside


def environment(folder: Path, wheel: Path) -> Path:
    """Make an environment with the wheel in it; return its Python."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [python, "-m", "pip", "install", "--quiet"]
    torch = f"torch=={version('torch')}"
    known = subprocess.run([*pip, torch], capture_output=True, check=False)
    if known.returncode:
        run([*pip, torch, "--index-url", CPU_INDEX], folder)
    run([*pip, wheel.resolve()], folder)
    return python


def run(command: list[object], folder: Path, environment: dict[str, str] | None = None) -> str:
    """Run a command in ``folder``; return what it prints, end the script if it fails."""
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
