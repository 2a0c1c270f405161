"""Cells whose volume no number can hold are refused in a sentence, without a warning."""

import re
import warnings

import pytest
from sources import SALT, cif, poscar

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
