"""The suites by name: which crystals, which targets, which folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from potnet.data import SplitConfig
from potnet.errors import ConfigError

Metric = Literal["mae", "roc_auc"]


@dataclass(frozen=True)
class Task:
    """One quantity to predict.

    Attributes:
        target: Its column.
        unit: Its unit.
        aliases: Names of the column in other copies of the data.
        metric: ``roc_auc`` for columns of 0 and 1, whose probability of 1 is predicted.
    """

    target: str
    unit: str
    aliases: tuple[str, ...] = ()
    metric: Metric = "mae"


@dataclass(frozen=True)
class Suite:
    """What is benchmarked.

    Attributes:
        name: How it is called on the command line; names the results.
        what: One line about it.
        tasks: Each is learned by itself unless the settings join them; empty takes all targets of
            the data.
        rule: Where the folds come from: "matbench" is five folds by MatBench's rule over all
            entries, "matbench-stratified" by its rule for classes; "labels" the official split
            that the data carry; a k-fold split that rule; "config" the training settings.
        n_entries: Entries of the complete data; MatBench's rules depend on it.
        download: Name of the data for :func:`potnet.data.open`, where there is a network.
        most: Crystals of a fold to learn from at most, those that validate among them, for
            learning curves; 0 takes all. The test stays whole.
    """

    name: str
    what: str
    tasks: tuple[Task, ...]
    rule: Literal["matbench", "matbench-stratified", "labels", "config"] | SplitConfig
    n_entries: int = 0
    download: str = ""
    most: int = 0

    @property
    def is_matbench(self) -> bool:
        """Whether the folds follow from the place of an entry in its MatBench task."""
        return self.rule in ("matbench", "matbench-stratified")

    @property
    def n_folds(self) -> int:
        """Folds of each task."""
        if isinstance(self.rule, SplitConfig):
            return self.rule.n_folds
        return 5 if self.is_matbench else 1


_JARVIS = (
    Task("formation_energy_peratom", "eV/atom"),
    Task("optb88vdw_total_energy", "eV/atom"),
    Task("optb88vdw_bandgap", "eV"),
    Task("mbj_bandgap", "eV"),
    Task("ehull", "eV/atom"),
)
_GAP = Task("gap_pbe", "eV", ("gap pbe", "band_gap"))
_MP2018 = (Task("e_form", "eV/atom", ("formation_energy_per_atom",)), _GAP)
_BULK = Task("log10_K_VRH", "log10(GPa)", ("log10(K_VRH)",))
_SHEAR = Task("log10_G_VRH", "log10(GPa)", ("log10(G_VRH)",))
_METAL = Task("is_metal", "1", metric="roc_auc")
_ORDERING = Task("energy_per_atom", "eV/atom")


def _matbench(task: str, what: str, n_entries: int, target: Task) -> Suite:
    """Return the suite of a MatBench task."""
    rule = "matbench" if target.metric == "mae" else "matbench-stratified"
    name, download = f"matbench-{task.replace('_', '-')}", f"matbench:{task}"
    return Suite(name, what, (target,), rule, n_entries, download)


def _orderings(name: str, by: Literal["crystal", "composition"], what: str) -> Suite:
    """Return the suite of the orderings of Li, Mn, O and F, in ten folds."""
    what = f"energy of rock-salt orderings of Li, Mn, O and F, {what}"
    return Suite(name, what, (_ORDERING,), SplitConfig(kind="k-fold", by=by, n_folds=10), 638)


_SUITES = (
    _matbench(
        "phonons",
        "last peak of the phonon density of states",
        1265,
        Task("last_phdos_peak", "1/cm", ("last phdos peak",)),
    ),
    _matbench("jdft2d", "exfoliation energy of layers", 636, Task("exfoliation_en", "meV/atom")),
    _matbench("dielectric", "refractive index", 4764, Task("n", "1")),
    _matbench("log_kvrh", "bulk modulus", 10987, _BULK),
    _matbench("log_gvrh", "shear modulus", 10987, _SHEAR),
    Suite(
        "matbench-elastic",
        "bulk and shear modulus: log_kvrh and log_gvrh, which have the same crystals and folds",
        (_BULK, _SHEAR),
        "matbench",
        10987,
    ),
    _matbench("perovskites", "formation energy of perovskites", 18928, Task("e_form", "eV/cell")),
    _matbench("mp_gap", "band gap", 106113, _GAP),
    _matbench("mp_is_metal", "whether there is no gap", 106113, _METAL),
    _matbench("mp_e_form", "formation energy", 132752, Task("e_form", "eV/atom")),
    _orderings("lmof", "crystal", "random folds"),
    _orderings("lmof-compositions", "composition", "no composition in two folds"),
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
    Suite("own", "your own data: their split, or the one that the settings say", (), "config"),
)

SUITES: Mapping[str, Suite] = {suite.name: suite for suite in _SUITES}


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
