"""The page in a real Chromium, from a dropped text to a downloaded table."""

import json
from pathlib import Path

import pytest
from conftest import PHONE, WIDE

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "crystals"
# npm install --prefix .venv/axe axe-core@4 (make setup does it where there is npm)
AXE = ROOT / ".venv" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
N_MANY = 900  # crystals, so that it takes a while
LOOKS = [("light", WIDE), ("dark", PHONE)]
pytestmark = pytest.mark.timeout(600)


def take(page, example: str = "SrTiO3.cif") -> None:
    """Let the page show an example with all that it asks of itself."""
    page.select_option("#examples", label=example)
    page.wait_for_selector("#sheet .shape")
    page.wait_for_selector("#near tbody tr")
    page.wait_for_selector("#hull svg")


@pytest.mark.parametrize(("scheme", "size"), LOOKS, ids=["light", "dark-phone"])
def test_an_example_is_drawn_with_all_that_is_said_of_it(open_page, scheme, size) -> None:
    page = open_page(scheme, size)
    take(page)
    assert "Pm-3m (221)" in page.text_content("#facts")
    assert "formation energy" in page.text_content("#sheet")
    assert "to −3." in page.text_content("#sheet"), "and stand below the value"
    assert page.locator("#sheet .bar").count() >= 6, "intervals are bars"
    assert page.locator("#sheet .shape").count() == 9, "beside what known materials have"
    assert page.locator("#sheet .known").count() >= 3, "known values of this crystal are marked"
    assert page.evaluate("document.querySelector('#viewer canvas').toDataURL().length") > 1000
    assert "the hull" in page.text_content("#stability-said")
    assert page.locator("#hull circle").count() > 10
    assert "very crystal" in page.text_content("#nearest-said")


def test_a_known_material_stands_beside_this_one_after_a_click(open_page) -> None:
    page = open_page()
    take(page, "NaCl.cif")
    page.click("#near tbody tr:nth-child(2)")
    row = page.locator("#pair tbody tr", has_text="formation energy")
    assert row.locator("td").count() == 3
    assert "as known" in page.text_content("#pair thead")
    assert page.locator("#pair tbody tr", has_text="volume per atom").count() == 1
    assert "Choose a file of mp-" in page.text_content("#pair-said")
    assert page.is_hidden("#second"), "the index has no positions"
    page.focus("#near tbody tr:nth-child(2)")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.get_attribute("#near tbody tr:nth-child(3)", "aria-selected") == "true"


def test_a_known_material_gets_its_structure_from_a_file_or_an_example(open_page) -> None:
    page = open_page()
    take(page, "NaCl.cif")
    page.click("#near tbody tr:nth-child(1)")
    page.wait_for_selector("#second canvas")
    assert "the structure is that of NaCl" in page.text_content("#pair-said")
    page.set_input_files("#pair-file", EXAMPLES / "NaCl.cif")
    page.get_by_text("this is its structure").wait_for()
    assert "as known" in page.text_content("#pair thead")
    page.set_input_files("#pair-file", EXAMPLES / "MgO.vasp")
    page.get_by_text("MgO is not mp-").wait_for()
    assert "as predicted" in page.text_content("#pair thead th:nth-child(3)")


def test_a_potential_is_drawn_on_a_plane(open_page) -> None:
    page = open_page()
    take(page, "NaCl.cif")
    page.select_option("#potential", "london")
    page.select_option("#plane", "1 0 0")
    page.click("#draw")
    page.wait_for_selector("#map canvas")
    assert "Plane (1 0 0)" in page.text_content("#map-said")
    assert page.locator("#map text", has_text="Na").count() > 0


def test_reasons_are_shares_and_colours_of_the_atoms(open_page) -> None:
    page = open_page()
    take(page)
    plain = page.evaluate("document.querySelector('#viewer canvas').toDataURL()")
    page.click("#explain")
    page.wait_for_selector("#shares td.less, #shares td.more")
    assert "eV/atom" in page.text_content("#reasons-said")
    page.wait_for_selector("#legend .ramp")
    assert page.input_value("#colour") == "share"
    assert page.evaluate("document.querySelector('#viewer canvas').toDataURL()") != plain
    page.select_option("#colour", "")
    assert page.is_hidden("#values")
    assert page.text_content("#legend") == "SrTiO", "elements are told by name, not by colour alone"


