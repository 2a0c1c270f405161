"""The package keeps its shape: one-way imports, a quick start, nothing forbidden."""

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import potnet

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src"

# Each part and the parts that it may import. Nothing may import what stands after it.
ALLOWED: dict[str, set[str]] = {"text": set()}
ALLOWED["errors"] = {"text"}
ALLOWED["parallel"] = {"errors", "text"}
ALLOWED["files"] = {"errors", "text"}
ALLOWED["crystal"] = {"errors", "text"}
ALLOWED["stability"] = {"crystal", *ALLOWED["crystal"]}
ALLOWED["io"] = {"crystal", "files", *ALLOWED["crystal"]}
ALLOWED["sums"] = {"errors", "text"}
ALLOWED["data"] = {"io", "parallel", *ALLOWED["io"]}
ALLOWED["checks"] = {"data", "sums", "parallel", "io", *ALLOWED["data"]}
ALLOWED["features"] = {"sums", "io", *ALLOWED["io"]}
ALLOWED["targets"] = {"data", *ALLOWED["data"]}
ALLOWED["devices"] = {"errors", "text"}
ALLOWED["calibration"] = {"crystal", *ALLOWED["crystal"]}
ALLOWED["models"] = {"calibration", "features", "targets"}
ALLOWED["models"] |= ALLOWED["features"] | ALLOWED["targets"]
ALLOWED["prediction"] = {"devices", "models", *ALLOWED["models"]}
ALLOWED["training"] = {"prediction", "data", *ALLOWED["prediction"]}
ALLOWED["known"] = {"crystal", "errors"}
ALLOWED["sheet"] = {"known", "parallel", "stability", "prediction", *ALLOWED["prediction"]}
ALLOWED["cluster"] = {"sheet", *ALLOWED["sheet"]}
ALLOWED["explanation"] = {"sheet", *ALLOWED["sheet"]}
ALLOWED["report"] = {"sheet", *ALLOWED["sheet"], "checks", "training", "data", *ALLOWED["training"]}
ALLOWED["report"] |= {"explanation", *ALLOWED["explanation"]}
ALLOWED["testing"] = {"models", *ALLOWED["models"]}
ALLOWED["estimators"] = {"training", "data", *ALLOWED["training"]}
ALLOWED["demo"] = {"report", *ALLOWED["report"]}
ALLOWED["benchmark"] = {"training", "data", *ALLOWED["training"]}
ALLOWED["serve"] = {"demo", "sheet", "explanation", *ALLOWED["demo"], *ALLOWED["sheet"]}
ALLOWED["cli"] = {
    "cluster",
    "demo",
    "benchmark",
    "serve",
    "sheet",
    *ALLOWED["demo"],
    *ALLOWED["benchmark"],
}

# The order inside a room: what stands on one line is imported by later lines alone. A name is a
# module or a folder of the room; every one of them has its place.
INSIDE: dict[str, list[str]] = {
    "potnet.data": [
        "units",
        "record",
        "dataset",
        "splits ids shard",
        "shard_file manifest",
        "parquet_folder",
        "readers",
        "public",
        "origins",
        "opening",
        "building",
    ],
    "potnet.models": [
        "card catalogue contract descriptors message_kernels",
        "messages",
        "at_images",
        "completenet potnet registry evidence",
        "unset",
        "selection",
        "archive",
    ],
    "potnet.training": [
        "config metrics average checkpoint optimizer features",
        "callbacks correction extrapolate packed",
        "feature_folder",
        "sameness",
        "batches finetune",
        "cuda_graph",
        "prepared",
        "trainer run_folder evaluate",
        "calibrate",
        "export",
        "loop",
        "series",
    ],
    "latticesums": [
        "errors bounds",
        "lattice potentials",
        "inputs radii relative",
        "slabs_and_wires",
        "plan",
        "rounding compiled",
        "neighbours terms",
        "derivatives differentiable fixed",
        "formulas",
        "pairs shells",
        "directed energies orbits partial points testing",
        "for_jax",
    ],
    "latticesums.compiled": [
        "seals",
        "cache calls kernels support",
        "jit",
        "machine_code",
        "memory simd",
        "lattice layers",
        "plan",
        "images",
        "waves",
        "workspace",
        "directed evaluate image_shells neighbours terms",
        "phases",
        "charge_sums pair_slopes pair_values shell_slopes",
        "image_slopes",
        "sums",
    ],
    "latticesums.potentials": [
        "base",
        "exponentials gaussians powers",
        "combinations",
        "names",
    ],
    "potnet.calibration": ["evidence conformal difficulty", "familiarity width", "calibration"],
    "potnet.cluster": ["addresses", "shard", "crew", "predict dataset"],
    "potnet.prediction": ["flags rows structures", "predictor", "calculator"],
}

# Arrows that still run up, `importer -> imported`: cut one, and strike it off.
KNOWN: set[str] = set()

# Where every exception is caught, with the reason beside it: the wall around what is foreign.
WALLS = {
    "potnet.io.found",
    "potnet.io.ase_child",
    "potnet.prediction.predictor",
    "potnet.training.features",
    "potnet.data.readers.rows",
    "potnet.sheet.stream",
    "potnet.checks.checks",
    "potnet.serve.batching",
    "potnet.parallel",
}

