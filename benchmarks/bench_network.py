"""Throughput of the networks on one core: training, and prediction from files.

    python benchmarks/bench_network.py train
    python benchmarks/bench_network.py compile
    python benchmarks/bench_network.py predict --chgnet-python ENV/bin/python
    python benchmarks/bench_network.py calculator

Processor seconds, the least of some repeats that take turns, so that other programs on the machine
count little. Each part replaces what it measured in the results.

``train`` lets every contestant step over the same crystals, features made beforehand: forward,
L1 loss, backward, clipping, optimizer and the running average of the weights, as in training.
The optimizer is the default one, but AdamW for "completenet_adamw" and for the published form.
"published" is PotNet on the published graph with the literal layers on ``[x_i | x_j | e]`` and
every repeated edge; "accelerated" is potnet's form of it, the same function to rounding, which is
checked here; "mended" is PotNet by its defaults, where equivalent atoms share a node as well.

``compile`` takes the same steps with ``torch.compile`` and without, and says how long it compiled.

``predict`` goes from files to numbers, reading and graphs included, imports and the loading of
weights not: CIF, one crystal in each file, and one extxyz file with all. CHGNet runs in an
environment of its own, made of ``rivals/chgnet-requirements.txt``.

``calculator`` asks ``potnet.Calculator`` for energy, forces and stress of rock salt with displaced
atoms, one call each, with its network in double and in single precision.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from ase import Atoms
from ase.build import bulk
from torch import Tensor, nn
from torch.nn import functional

import potnet
from potnet.benchmark.scoring import processor_name
from potnet.crystal import Crystal
from potnet.features import Batch, Pairs
from potnet.files import atomic_write
from potnet.models import registry
from potnet.models.potnet import CountedBatchNorm, Edges, PotNet, PotNetConv
from potnet.training.average import WeightAverage
from potnet.training.optimizer import Muon

HERE = Path(__file__).parent
TABLES = {
    "perovskites": "matbench_perovskites.jsonl.gz",
    "jarvis": "jarvis_dft3d_2021_oxides_nitrides.jsonl.gz",
}
BATCH_SIZES = (32, 64, 128)
MODEL = "mp-formation-energy"  # one network
MOST_ATOMS = 9  # so that the crystals of JARVIS have 5.4 atoms on average
N_PREDICTED = 512


def sample(table: Path, n: int, most_atoms: int | None = None) -> list[Crystal]:
    """Return ``n`` crystals of a table, drawn at random with a fixed seed."""
    with gzip.open(table, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    if most_atoms is not None:
        records = [record for record in records if len(record["species"]) <= most_atoms]
    chosen = random.Random(0).sample(records, n)
    return [Crystal.from_any(record).replace(info={}) for record in chosen]


# -------------------------------------------------------------------- the published form, literally


class LiteralBatchNorm(CountedBatchNorm):
    """Batch normalisation over rows that each stand for themselves."""

    def forward(self, input: Tensor, count: Tensor) -> Tensor:
        return nn.BatchNorm1d.forward(self, input)


class LiteralConv(PotNetConv):
    """Both networks on a row ``[x_i | x_j | e]`` for every edge."""

    def forward(self, x: Tensor, edges: Edges, n_atoms: Tensor) -> Tensor:
        rows = torch.cat([x[edges.i], x[edges.j], edges.features], dim=1)
        gate, value = rows, rows
        for layer in self.nonlinear_full:
            gate = layer(gate)
        for layer in self.nonlinear:
            value = layer(value)
        message = torch.sigmoid(self.bn_interaction(gate, edges.total)) * value
        total = message.new_zeros(x.shape).index_add(0, edges.i, message)
        return torch.relu(x + self.bn(total, n_atoms))


LITERAL = {CountedBatchNorm: LiteralBatchNorm, PotNetConv: LiteralConv}


def literal(network: PotNet) -> PotNet:
    """Turn the layers of ``network`` into their literal forms."""
    for module in network.modules():
        module.__class__ = LITERAL.get(type(module), type(module))
    return network


def with_repeated_edges(batch: Batch) -> Batch:
    """Return ``batch`` with a pair of multiplicity n written n times."""

    def repeated(pairs: Pairs) -> Pairs:
        times = pairs.values[:, -1].long()
        graph = torch.repeat_interleave(torch.arange(len(pairs.counts)), pairs.counts)
        values = pairs.values.repeat_interleave(times, dim=0)
        values[:, -1] = 1
        return Pairs(
            pairs.i.repeat_interleave(times),
            pairs.j.repeat_interleave(times),
            values,
            torch.bincount(graph.repeat_interleave(times), minlength=len(pairs.counts)),
        )

    return replace(batch, pairs={name: repeated(pairs) for name, pairs in batch.pairs.items()})


# ---------------------------------------------------------------------------------------- training


class Contestant:
    """A network, the features of the crystals, and the step that training takes."""

    def __init__(
        self, network: nn.Module, features: Batch, targets: Tensor, *, muon: bool = True
    ) -> None:
        self.network, self.features, self.targets = network.train(), features, targets
        self.parameters = list(network.parameters())
        self.optimizer = Muon(network, 1e-3, 1e-2, orthogonal=muon, fused=True)
        self.average = WeightAverage(network, 0.999)

    def seconds(self, batch_size: int, crystals: int | None = None) -> float:
        """Return the processor seconds of one pass over the crystals, or the first ``crystals``."""
        start = time.process_time()
        for rows in torch.arange(len(self.targets))[:crystals].split(batch_size):
            self.optimizer.zero_grad()
            output = self.network(self.features[rows])
            functional.l1_loss(output, self.targets[rows]).backward()
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.average.update()
        return time.process_time() - start


def contestants(crystals: list[Crystal]) -> dict[str, Contestant]:
    """Return our network, and the published one in both forms."""
    torch.manual_seed(0)
    ours = registry.build("completenet")
    accelerated = registry.build("potnet", {"features": {"published": True}})
    published = registry.build("potnet", {"features": {"published": True}})
    published.load_state_dict(accelerated.state_dict())
    published = literal(published)
    mended = registry.build("potnet")
    merged = accelerated.features(crystals)
    repeated = with_repeated_edges(merged)
    with torch.no_grad():
        few = torch.arange(8)
        expected, found = accelerated.train()(merged[few]), published.train()(repeated[few])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    targets = torch.randn(len(crystals), 1)
    complete = ours.features(crystals)
    return {
        "completenet": Contestant(ours, complete, targets),
        "completenet_adamw": Contestant(copy.deepcopy(ours), complete, targets, muon=False),
        "mended": Contestant(mended, mended.features(crystals), targets),
        "accelerated": Contestant(accelerated, merged, targets, muon=False),
        "published": Contestant(published, repeated, targets, muon=False),
    }


def fastest(
    rivals: dict[str, Contestant], batch_size: int, options: argparse.Namespace
) -> dict[str, float]:
    """Return crystals per second in the best pass of each; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(options.repeats):
        for name, contestant in rivals.items():
            if sum(times[name]) < options.seconds:
                times[name].append(contestant.seconds(batch_size))
    return {name: options.crystals / min(found) for name, found in times.items()}


