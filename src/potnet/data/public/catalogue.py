"""Public datasets by name: addresses, fingerprints, units, splits, and whom to thank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from potnet.data.public.official import (
    MatBenchFolds,
    Official,
    OneFileEach,
    PublishedShuffle,
)
from potnet.data.public.transfer import Remote


@dataclass(frozen=True)
class PublicDataset:
    """A public dataset in one certain version.

    Attributes:
        name: What it is called here.
        about: One line.
        files: What to download.
        targets: Unit of each target.
        counts: Rows that it may have; empty if that is not known.
        official: How it is divided; None if there is no official split.
        licence: What may be done with it, as far as its source says.
        citation: Whom to name.
        note: What to know before results are compared.
        ids: Prefix of the ids, where they count the rows; "" where the rows name them.
    """

    name: str
    about: str
    files: tuple[Remote, ...]
    targets: Mapping[str, str]
    counts: tuple[int, ...] = ()
    official: Official | None = None
    licence: str = ""
    citation: str = ""
    note: str = ""
    ids: str = ""
    folder: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", self.name.replace(":", "-"))


def _figshare(
    number: int, name: str, *, starts: bytes = b"PK\x03\x04", format: str = "zip archive"
) -> Remote:
    """Return a file of figshare, where each number stands for one version for ever.

    No SHA-256 of them is known here, so that of the first download holds.
    """
    urls = (
        f"https://ndownloader.figshare.com/files/{number}",
        f"https://figshare.com/ndownloader/files/{number}",
    )
    return Remote(name, urls, starts=starts, format=format)


_JARVIS_LICENCE = "CC BY 4.0 by the record on figshare (doi:10.6084/m9.figshare.{}); check it there"
_JARVIS = "K. Choudhary et al., npj Comput. Mater. 6, 173 (2020), doi:10.1038/s41524-020-00440-1"
_MEGNET = "C. Chen et al., Chem. Mater. 31, 3564 (2019), doi:10.1021/acs.chemmater.9b01294"
_MATFORMER = "K. Yan et al., Periodic Graph Transformers, NeurIPS 2022, arXiv:2209.11807"
_MATBENCH = "A. Dunn et al., npj Comput. Mater. 6, 138 (2020), doi:10.1038/s41524-020-00406-3"
_ELASTIC = "M. de Jong et al., Sci. Data 2, 150009 (2015), doi:10.1038/sdata.2015.9"
_MP = "A. Jain et al., APL Mater. 1, 011002 (2013), doi:10.1063/1.4812323"
_QMOF = (
    "A. S. Rosen et al., Matter 4, 1578 (2021), doi:10.1016/j.matt.2021.02.015; A. S. Rosen et "
    "al., npj Comput. Mater. 8, 112 (2022), doi:10.1038/s41524-022-00796-6"
)

_DFT_3D = PublicDataset(
    name="jarvis:dft_3d_2021",
    about="55,723 crystals of JARVIS-DFT, OptB88vdW, version of 18 August 2021",
    files=(_figshare(29204826, "jdft_3d-8-18-2021.json.zip"),),
    targets={
        "formation_energy_peratom": "eV/atom",
        "optb88vdw_bandgap": "eV",
        "optb88vdw_total_energy": "eV/atom",
        "ehull": "eV/atom",
        "mbj_bandgap": "eV",
        "bulk_modulus_kv": "GPa",
        "shear_modulus_gv": "GPa",
    },
    counts=(55_723,),
    official=PublishedShuffle(),
    licence=_JARVIS_LICENCE.format(6815699),
    citation=_JARVIS,
    note=(
        "What the name dft_3d means in other tools has grown since: this is the version of the "
        "published results. 11 ids are in it twice; the second crystal is called ID#2."
    ),
)


def _dft_2d(name: str, number: int, file: str, version: str) -> PublicDataset:
    return PublicDataset(
        name=name,
        about=f"about 1,100 layers of JARVIS-DFT, OptB88vdW, version of {version}",
        files=(_figshare(number, file),),
        targets={
            "formation_energy_peratom": "eV/atom",
            "optb88vdw_bandgap": "eV",
            "optb88vdw_total_energy": "eV/atom",
            "exfoliation_energy": "meV/atom",
            "mbj_bandgap": "eV",
        },
        licence=_JARVIS_LICENCE.format(6815705),
        citation=_JARVIS,
        note="The cells hold vacuum. There is no official split.",
    )


_MEGNET_2018 = PublicDataset(
    name="mp:2018.6.1",
    about="69,239 crystals of the Materials Project, PBE, version of 1 June 2018 (MEGNet)",
    files=(_figshare(26724977, "megnet.json.zip"),),
    targets={"e_form": "eV/atom", "gap pbe": "eV"},
    counts=(69_239,),
    official=PublishedShuffle((60_000, 5_000, 4_239)),
    licence="Materials Project: CC BY 4.0; file: record doi:10.6084/m9.figshare.14177630",
    citation=f"{_MEGNET}; {_MP}",
)


def _modulus(
    kind: str, counts: tuple[int, ...], numbers: tuple[int, int, int], note: str
) -> PublicDataset:
    parts = zip(numbers, ("train", "val", "test"), strict=True)
    return PublicDataset(
        name=f"mp:2018.6.1-{kind}",
        about=f"5,450 crystals of mp:2018.6.1 with log10 of the {kind} modulus (4664/393/393)",
        files=tuple(
            _figshare(number, f"{kind}_megnet_{part}.pkl", starts=b"\x80", format="pickled list")
            for number, part in parts
        ),
        targets={f"{kind} modulus": "log10(GPa)"},
        counts=counts,
        official=OneFileEach(),
        licence="Materials Project: CC BY 4.0; files: figshare project 165430",
        citation=f"{_MATFORMER}; {_MEGNET}",
        note=note,
    )


def _matbench(
    task: str,
    target: str,
    unit: str,
    count: int,
    sha256: str,
    about: str,
    citation: str,
    stratified: bool = False,
) -> PublicDataset:
    file = f"matbench_{task}.json.gz"
    return PublicDataset(
        name=f"matbench:{task}",
        about=f"{count:,} {about} (MatBench v0.1)",
        files=(
            Remote(
                file,
                (f"https://ml.materialsproject.org/projects/{file}",),
                sha256=sha256,
                starts=b"\x1f\x8b",
                format="gzip file",
            ),
        ),
        targets={target: unit},
        counts=(count,),
        official=MatBenchFolds(stratified),
        licence="MatBench: MIT; the data under the terms of their sources (CC BY 4.0 and like)",
        citation=f"{_MATBENCH}; {citation}",
        note="Report the mean of the five folds; single folds differ by more than models do.",
        ids=f"mb-{task.replace('_', '-')}-",
    )


_QMOF_2021 = PublicDataset(
    name="qmof",
    about="20,425 metal-organic frameworks of QMOF, PBE-D3(BJ)",
    files=(_figshare(30972640, "qmof_db.json.zip"),),
    targets={"bandgap": "eV"},
    counts=(20_425,),
    official=PublishedShuffle(),
    licence="QMOF: CC BY 4.0; file: record doi:10.6084/m9.figshare.14812044",
    citation=_QMOF,
    note="The file that JARVIS-Leaderboard takes; the QMOF database itself has newer versions.",
)

_ALL = (
    _DFT_3D,
    _dft_2d("jarvis:dft_2d", 38521268, "d2-12-12-2022.json.zip", "12 December 2022"),
    _dft_2d("jarvis:dft_2d_2021", 26808917, "d2-3-12-2021.json.zip", "12 March 2021"),
    _MEGNET_2018,
    _modulus("bulk", (5_450,), (40258705, 40258675, 40258666), ""),
    _modulus(
        "shear",
        (5_449, 5_450),
        (40258681, 40258684, 40258678),
        "The published results leave out one validation crystal whose modulus is negative and has "
        "no logarithm: 4664/392/393.",
    ),
    _matbench(
        "dielectric", "n", "1", 4_764,
        "83befa09bc2ec2f4b6143afc413157827a90e5e2e42c1eb507ccfa01bf26a1d6",
        "crystals with their refractive index",
        "I. Petousis et al., Sci. Data 4, 160134 (2017), doi:10.1038/sdata.2016.134",
    ),
    _matbench(
        "jdft2d", "exfoliation_en", "meV/atom", 636,
        "26057dc4524e193e32abffb296ce819b58b6e11d1278cae329a2f97817a4eddf",
        "layers with their exfoliation energy",
        "K. Choudhary et al., Sci. Rep. 7, 5179 (2017), doi:10.1038/s41598-017-05402-0",
    ),
    _matbench(
        "log_gvrh", "log10(G_VRH)", "log10(GPa)", 10_987,
        "098af941f4c663270f1fe21abf20ffad6fb85ecbfcba5786ceac03983ac29da7",
        "crystals with their shear modulus", _ELASTIC,
    ),
    _matbench(
        "log_kvrh", "log10(K_VRH)", "log10(GPa)", 10_987,
        "44b113ddb7e23aa18731a62c74afa7e5aa654199e0db5f951c8248a00955c9cd",
        "crystals with their bulk modulus", _ELASTIC,
    ),
    _matbench(
        "mp_e_form", "e_form", "eV/atom", 132_752,
        "dedcb1d4ba2e3e50dbdd45ba5bc647a00e9c2bcf8f8bf556dc8e92caa39eb21f",
        "crystals with their formation energy", _MP,
    ),
    _matbench(
        "mp_gap", "gap pbe", "eV", 106_113,
        "58b65746bd88329986ed66031a2ac1369c7c522f7bc9f9081528e07097c2c057",
        "crystals with their band gap, PBE", _MP,
    ),
    _matbench(
        "mp_is_metal", "is_metal", "1", 106_113,
        "9a028ed5750a4c76ca36e9f3c8d48fe0bf3fb21b76ec2289e58ae7048d527919",
        "crystals, 1 for metals and 0 for others", _MP, stratified=True,
    ),
    _matbench(
        "perovskites", "e_form", "eV/cell", 18_928,
        "4641e2417f8ec8b50096d2230864468dfa08278dc9d257c327f65d0305278483",
        "perovskites with their heat of formation",
        "I. E. Castelli et al., Energy Environ. Sci. 5, 9034 (2012), doi:10.1039/C2EE22341D",
    ),
    _matbench(
        "phonons", "last phdos peak", "1/cm", 1_265,
        "4db551f21ec5f577e6202725f10e34dfc509aa7df3a6bdaac497da7f6dbbb9b3",
        "crystals with their highest phonon frequency",
        "G. Petretto et al., Sci. Data 5, 180065 (2018), doi:10.1038/sdata.2018.65",
    ),
    _QMOF_2021,
)  # fmt: skip

PUBLIC_DATASETS: dict[str, PublicDataset] = {dataset.name: dataset for dataset in _ALL}