MOMENTS = """2
Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:forces:R:3:magmom:R:1
Cs 0 0 0 0.3 0.4 0 0.25
Cl 2 2 2 0 0 -2 -1.75
"""


def test_atoms_are_coloured_by_whatever_number_a_file_states_of_them(open_page) -> None:
    page = open_page()
    page.fill("#text", MOMENTS)
    page.click("#go")
    page.wait_for_selector("#near tbody tr")
    names = page.locator("#colour option").all_text_contents()
    assert {"forces, length", "magmom", "Coulomb", "London", "Pauli"} <= set(names)
    plain = page.evaluate("document.querySelector('#viewer canvas').toDataURL()")
    page.focus("#colour")
    page.keyboard.press("ArrowDown")  # the keyboard is enough
    page.wait_for_selector("#legend .ramp")
    assert page.text_content("#legend").split("forces, length") == ["0.5", "2"]
    assert page.evaluate("document.querySelector('#viewer canvas').toDataURL()") != plain
    page.select_option("#colour", label="magmom")
    page.get_by_text("Values of the atoms").click()
    assert page.text_content("#value-list tbody tr:nth-child(2)") == "Cl2−1.75"


def test_atoms_are_coloured_by_the_potential_of_all_others(open_page) -> None:
    page = open_page()
    take(page, "TiO2-rutile.cif")
    page.select_option("#colour", label="London")
    page.wait_for_selector("#legend .ramp")
    assert "Å⁻⁶" in page.text_content("#legend")
    page.get_by_text("Values of the atoms").click()
    rows = page.locator("#value-list tbody tr").all_text_contents()
    assert len(rows) == 2, "all atoms of an element are alike in rutile"


def test_the_picture_turns_and_grows_by_keys(open_page) -> None:
    page = open_page()
    take(page, "MgO.vasp")
    page.focus("#viewer")
    seen = {page.evaluate("document.querySelector('#viewer canvas').toDataURL()")}
    for key in ("ArrowRight", "ArrowUp", "+"):
        page.keyboard.press(key)
        seen.add(page.evaluate("document.querySelector('#viewer canvas').toDataURL()"))
    assert len(seen) == 4
    assert "MgO in three dimensions" in page.get_attribute("#viewer", "aria-label")


def test_files_become_a_table_that_sorts_filters_and_downloads(open_page, tmp_path) -> None:
    page = open_page()
    (tmp_path / "bad.cif").write_text("data_<img src=x onerror=alert(1)>\n")
    names = ("NaCl.cif", "Si.vasp", "MgO.vasp")
    page.set_input_files("#files", [*(EXAMPLES / name for name in names), tmp_path / "bad.cif"])
    page.get_by_text("3 predicted, 1 refused").wait_for()
    page.wait_for_selector("#list tbody tr:nth-child(3)")
    assert "bad" in page.text_content("#failures")
    assert page.locator("#failures img").count() == 0, "what a file says stays text"
    page.get_by_role("button", name="formula", exact=True).click()
    first = page.text_content("#list tbody tr:first-child td:nth-child(2)")
    page.get_by_role("button", name="formula", exact=True).click()
    assert page.text_content("#list tbody tr:first-child td:nth-child(2)") != first
    page.fill("#filter", "mgo")
    assert page.locator("#list tbody tr").count() == 1
    assert page.text_content("#shown") == "1 of 3"
    with page.expect_download() as told:
        page.click("#csv")
    lines = Path(told.value.path()).read_text().splitlines()
    assert lines[0].startswith("id,formula,n_atoms,space_group,property,value")
    assert {line.split(",")[0] for line in lines[1:]} == {"NaCl", "Si", "MgO"}
    with page.expect_download() as told:
        page.click("#json")
    rows = json.loads(Path(told.value.path()).read_text())
    assert {row["id"] for row in rows} == {"NaCl", "Si", "MgO"}
    page.select_option("#other", "Si")
    assert page.locator("#second canvas").count() == 1
    assert page.locator("#pair tbody tr", has_text="bulk modulus").count() == 1


