"""Whatever a public name is given, it answers by a result, or by one sentence of an error class."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from salts import rock_salt

import latticesums
import potnet
from latticesums.errors import LatticeSumsError
from potnet import Crystal
from potnet.errors import PotNetError

SALT = Crystal([11, 17], [[0, 0, 0], [2.8, 0, 0]], [[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]])
WRONG = [None, 3, -1, 3.5, float("nan"), "abc", "", b"x", Path("/nowhere"), [], [None], ["a"]]
WRONG += [[[1, 2], [3]], (1, 2), {}, {"a": 1}, np.zeros(0), np.zeros((3, 3)), np.array(["a"]), True]
WRONG += [np.zeros((2, 3), complex), torch.zeros(3, 3), object(), len, object, [SALT], SALT, set()]
WRONG += [10**400, "\ud800", np.float64("inf")]
# What answers any object by the errors of Python: data that functions return, and settings of
# pydantic, whose own error is a ValueError.
OURS = (PotNetError, LatticeSumsError, ValidationError)
RETURNED = {"LatticeSums", "PairSums", "PointSums", "DerivativeBounds", "Energies", "Explanation"}


def names_of(module):
    found = {name: getattr(module, name) for name in module.__all__ if name not in RETURNED}
    return {
        f"{module.__name__}.{name}": value
        for name, value in found.items()
        if callable(value) and not (isinstance(value, type) and issubclass(value, BaseException))
    }


NAMES = names_of(potnet) | names_of(latticesums)
del NAMES["latticesums.reduced"]  # plain arrays, for potentials of one's own
CRYSTAL = ["copies", "orbits", "primitive", "space_group", "supercell", "replace"]
FROM = ["from_any", "from_ase", "from_jarvis", "from_pymatgen"]
MODEL = ["predict", "embed", "gradients", "predict_values", "save", "to", "features"]


def answer(call, *args, **settings) -> None:
    """Call; raise unless it answers by a result, an error of ours, or a signature's TypeError."""
    try:
        call(*args, **settings)
    except OURS as error:
        if len(str(error)) < 15:
            raise AssertionError(f"no sentence: {error}") from error
    except TypeError as error:
        if error.__traceback__ and error.__traceback__.tb_next:  # from inside
            raise AssertionError(f"{args} {settings}: {error}") from error


def required(call) -> list[str]:
    try:
        found = inspect.signature(call).parameters.values()
    except ValueError:
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in found if p.default is p.empty and p.kind in kinds]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_answers_any_object(name):
    call = NAMES[name]
    for wrong in WRONG:
        answer(call, *[wrong] * len(required(call)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*CRYSTAL, *FROM])
def test_a_crystal_answers_any_object(name):
    call = getattr(SALT, name)
    for parameter in inspect.signature(call).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD or (
            name == "replace" and parameter.name == "info"
        ):
            continue
        for wrong in WRONG:
            rest = {key: SALT.to_ase() for key in required(call) if key != parameter.name}
            answer(call, **rest, **{parameter.name: wrong})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODEL)
def test_a_model_answers_any_object(name):
    call = getattr(potnet.load("bulk-modulus"), name)
    for wrong in WRONG:
        answer(call, wrong)


def test_good_arguments_are_still_good(tmp_path):
    model = potnet.load("bulk-modulus")
    crystals = [rock_salt(11, 17, 2.8, "a"), SALT.replace(id="b")]
    values = model.predict_values(model.features(crystals))
    assert values.shape == (2, 1)
    potnet.write(crystals, tmp_path / "a.extxyz")
    assert len(potnet.read(tmp_path / "a.extxyz")) == 2
    assert len(list(potnet.scan([str(tmp_path / "a.extxyz")]))) == 2
    model.save(tmp_path / "model")
    assert potnet.load(tmp_path / "model").predict(SALT)
    assert model.embed(SALT).shape[0] == 1