def bench_train(options: argparse.Namespace) -> dict:
    found: dict = {}
    for name in options.tables:
        crystals = sample(options.data / TABLES[name], options.crystals)
        rivals = contestants(crystals)
        for contestant in rivals.values():
            contestant.seconds(8, 8)  # warms up
        rows = []
        for batch_size in options.batch_sizes:
            rates = fastest(rivals, batch_size, options)
            over = {f"over_{rival}": rates["completenet"] / rates[rival] for rival in rivals}
            del over["over_completenet"]
            rows.append({"batch_size": batch_size, "crystals_per_second": rates, **over})
            print(name, json.dumps(rows[-1]), flush=True)
        found[name] = {
            "crystals": len(crystals),
            "mean_atoms": sum(crystal.n_atoms for crystal in crystals) / len(crystals),
            "parameters": {
                rival: sum(p.numel() for p in contestant.parameters)
                for rival, contestant in rivals.items()
            },
            "rows": rows,
        }
    return found


def bench_compile(options: argparse.Namespace) -> dict:
    torch.compiler.config.force_disable_caches = True  # what was compiled before is compiled again
    found: dict = {}
    for table in options.tables:
        crystals = sample(options.data / TABLES[table], options.crystals)
        targets = torch.randn(len(crystals), 1)
        found[table] = {"crystals": len(crystals)}
        for name in ("completenet", "potnet"):
            torch.compiler.reset()
            torch.manual_seed(0)
            network = registry.build(name)
            features = network.features(crystals)
            eager = Contestant(copy.deepcopy(network), features, targets)
            compiled = Contestant(network, features, targets)
            eager.seconds(8, 8)
            # Number and sizes of crystals differ from batch to batch.
            compiled.network = torch.compile(network, dynamic=True)
            start = time.perf_counter()
            for batch_size in (8, *options.batch_sizes):
                compiled.seconds(batch_size, 2 * batch_size)  # some graphs only the second time
            row: dict = {"compile_s": time.perf_counter() - start, "rows": []}
            for batch_size in options.batch_sizes:
                rates = fastest({"eager": eager, "compiled": compiled}, batch_size, options)
                ratio = rates["compiled"] / rates["eager"]
                row["rows"].append({"batch_size": batch_size, **rates, "ratio": ratio})
            found[table][name] = row
            print(table, name, json.dumps(row), flush=True)
    return found


# -------------------------------------------------------------------------------------- prediction