HEAVY = (
    "torch",
    "ase",
    "matplotlib",
    "numba",
    "rich",
    "gemmi",
    "pydantic",
    "scipy",
    "moyopy",
    "pyarrow",
    "ray",
    "fsspec",
)


def name_of(path: Path) -> str:
    """Return the module of a file: ``src/potnet/data/__init__.py`` is ``potnet.data``."""
    return ".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__")


@cache
def files() -> dict[str, Path]:
    """Return the file of each module of both packages."""
    return {name_of(path): path for path in sorted(SOURCES.rglob("*.py"))}


@cache
def imports_of(module: str) -> frozenset[str]:
    """Return the modules of both packages that ``module`` imports.

    Wherever the import stands: at the top, inside a function, or for the type checker alone. The
    packages above an imported module count only if they are named.
    """
    path, found = files()[module], set()
    above = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = above[: len(above) + 1 - node.level] if node.level else []
            base = ".".join([*start, *filter(None, [node.module])])
            inside = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name if name in files() else base for name in inside}
    return frozenset(found & files().keys()) - {module}


def arrows() -> dict[str, set[str]]:
    """Return the imports of each module, less those in ``KNOWN``."""
    return {
        module: {name for name in imports_of(module) if f"{module} -> {name}" not in KNOWN}
        for module in files()
    }


def part_of(module: str) -> str:
    """Return the part that a module of potnet belongs to: ``potnet.models.potnet`` to models."""
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", [name for name in files() if name.startswith("potnet.")])
def test_imports_point_one_way(module: str) -> None:
    part = part_of(module)
    assert part in ALLOWED, f"the new part {part!r} needs its place in ALLOWED"
    parts = {part_of(name) for name in arrows()[module] if name.split(".")[0] == "potnet"}
    assert "" not in parts, "`import potnet` runs up: the package imports its modules by name"
    assert parts - {part} <= ALLOWED[part]


def test_the_order_of_imports_has_no_circle() -> None:
    for part, below in ALLOWED.items():
        assert all(part not in ALLOWED[name] for name in below)


def test_no_circle_of_modules_exists() -> None:
    try:
        TopologicalSorter(arrows()).prepare()
    except CycleError as error:
        pytest.fail("imports run in a circle: " + " <- ".join(error.args[1]))


def test_every_known_arrow_still_exists() -> None:
    there = {f"{module} -> {name}" for module in files() for name in imports_of(module)}
    assert there >= KNOWN, "strike these off KNOWN"


@pytest.mark.parametrize("room", INSIDE)
def test_imports_inside_a_room_point_one_way(room: str) -> None:
    level = {name: k for k, line in enumerate(INSIDE[room]) for name in line.split()}
    depth = room.count(".") + 1
    members = [name for name in files() if name.startswith(room + ".")]
    assert {name.split(".")[depth] for name in members} == level.keys(), "each has its place"
    for module in members:
        here = module.split(".")[depth]
        for name in arrows()[module] & set(members):
            there = name.split(".")[depth]
            assert there == here or level[there] < level[here], f"{module} -> {name} runs up"
        assert room not in arrows()[module], f"{module} -> {room} runs up"


@pytest.mark.parametrize("module", [name for name in files() if name.startswith("latticesums")])
def test_the_sums_know_nothing_of_potnet(module: str) -> None:
    assert "potnet" not in files()[module].read_text("utf-8")


@pytest.mark.parametrize("module", files(), ids=str)
def test_sources_never_pickle_print_or_swallow_errors(module: str) -> None:
    text = files()[module].read_text("utf-8")
    patterns = [r"\bpickle\b", r"torch\.(load|save)\(", r"^\s*print\("]
    patterns += [] if module in WALLS else [r"except Exception"]
    for pattern in patterns:
        assert not re.search(pattern, text, re.MULTILINE), pattern


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def fastest(command: list[str], repeats: int = 5) -> float:
    """Return the least processor time of a command in seconds: other programs do not count."""
    resource = pytest.importorskip("resource", reason="this system does not count it")
    times = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(times)


def test_importing_potnet_imports_nothing_heavy() -> None:
    code = "import sys, potnet; print(*sorted(m.split('.')[0] for m in sys.modules))"
    assert not set(run_python(code).split()) & {*HEAVY, "numpy"}


def test_the_command_line_starts_without_torch() -> None:
    code = "import sys, potnet.cli; print(*sorted(m.split('.')[0] for m in sys.modules))"
    assert not set(run_python(code).split()) & {"torch", "ase", "matplotlib", "numba", "numpy"}


def test_potnet_imports_within_300_milliseconds() -> None:
    start = fastest([sys.executable, "-c", "pass"])
    assert fastest([sys.executable, "-c", "import potnet"]) - start <= 0.3


def test_help_appears_within_half_a_second() -> None:
    command = Path(sys.executable).with_name("potnet")
    assert fastest([str(command), "--help"]) <= 0.5


@pytest.mark.parametrize("name", potnet.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(potnet, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        potnet.nonsense  # noqa: B018
