"""The suites by name, and opening one: exactly its crystals, its targets and its folds."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from potnet.benchmark.folds import matbench_place, outer_and_inner
from potnet.data import Dataset, Split, SplitConfig, make_split
from potnet.data import open as open_dataset
from potnet.data.public.official import MATBENCH_SEED
from potnet.data.questions import with_questions
from potnet.data.splits.rules import shuffled_folds
from potnet.errors import ConfigError, DataError


@dataclass(frozen=True)
class Task:
    """One quantity to predict.

    Attributes:
        target: Its column.
        unit: Its unit.
        aliases: Names of the column in other copies of the data.
    """

    target: str
    unit: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suite:
    """What is benchmarked.

    Attributes:
        name: How it is called on the command line; names the results.
        what: One line about it.
        tasks: Each is learned by itself unless the settings join them; empty takes all targets of
            the data.
        rule: Where the folds come from: "matbench" is five folds by MatBench's rule, checked
            against the labels of the data; "labels" the official split that the data carry;
            "config" the training settings.
        n_entries: Entries of the complete data; MatBench's rule depends on it.
        left_out: Entries whose ``match`` begins with one of these have doubtful targets.
        download: Name of the data for :func:`potnet.data.open`, where there is a network.
    """

    name: str
    what: str
    tasks: tuple[Task, ...]
    rule: Literal["matbench", "labels", "config"]
    n_entries: int = 0
    left_out: tuple[str, ...] = ()
    download: str = ""

    @property
    def n_folds(self) -> int:
        """Folds of each task."""
        return 5 if self.rule == "matbench" else 1


_JARVIS = (
    Task("formation_energy_peratom", "eV/atom"),
    Task("optb88vdw_total_energy", "eV/atom"),
    Task("optb88vdw_bandgap", "eV"),
    Task("mbj_bandgap", "eV"),
    Task("ehull", "eV/atom"),
)
_MP2018 = (
    Task("e_form", "eV/atom", ("formation_energy_per_atom",)),
    Task("gap_pbe", "eV", ("gap pbe", "band_gap")),
)
_ELASTIC = (Task("log10_K_VRH", "log10(GPa)"), Task("log10_G_VRH", "log10(GPa)"))


def _matbench(
    task: str, what: str, n_entries: int, target: Task, left_out: tuple[str, ...] = ()
) -> Suite:
    """Return the suite of a whole MatBench task, or of what is certain of it."""
    name = f"matbench-{task.replace('_', '-')}"
    return Suite(
        name, what, (target,), "matbench", n_entries, left_out, download=f"matbench:{task}"
    )


_SUITES = (
    _matbench(
        "phonons",
        "last peak of the phonon density of states",
        1265,
        Task("last_phdos_peak", "1/cm", ("last phdos peak",)),
    ),
    _matbench("jdft2d", "exfoliation energy of layers", 636, Task("exfoliation_en", "meV/atom")),
    _matbench(
        "perovskites",
        "formation energy of perovskites, the entries whose target is certain",
        18928,
        Task("e_form", "eV/cell"),
        ("ambiguous",),
    ),
    Suite(
        "elastic",
        "bulk and shear modulus, the entries of MatBench's two tasks that have one structure",
        _ELASTIC,
        "matbench",
        10987,
        ("multi",),
    ),
    Suite(
        "jarvis-oxides-nitrides",
        "five tasks on the oxides and nitrides of JARVIS-DFT 2021",
        _JARVIS,
        "labels",
        17314,
    ),
    Suite(
        "mp2018",
        "formation energy and gap, what is known of the structures of MP 2018.6.1",
        _MP2018,
        "labels",
        51989,
    ),
    Suite(
        "qmof",
        "gap of metal-organic frameworks",
        (Task("bandgap", "eV"),),
        "labels",
        20425,
        download="qmof",
    ),
    Suite(
        "jarvis",
        "the published five tasks on all of JARVIS-DFT 2021",
        _JARVIS,
        "labels",
        55723,
        download="jarvis:dft_3d_2021",
    ),
    Suite(
        "mp",
        "formation energy and gap on all of MP 2018.6.1",
        _MP2018,
        "labels",
        69239,
        download="mp:2018.6.1",
    ),
    *(
        Suite(
            f"mp-{kind}",
            f"{kind} modulus of MP 2018.6.1",
            (Task(f"{kind} modulus", "log10(GPa)"),),
            "labels",
            5450,
            download=f"mp:2018.6.1-{kind}",
        )
        for kind in ("bulk", "shear")
    ),
    _matbench("dielectric", "refractive index", 4764, Task("n", "1")),
    _matbench("log_kvrh", "bulk modulus", 10987, Task("log10(K_VRH)", "log10(GPa)")),
    _matbench("log_gvrh", "shear modulus", 10987, Task("log10(G_VRH)", "log10(GPa)")),
    _matbench("mp_e_form", "formation energy", 132752, Task("e_form", "eV/atom")),
    _matbench("mp_gap", "band gap", 106113, Task("gap pbe", "eV")),
    Suite("own", "your own data: their split, or the one that the settings say", (), "config"),
)

SUITES: Mapping[str, Suite] = {suite.name: suite for suite in _SUITES}


@dataclass(frozen=True, eq=False)
class OpenSuite:
    """A suite with its data.

    Attributes:
        suite: The suite.
        dataset: Its crystals and targets.
        folds: Fold of each crystal by MatBench's rule, shape (n,); None for one official split.
        notes: What was left out and what differs from the complete data, in words.
    """

    suite: Suite
    dataset: Dataset
    folds: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """The tasks by target."""
        return {task.target: task for task in self.suite.tasks}

    def asking(self, targets: Sequence[str]) -> OpenSuite:
        """Return the suite with a task for each question in ``targets`` about one of its tasks."""
        dataset = with_questions(self.dataset, targets)
        if dataset is self.dataset:
            return self
        questions = tuple(Task(name, "") for name in dataset.targets if name not in self.tasks)
        suite = replace(self.suite, tasks=(*self.suite.tasks, *questions))
        return replace(self, suite=suite, dataset=dataset)

    def split(
        self, targets: Sequence[str], fold: int, *, turn: int = 0, rule: SplitConfig | None = None
    ) -> Split:
        """Return training, validation and test crystals of a fold.

        Args:
            targets: What is learned together. Where the targets have splits of their own, the
                test crystals of any of them are test crystals, and validation crystals likewise.
            fold: Which fold, from 0.
            turn: Which inner part of a fold validates (:func:`outer_and_inner`).
            rule: Share and seed of the inner parts; the whole split where the suite has none.

        Raises:
            DataError: If a part would be empty.
        """
        rule = rule or SplitConfig()
        if self.folds is not None:
            return outer_and_inner(self.folds, fold, turn=turn, val_share=rule.val, seed=rule.seed)
        if self.suite.rule == "labels":
            rule = rule.model_copy(update={"kind": "given"})
        split, _ = make_split(self.dataset, rule, targets)
        return split

    def job_dataset(self, targets: Sequence[str], split: Split) -> Dataset:
        """Return the data as a contestant sees them: the test targets are nan."""
        columns = {}
        for name in targets:
            columns[name] = self.dataset.targets[name].copy()
            columns[name][split.test] = np.nan
        labels = np.full(len(self.dataset), "", dtype="<U5")
        for part in ("train", "val", "test"):
            labels[getattr(split, part)] = part
        return replace(
            self.dataset,
            targets=columns,
            units={name: self.tasks[name].unit for name in targets},
            splits={"": labels},
        )


def get(name: str) -> Suite:
    """Return the suite called ``name``.

    Raises:
        ConfigError: If there is none.
    """
    if name not in SUITES:
        raise ConfigError(
            f"benchmark: the name must be one of {', '.join(SUITES)}, got {name!r}. "
            "Choose one of them."
        )
    return SUITES[name]


def open_suite(suite: Suite, source: str | os.PathLike[str] = "") -> OpenSuite:
    """Return a suite with its data.

    Args:
        suite: The suite.
        source: File or name of the data; the suite's download if empty.

    Raises:
        ConfigError: If no data are given and the suite has no download.
        DataError: If a target is missing, or the folds cannot be known from the data or
            contradict its labels.
    """
    source = str(source) or suite.download
    if not source:
        raise ConfigError(
            f"{suite.name}: `--data` must name the file of this suite, it has no download. "
            "Give the path."
        )
    dataset = open_dataset(source)
    if not suite.tasks:
        tasks = tuple(Task(name, dataset.units[name]) for name in dataset.targets)
        suite = replace(suite, tasks=tasks)
    dataset = _with_names_of(suite, dataset)
    if suite.rule == "matbench":
        details = _details(source) or [{}] * len(dataset)
        folds = _folds(suite, dataset, details)
        doubtful = [str(d.get("match", "")).startswith(suite.left_out) for d in details]
        kept = (folds >= 0) & ~np.array(doubtful) if suite.left_out else folds >= 0
    else:
        folds, doubtful = None, []
        kept = np.ones(len(dataset), dtype=bool)
    if suite.rule == "labels":
        labels = dataset.split_for([task.target for task in suite.tasks])
        if labels is None:
            raise DataError(
                f"{suite.name}: the data must carry the official split, got no labels. "
                "Give the file that has them."
            )
        kept = labels != ""
    else:
        known = [np.isfinite(dataset.targets[task.target]) for task in suite.tasks]
        kept &= np.any(known, axis=0)
    if not kept.any():
        raise DataError(f"{suite.name}: must have a crystal with a target, got none in {source}.")
    notes = []
    if suite.left_out and any(doubtful):
        notes.append(
            f"{sum(doubtful):,} entries are left out, their target is doubtful: `match` begins "
            f"with {' or '.join(suite.left_out)}."
        )
    if suite.n_entries and kept.sum() != suite.n_entries:
        notes.append(f"{kept.sum():,} of the {suite.n_entries:,} entries are used.")
    dataset = dataset.subset(kept)
    return OpenSuite(suite, dataset, None if folds is None else folds[kept], tuple(notes))


def _with_names_of(suite: Suite, dataset: Dataset) -> Dataset:
    """Return the dataset with the suite's targets alone, under the suite's names.

    Raises:
        DataError: If one of them is not there.
    """
    names = {}
    for task in suite.tasks:
        found = next((n for n in (task.target, *task.aliases) if n in dataset.targets), None)
        if found is None:
            raise DataError(
                f"{suite.name}: the data must have the target {task.target!r}, got "
                f"{', '.join(dataset.targets) or 'none'}. Give the file of this suite."
            )
        names[task.target] = found
    return replace(
        dataset,
        targets={name: dataset.targets[found] for name, found in names.items()},
        units={task.target: task.unit for task in suite.tasks},
        splits={
            name: labels
            for name, found in {**names, "": ""}.items()
            if (labels := dataset.splits.get(found)) is not None
        },
    )


def _details(source: str) -> list[dict[str, Any]]:
    """Return what the lines of a JSON Lines file say about folds and matches; [] for other data."""
    path = Path(source)
    if not path.name.removesuffix(".gz").endswith(".jsonl"):
        return []
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as file:
        records = [json.loads(line) for line in file if line.strip()]
    keys = ("match", "matbench_id", "matbench_fold")
    return [{key: record[key] for key in keys if key in record} for record in records]


def _folds(
    suite: Suite, dataset: Dataset, details: Sequence[Mapping[str, Any]]
) -> NDArray[np.int64]:
    """Return the fold of each crystal, -1 where it is in none.

    The place of an entry in its task comes from its MatBench id or, if all entries are there,
    from the order of the data. Labels of the data must say the same.
    """
    official = shuffled_folds(suite.n_entries, seed=MATBENCH_SEED)
    places = [
        matbench_place(str(detail.get("matbench_id", id)))
        for id, detail in zip(dataset.ids, details, strict=True)
    ]
    if not any(place is not None for place in places) and len(dataset) == suite.n_entries:
        places = list(range(len(dataset)))
    folds = np.full(len(dataset), -1)
    for row, (place, detail) in enumerate(zip(places, details, strict=True)):
        label = detail.get("matbench_fold")
        if label is None and dataset.folds is not None and dataset.folds[row] >= 0:
            label = int(dataset.folds[row])
        if place is None and label is None:
            continue
        if place is not None and not 0 <= place < len(official):
            raise DataError(
                f"{suite.name}: {dataset.ids[row]!r} must be one of {suite.n_entries} entries, "
                f"got number {place + 1}. Give the file of this suite."
            )
        fold = int(official[place]) if place is not None else label
        if label is not None and label != fold:
            raise DataError(
                f"{suite.name}: {dataset.ids[row]!r} must be in fold {fold} by MatBench's rule, "
                f"got the label {label}. Correct the file."
            )
        folds[row] = fold
    if (folds < 0).all():
        raise DataError(
            f"{suite.name}: the data must say in which fold each crystal is, got neither MatBench "
            f"ids nor labels nor all {suite.n_entries} entries. Give the file of this suite."
        )
    return folds
