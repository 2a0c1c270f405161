"""The sheet: standard names, no contradictions, nothing printed that does not apply, formats."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from salts import rock_salt

from potnet import ConfigError, Crystal
from potnet.crystal.layers import single_layer
from potnet.errors import Failure
from potnet.known import KnownCrystal
from potnet.models.completenet import CompleteNet
from potnet.prediction import Prediction, load, load_each, predict_each
from potnet.sheet import make_sheet, stream
from potnet.sheet.compose import Findings, agreeing, compose
from potnet.sheet.facts import Facts, facts_of
from potnet.sheet.files import check_format, open_table
from potnet.sheet.properties import ADVISED, BENCHMARK_ONLY, BUNDLED, PROPERTIES, models_of
from potnet.sheet.rows import COLUMNS, Row, Sheet, crystals_of
from potnet.sheet.stream import SheetMaker
from potnet.stability import Hull, Phase

nan = math.nan


def said(target: str, value: float, spread: float = nan, unit: str = "", *flags: str) -> Prediction:
    return Prediction("a", target, value, value - spread, value + spread, unit, flags)


def spinel(**changes) -> Findings:
    predictions = {
        "mp-formation-energy": [said("e_form", -3.2, 0.1, "eV/atom")],
        "mp-band-gap": [said("gap", 5.0, 0.5, "eV"), said("gap > 0.01", 0.99)],
        "bulk-modulus": [said("bulk_modulus", 180.0, 20.0, "GPa")],
        "shear-modulus": [said("shear_modulus", 100.0, 10.0, "GPa", "a flag")],
        "phonon-peak": [said("last_phdos_peak", 700.0, 90.0, "1/cm")],
        "exfoliation-energy": [],
    }
    hull = Hull([Phase.of("MgO", -3.0), Phase.of("Al2O3", -3.4)], "two phases")
    facts = Facts("MgAl2O4", 14, "Fd-3m (227)", 3.58)
    return replace(Findings("a", facts, predictions, hull=hull), **changes)


def by_property(found: Findings) -> dict[str, Row]:
    rows = compose(found)
    assert len({row.property for row in rows}) == len(rows)
    return {row.property: row for row in rows}


def test_a_sheet_has_each_property_once_in_its_order() -> None:
    assert [row.property for row in compose(spinel())] == list(PROPERTIES)


def test_the_energy_above_hull_carries_interval_phases_and_snapshot() -> None:
    row = by_property(spinel())["energy_above_hull"]
    hull = -5 / 7 * 3.4 - 2 / 7 * 3.0
    assert (row.value, row.lower, row.upper) == pytest.approx(
        (-3.2 - hull, -3.3 - hull, -3.1 - hull)
    )
    assert row.note == "decomposes into 0.714 Al2O3 + 0.286 MgO; two phases"


def test_derived_moduli_carry_intervals_and_the_flags_of_both() -> None:
    rows = by_property(spinel())
    young = rows["young_modulus"]
    assert young.value == pytest.approx(9 * 180 * 100 / 640)
    assert young.lower < young.value < young.upper
    assert young.unit == "GPa"
    assert young.flags == ("a flag",)
    assert young.model == "bulk-modulus, shear-modulus"
    assert rows["pugh_ratio"].value == pytest.approx(1.8)


def test_what_does_not_apply_is_no_number() -> None:
    row = by_property(spinel())["exfoliation_energy"]
    assert math.isnan(row.value)
    assert row.note == "does not apply: the crystal does not consist of layers"
    assert row.cells()[5:8] == ["", "", ""]
    assert row.record()["value"] is None


def test_layers_have_an_exfoliation_energy() -> None:
    found = spinel(is_layered=True)
    found.predictions["exfoliation-energy"].append(said("exfoliation_en", 80.0, 9.0, "meV/atom"))
    row = by_property(found)["exfoliation_energy"]
    assert row.value == 80.0
    assert "single layer" in row.note


def test_moduli_of_a_cell_with_vacuum_are_flagged_and_what_it_consists_of_is_said() -> None:
    rows = by_property(spinel(parts="layers", vacuum=17.25))
    assert rows["density"].note == "as read; consists of layers, with 17.2 Å of vacuum"
    for name in ("bulk_modulus", "shear_modulus", "young_modulus", "pugh_ratio"):
        assert "of the cell with its 17.2 Å of vacuum" in rows[name].flags
    assert rows["formation_energy"].flags == ()
    assert by_property(spinel())["bulk_modulus"].flags == ()


def test_a_single_layer_has_vacuum_and_a_layered_crystal_has_none() -> None:
    crystals = [graphite(), single_layer(graphite()), rock_salt(11, 17, 2.82)]
    notes = [row.note for row in make_sheet(crystals) if row.property == "density"]
    assert notes == [
        "as read; consists of layers",
        "as read; consists of layers, with 20 Å of vacuum",
        "as read; consists of a network",
    ]


def test_layers_are_asked_together_and_one_that_fails_costs_no_other(monkeypatch) -> None:
    maker = SheetMaker(["exfoliation-energy"], ["exfoliation_energy"])
    passes = []
    from_embedding = CompleteNet.from_embedding

    def counted(network, states, batch):
        passes.append(len(batch))
        return from_embedding(network, states, batch)

    monkeypatch.setattr(CompleteNet, "from_embedding", counted)
    broken = graphite().replace(id="broken")

    def layer_of(crystal: Crystal) -> Crystal:
        if crystal.id == "broken":
            raise MemoryError
        return single_layer(crystal)

    monkeypatch.setattr(stream, "single_layer", layer_of)
    crystals = [graphite().replace(id="a"), rock_salt(11, 17, 2.82), broken, boron_nitride()]
    (a,), (salt,), (failure,), (b,) = maker.each(crystals)
    assert failure.id == "broken"
    assert "MemoryError" in failure.reason
    assert math.isnan(salt.rows[0].value)
    assert set(passes) == {2}
    for sheet, crystal in ((a, crystals[0]), (b, crystals[3])):
        (alone,) = maker.stream([crystal])
        assert sheet.rows[0].value == pytest.approx(alone.rows[0].value, rel=1e-5)


def boron_nitride() -> Crystal:
    return replace(graphite(), numbers=[5, 7, 7, 5], id="b")


def graphite() -> Crystal:
    cell = [[2.46, 0, 0], [-1.23, 1.23 * math.sqrt(3), 0], [0, 0, 6.7]]
    scaled = [[0, 0, 0.25], [0, 0, 0.75], [1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]
    return Crystal([6] * 4, np.array(scaled) @ np.array(cell), cell)


def test_a_known_phase_of_the_hull_is_not_above_it_by_rounding() -> None:
    hull = Hull([Phase.of("MgAl2O4", -3.2 + 1e-10)], "one phase")
    known = KnownCrystal("mp-1", "MgAl2O4", 14, 227, 9.4, 0.0, 5.1, False, -3.2, 184.0, nan)
    row = by_property(spinel(known=(known,), hull=hull))["energy_above_hull"]
    assert str(row.reference) == "0.0"


GAP = Row("a", "X", 1, "", "band_gap", 1.0, 0.5, 1.5, "eV")


@pytest.mark.parametrize("value", [0.0, 0.004, 0.3, 2.0])
@pytest.mark.parametrize("spread", [0.0, 0.4, 3.0])
@pytest.mark.parametrize("chance", [0.0, 0.3, 0.49, 0.5, 0.8, 0.96, 1.0])
def test_a_gap_and_its_probability_never_contradict(
    value: float, spread: float, chance: float
) -> None:
    size = replace(GAP, value=value, lower=value - spread, upper=value + spread)
    row = agreeing(size, replace(GAP, property="has_band_gap", value=chance), 0.01)
    assert (row.value >= 0.01) == (chance >= 0.5)
    assert 0 <= row.lower <= row.value <= row.upper
    if chance < 0.95:
        assert row.lower == 0
    assert any("probably none" in flag for flag in row.flags) == (chance < 0.5 and value > 0.1)


def test_a_gap_without_interval_gets_none() -> None:
    size = replace(GAP, lower=nan, upper=nan)
    for chance in (0.1, 0.9):
        row = agreeing(size, replace(GAP, value=chance), 0.01)
        assert math.isnan(row.lower)
        assert math.isnan(row.upper)


def test_phonons_of_a_probable_metal_are_flagged() -> None:
    found = spinel()
    found.predictions["mp-band-gap"][1] = said("gap > 0.01", 0.1)
    rows = by_property(found)
    assert rows["band_gap"].value == 0
    assert any("metal" in flag for flag in rows["highest_phonon_frequency"].flags)


def test_a_known_crystal_puts_its_values_beside_the_predictions() -> None:
    known = KnownCrystal("mp-1", "MgAl2O4", 14, 227, 9.4, 0.0, 5.1, False, nan, 184.0, nan)
    other = replace(known, id="mp-2", formation_energy=-3.15, gap=4.0)
    rows = by_property(spinel(known=(known, other)))
    assert rows["band_gap"].reference == 5.1
    assert rows["band_gap"].note == "known: mp-1"
    assert rows["has_band_gap"].reference == 1.0
    assert rows["bulk_modulus"].reference == 184.0
    assert math.isnan(rows["shear_modulus"].reference)
    assert math.isnan(rows["pugh_ratio"].reference)
    assert rows["formation_energy"].reference == -3.15
    assert rows["formation_energy"].note == "known: mp-2"
    above = rows["energy_above_hull"]
    assert above.reference == pytest.approx(above.value + 0.05)


def test_a_crystal_with_a_reference_is_not_called_unfamiliar() -> None:
    known = KnownCrystal("mp-1", "MgAl2O4", 14, 227, 9.4, 0.0, 5.1, False, nan, 184.0, nan)
    flags = ("unfamiliar: 4 % of held-out crystals are as far", "another flag")
    bulk = said("bulk_modulus", 180.0, 20.0, "GPa", *flags)
    shear = said("shear_modulus", 100.0, 10.0, "GPa", *flags)
    predictions = {"bulk-modulus": [bulk], "shear-modulus": [shear]}
    rows = by_property(spinel(predictions=predictions, known=(known,)))
    assert rows["bulk_modulus"].flags == ("another flag",)
    assert rows["shear_modulus"].flags == flags  # of which the source says nothing


def test_other_models_keep_their_names_and_get_no_reference() -> None:
    predictions = {
        "jarvis-band-gap-mbj": [said("mbj_bandgap", 6.0, 1.0, "eV"), said("mbj_bandgap > 0.01", 1)],
        "runs/own/model": [said("hardness", 12.0, 1.0, "GPa")],
    }
    known = KnownCrystal("mp-1", "MgAl2O4", 14, 227, 9.4, 0.0, 5.1, False, nan, 184.0, nan)
    rows = by_property(spinel(predictions=predictions, known=(known,)))
    assert rows["band_gap"].level_of_theory == "TBmBJ"
    assert math.isnan(rows["band_gap"].reference)
    assert rows["hardness"].model == "runs/own/model"
    assert rows["hardness"].level_of_theory == ""


def test_benchmark_weights_are_not_advised() -> None:
    assert not set(BENCHMARK_ONLY) & set(ADVISED)
    assert "jarvis-energy-above-hull" in BENCHMARK_ONLY
    assert all(not p.is_advised for (model, _), p in BUNDLED.items() if model.startswith("jarvis"))


def test_a_property_asks_the_models_that_it_needs() -> None:
    assert models_of(("energy_above_hull",)) == ("mp-formation-energy",)
    assert models_of(("young_modulus",)) == ("bulk-modulus", "shear-modulus")
    assert models_of(tuple(PROPERTIES)) == ADVISED


def sheet() -> Sheet:
    first = compose(spinel())
    second = compose(spinel(facts=Facts("MgAl2O4", 28, "", 3.58)))
    return Sheet([*first, *second], [Failure("b", "read", "no")])


def test_a_wide_table_has_a_row_for_each_crystal() -> None:
    table = sheet().wide()
    assert [record["n_atoms"] for record in table] == [14, 28]
    assert table[0]["band_gap [eV]"] == 5.0
    assert table[0]["band_gap_lower [eV]"] == 4.5
    assert table[0]["exfoliation_energy [meV/atom]"] is None
    assert table[0]["flags"].startswith("shear_modulus: a flag; young_modulus: a flag")
    assert repr(sheet()) == "<Sheet: 2 crystals, 24 rows, 1 failures>"


def test_equal_crystals_one_after_the_other_stay_two() -> None:
    rows = compose(spinel())
    assert [len(group) for group in crystals_of([*rows, *rows])] == [12, 12]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet", ".xlsx"])
def test_every_format_holds_the_same_table(suffix: str, wide: bool, tmp_path: Path) -> None:
    path = tmp_path / f"sheet{suffix}"
    sheet().write(path, wide=wide)
    expected = sheet().wide() if wide else [row.record() for row in sheet()]
    found = read_table(path)
    assert len(found) == len(expected)
    for got, record in zip(found, expected, strict=True):
        assert list(got) == list(record)
        for key, value in record.items():
            if isinstance(value, float | int):
                assert float(got[key]) == pytest.approx(value, rel=1e-6)
            else:
                assert (got[key] or "") == (value or "")


def read_table(path: Path) -> list[dict]:
    if path.suffix == ".json":
        return json.loads(path.read_text())
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        return parquet.read_table(path).to_pylist()
    openpyxl = pytest.importorskip("openpyxl")
    head, *rows = openpyxl.load_workbook(path).active.iter_rows(values_only=True)
    return [dict(zip(head, row, strict=True)) for row in rows]


@pytest.mark.parametrize("name", ["a.txt", "a", "a.csv.gz", "a.pkl"])
def test_a_format_that_cannot_be_written_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must end in .csv, .json, .parquet, .xlsx"):
        check_format(tmp_path / name)


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet", ".xlsx"])
def test_a_table_without_rows_is_whole(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"empty{suffix}"
    Sheet([]).write(path)
    assert read_table(path) == []
    if suffix == ".csv":
        assert path.read_text() == ",".join(COLUMNS) + "\n"


def test_a_text_that_looks_like_a_formula_stays_text_in_excel(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    path = tmp_path / "a.xlsx"
    with open_table(path) as table:
        table.write({"id": "=1+1\x07", "value": 1.0})
    cell = openpyxl.load_workbook(path).active["A2"]
    assert (cell.value, cell.data_type) == ("=1+1\\x07", "s")


def test_facts_do_not_depend_on_the_cell() -> None:
    salt = rock_salt(11, 17, 2.82)
    one, many = facts_of(salt), facts_of(salt.supercell([2, 1, 1]))
    assert one.space_group == many.space_group == "Fm-3m (225)"
    assert one.formula == many.formula == "NaCl"
    assert one.density == pytest.approx(many.density) == pytest.approx(2.164, abs=0.01)


def test_networks_of_models_of_one_archive_run_once_for_a_batch(monkeypatch) -> None:
    names = ("bulk-modulus", "mp-formation-energy", "shear-modulus")
    crystals = [rock_salt(12, 8, 2.1), rock_salt(11, 17, 2.8), graphite()]
    alone = [load(name).predict(crystals) for name in names]
    runs = []

    def counted(self, batch, run=CompleteNet.embedding_of_atoms):
        runs.append(self)
        return run(self, batch)

    monkeypatch.setattr(CompleteNet, "embedding_of_atoms", counted)
    predictors = load_each(names)
    assert list(predictors) == list(names)
    runs.clear()
    together = list(predict_each(tuple(predictors.values()), crystals))
    # Three networks of the moduli, one of the energy and the one that it hears beside.
    assert len(runs) == 5
    for k, rows in enumerate(alone):
        # To the last bit, with intervals, familiarity and flags.
        assert [said.predictions[k] for said in together] == [(row,) for row in rows]
