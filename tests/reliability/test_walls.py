"""Whatever one crystal does to a stage behind the reading of files, the others go on."""

import pytest
from builtin_exceptions import EXCEPTIONS

from potnet import Crystal
from potnet.checks import check_records
from potnet.crystal import NUMBERS
from potnet.data import Record
from potnet.errors import Failure
from potnet.sheet.stream import CrystalSheet, SheetMaker


def rock_salt(cation: str, a: float, id: str) -> Crystal:
    cell = [[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]]
    return Crystal([NUMBERS[cation], NUMBERS["Cl"]], [[0, 0, 0], [a / 2] * 3], cell, id=id)


GOOD, BAD = rock_salt("Na", 5.69, "good"), rock_salt("K", 6.38, "bad")


@pytest.fixture(scope="module")
def maker():
    return SheetMaker(["bulk-modulus"])


def failing(original, exception, is_bad):
    """Return ``original``, but raising where it meets the bad crystal."""

    def call(*args, **kwargs):
        if is_bad(args):
            raise exception("on purpose")
        return original(*args, **kwargs)

    return call


def meets_bad(args) -> bool:
    """Whether the crystal with potassium is among the arguments, or in a list of them."""
    flat = [x for arg in args for x in (arg if isinstance(arg, list | tuple) else [arg])]
    return any(isinstance(x, Crystal) and "K" in x.symbols for x in flat)


@pytest.mark.parametrize("exception", EXCEPTIONS)
@pytest.mark.parametrize(
    "stage", ["facts_of", "compose", "features"], ids=["facts", "rows of the sheet", "features"]
)
def test_a_crystal_that_breaks_a_stage_of_the_sheet_costs_no_other(
    maker, monkeypatch, stage, exception
):
    if stage == "features":
        kind = type(maker.predictors["bulk-modulus"].features)
        monkeypatch.setattr(kind, "once", failing(kind.once, exception, meets_bad))
    else:
        import potnet.sheet.stream as room

        is_bad = meets_bad if stage == "facts_of" else (lambda args: args[0].id == "bad")
        monkeypatch.setattr(room, stage, failing(getattr(room, stage), exception, is_bad))
    before, failure, after = maker.stream([GOOD, BAD, GOOD.replace(id="last")])
    assert isinstance(before, CrystalSheet)
    assert isinstance(after, CrystalSheet)
    assert isinstance(failure, Failure)
    assert failure.id == "bad"
    assert failure.reason.endswith(".")


@pytest.mark.parametrize("exception", EXCEPTIONS)
def test_a_network_that_breaks_on_one_crystal_predicts_the_others(maker, monkeypatch, exception):
    predictor = maker.predictors["bulk-modulus"]

    def is_bad(args) -> bool:
        return bool((args[1].numbers == NUMBERS["K"]).any())

    member = predictor.members[0]
    broken = failing(member.from_embedding, exception, is_bad)
    monkeypatch.setattr(member, "from_embedding", broken)
    before, failure, after = maker.stream([GOOD, BAD, GOOD.replace(id="last")])
    assert isinstance(before, CrystalSheet)
    assert isinstance(after, CrystalSheet)
    assert isinstance(failure, Failure)
    assert "bad" in failure.reason


@pytest.mark.parametrize("exception", EXCEPTIONS)
def test_a_crystal_that_breaks_the_checks_is_refused_alone(monkeypatch, exception):
    import potnet.checks.checks as room

    monkeypatch.setattr(room, "fingerprint", failing(room.fingerprint, exception, meets_bad))
    found = check_records([Record("good", GOOD), Record("bad", BAD)])
    assert list(found.ids) == ["good"]
    assert [failure.id for failure in found.failures] == ["bad"]


def test_stopping_by_the_user_passes_the_wall_of_the_sheet(maker, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("potnet.sheet.stream.facts_of", stop)
    with pytest.raises(KeyboardInterrupt):
        list(maker.stream([GOOD]))