def test_downloads_are_what_predict_writes(open_page, tmp_path) -> None:
    from typer.testing import CliRunner

    from potnet.cli import app

    files = sorted(EXAMPLES.glob("*.cif"))
    page = open_page()
    page.set_input_files("#files", files)
    page.get_by_text(f"{len(files)} predicted, 0 refused").wait_for()
    page.wait_for_selector("#list tbody tr")
    for kind in ("csv", "json"):
        output = tmp_path / f"sheet.{kind}"
        asked = ["predict", *map(str, files), "-o", str(output), "--workers", "1"]
        done = CliRunner().invoke(app, asked)
        assert done.exit_code == 0, done.output
        with page.expect_download() as told:
            page.click(f"#{kind}")
        found = Path(told.value.path()).read_text()
        wanted = output.read_text()
        assert found == wanted if kind == "csv" else json.loads(found) == json.loads(wanted)


def test_a_formula_of_a_spreadsheet_in_an_id_stays_text(open_page, tmp_path) -> None:
    page = open_page()
    for name in ("=cmd()|x", "@sum"):
        (tmp_path / f"{name.replace('|', '-')}.vasp").write_text((EXAMPLES / "Si.vasp").read_text())
    page.set_input_files("#files", sorted(tmp_path.iterdir()))
    page.get_by_text("2 predicted, 0 refused").wait_for()
    page.wait_for_selector("#list tbody tr")
    with page.expect_download() as told:
        page.click("#csv")
    cells = [line.split(",")[0] for line in Path(told.value.path()).read_text().splitlines()[1:]]
    assert all(cell.strip('"').startswith("'") for cell in cells)


def test_what_runs_can_be_cancelled(open_page, tmp_path) -> None:
    page = open_page()
    text = (EXAMPLES / "Al2O3-corundum.cif").read_text()
    for k in range(N_MANY):
        (tmp_path / f"{k:03}.cif").write_text(text.replace("4.76", f"4.{700 + k}"))
    page.set_input_files("#files", sorted(tmp_path.iterdir()))
    page.click("#cancel")  # as soon as it is there
    page.wait_for_selector("#cancel", state="hidden")
    assert page.text_content("#said").startswith("Cancelled")
    assert int(page.text_content("#said").split()[1]) < N_MANY, "what came before stays"


def test_the_keyboard_alone_gets_to_a_judged_structure(open_page) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "text"
    page.keyboard.insert_text((EXAMPLES / "Si.vasp").read_text())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "go"
    page.keyboard.press("Enter")
    page.wait_for_selector("#sheet tbody tr")
    assert "Fd-3m (227)" in page.text_content("#facts")


def test_a_text_that_is_no_structure_gets_a_sentence(open_page) -> None:
    page = open_page("dark", PHONE)
    page.fill("#text", "nothing of the kind")
    page.click("#go")
    page.wait_for_selector("#failures li")
    page.get_by_text("1 refused").wait_for()


def test_a_server_that_went_away_is_told(open_page) -> None:
    page = open_page(is_broken=True)
    page.route("**/predict", lambda route: route.abort())
    page.select_option("#examples", label="Si.vasp")
    page.get_by_text("The server does not answer").wait_for()
    page.unroute("**/predict")
    page.route("**/predict", lambda route: route.fulfill(status=502, body="<html>Bad Gateway"))
    page.select_option("#examples", label="MgO.vasp")
    page.get_by_text("The server answered 502").wait_for()


def test_that_models_are_still_read_is_told(open_page) -> None:
    page = open_page()
    page.route("**/health", lambda route: route.fulfill(json={"version": "1", "is_warm": False}))
    page.reload()
    page.get_by_text("The models are being read").wait_for()
    page.unroute("**/health")
    page.get_by_text("The models are being read").wait_for(state="hidden")


@pytest.mark.parametrize(("scheme", "size"), LOOKS, ids=["light", "dark-phone"])
def test_axe_finds_no_serious_fault(open_page, scheme, size) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm install --prefix .venv/axe axe-core@4")
    page = open_page(scheme, size)
    page.select_option("#examples", label="all of them")
    page.wait_for_selector("#list tbody tr:nth-child(12)")
    page.wait_for_selector("#near tbody tr")
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run().then((result) => result.violations)")
    serious = [
        f"{fault['id']}: {fault['help']}: {[node['html'][:120] for node in fault['nodes'][:3]]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []
