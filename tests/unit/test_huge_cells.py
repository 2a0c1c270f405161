"""Cells whose volume no number can hold are refused in a sentence, without a warning."""

import re
import warnings

import pytest
from sources import SALT, cif, poscar

from potnet.crystal import Crystal
from potnet.errors import StructureError
from potnet.io.cif import parse_cif
from potnet.io.poscar import parse_poscar


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_of_cif():
    text = re.sub(r"(_cell_length_[abc]\s+)\S+", r"\g<1>1e200", cif(SALT)) + "_cell_volume 40.0\n"
    (found,) = [item for _, item in parse_cif(text, "huge", "huge")]
    assert isinstance(found, StructureError)
    assert "`cell` vectors must be at most 1000 Å long" in str(found)


def test_of_poscar():
    lines = poscar(SALT).splitlines()
    lines[1] = "-40.0"
    lines[2:5] = ["1e200 0 0", "0 1e200 0", "0 0 1e200"]
    with pytest.raises(StructureError, match="`cell` must have three independent vectors"):
        parse_poscar("\n".join(lines), "huge")


@pytest.mark.parametrize("length", [1e155, 1e200, 1.7e308])
@pytest.mark.parametrize("place", ["matrix", "a", "abc", "xyz"])
def test_of_pymatgen(length, place):
    lattice = {"matrix": [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]], "a": 4.0, "b": 4.0, "c": 4.0}
    site = {"species": [{"element": "Na", "occu": 1}], "abc": [0.0, 0, 0], "xyz": [0.0, 0, 0]}
    if place == "matrix":
        lattice["matrix"][0][0] = length
    elif place == "a":
        lattice["a"] = length
    else:
        site[place][0] = length
    data = {"@class": "Structure", "@module": "pymatgen.core.structure", "lattice": lattice}
    with pytest.raises(
        StructureError, match="must (have the lengths|be the same place|be shares of)"
    ):
        Crystal.from_any({**data, "sites": [site]})