def least_ms(work: Callable[[], int], repeats: int) -> float:
    """Return the least processor time of a call in ms for each crystal that it says it did."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        n = work()
        best = min(best, (time.process_time() - start) / n * 1e3)
    return best


def predict_here(order: dict, repeats: int = 3) -> dict:
    """Return ms per crystal from files to numbers, and of the parts of it."""
    model = potnet.load(MODEL)
    size, found = order["batch_size"], {}
    for name, source in order["sources"].items():

        def predict(source: str = source) -> int:
            rows = model.predict(potnet.scan(source), batch_size=size)
            return len(rows) // len(model.card.targets)

        found[name] = {
            "total_ms": least_ms(predict, repeats),
            "read_ms": least_ms(lambda source=source: len(potnet.read(source)), repeats),
        }
        crystals = potnet.read(source)
    groups = [crystals[k : k + size] for k in range(0, len(crystals), size)]
    batches = [model.features.once(group) for group in groups]
    count = len(crystals)
    found["features_ms"] = least_ms(
        lambda: count * bool([model.features.once(group) for group in groups]), repeats
    )
    found["network_ms"] = least_ms(
        lambda: count * bool([model.predict_values(batch) for batch in batches]), repeats
    )
    return found


def bench_calculator(options: argparse.Namespace) -> dict:
    rows, double = [], potnet.Calculator(MODEL)
    single = potnet.Calculator(double.model, precision="float32")
    for n in (1, 2, 3):
        atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(n)
        atoms.rattle(0.1, seed=1)
        row: dict = {"n_atoms": len(atoms)}
        for name, calculator in (("ms", double), ("ms_in_single_precision", single)):

            def forces(calculator: potnet.Calculator = calculator, atoms: Atoms = atoms) -> int:
                calculator.calculate(atoms, ["energy", "forces", "stress"])
                return 1

            forces()
            row[name] = least_ms(forces, 20 * options.repeats)
        apart = abs(single.results["forces"] - double.results["forces"]).max()
        rows.append({**row, "forces_apart": float(apart)})
        print(json.dumps(rows[-1]), flush=True)
    return {"model": MODEL, "rows": rows}


def least(rounds: list[dict]) -> dict:
    """Return the least of each number of several nested results."""
    first = rounds[0]
    if not isinstance(first, dict):
        return min(rounds)
    return {key: least([found[key] for found in rounds]) for key in first}


def bench_predict(options: argparse.Namespace) -> dict:
    crystals = sample(options.data / TABLES["jarvis"], N_PREDICTED, MOST_ATOMS)
    with tempfile.TemporaryDirectory() as scratch:
        folder, together = Path(scratch) / "cif", Path(scratch) / "all.extxyz"
        folder.mkdir()
        for crystal in crystals:
            potnet.write(crystal, folder / f"{crystal.id}.cif")
        potnet.write(crystals, together)
        order = {"sources": {"cif": str(folder), "extxyz": str(together)}, "batch_size": 32}
        path = Path(scratch) / "order.json"
        path.write_text(json.dumps(order), encoding="utf-8")
        commands = {"potnet": [sys.executable, __file__, "--inside"]}
        if options.chgnet_python:
            commands["chgnet"] = [options.chgnet_python, str(HERE / "rivals" / "chgnet_rival.py")]
        rounds: dict[str, list[dict]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, command in commands.items():
                rounds[name].append(run([*command, str(path)], own=name == "potnet"))
                print(name, json.dumps(rounds[name][-1]), flush=True)
    versions = {name: found[0].pop("version", "") for name, found in rounds.items()}
    found = {
        "model": MODEL,
        "crystals": len(crystals),
        "mean_atoms": sum(crystal.n_atoms for crystal in crystals) / len(crystals),
        "batch_size": order["batch_size"],
        **{name: least(results) for name, results in rounds.items()},
    }
    if "chgnet" in found:
        found["chgnet"]["version"] = versions["chgnet"]
        for name in order["sources"]:
            ratio = found["chgnet"][name]["total_ms"] / found["potnet"][name]["total_ms"]
            found["potnet"][name]["over_chgnet"] = ratio
    return found


def run(command: list[str], *, own: bool) -> dict:
    """Return what a program prints as JSON on its last line; it may use one thread."""
    threads = {k: "1" for k in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    environment = {k: v for k, v in os.environ.items() if own or k != "PYTHONPATH"} | threads
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{command}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


BENCHES = {
    "train": bench_train,
    "compile": bench_compile,
    "predict": bench_predict,
    "calculator": bench_calculator,
}


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--inside"]:
        print(json.dumps(predict_here(json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=sorted(BENCHES))
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "network.json")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=BATCH_SIZES)
    parser.add_argument("--crystals", type=int, default=128, help="that each pass trains on")
    parser.add_argument("--repeats", type=int, default=5, help="most passes of each contestant")
    parser.add_argument("--seconds", type=float, default=8, help="after which none begins")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each program in predict")
    parser.add_argument("--chgnet-python", default="")
    options = parser.parse_args()
    for part in options.parts:
        found = BENCHES[part](options)
        path = options.output
        results = json.loads(path.read_text("utf-8")) if path.exists() else {}
        results |= {"potnet": potnet.__version__, "torch": torch.__version__}
        # A part that is measured alone may be on another machine than those before it.
        results["cpu"] = results.get("cpu", {}) | {part: processor_name()}
        with atomic_write(path) as file:
            found = results.get(part, {}) | found
            file.write(json.dumps(results | {part: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
