"""The server: REST answers, problems for whatever is wrong, and nothing for strangers."""

import json
from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi")
from starlette.testclient import TestClient

from potnet.crystal.picture import drawn_bonds
from potnet.serve import Limits, make_app
from potnet.serve.reading import read_texts
from potnet.serve.schemas import POSCAR

SALT = {"structures": [{"name": "salt.vasp", "content": POSCAR}]}
BROKEN = {"name": "bad.cif", "content": "data_x\n"}
LIMITS = Limits(body=200_000, structures=5, atoms=40)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = make_app(limits=LIMITS)
    with TestClient(app, base_url="http://localhost:8765") as client:  # type: ignore[arg-type]
        yield client


def test_health_models_examples_and_metrics_answer(client) -> None:
    assert client.get("/health").json()["status"] == "ok"
    assert {"name", "predicts", "trained_on"} <= client.get("/models").json()[0].keys()
    assert len(client.get("/examples").json()) == 12
    assert "potnet_requests_total{" in client.get("/metrics").text


def test_predict_gives_the_rows_of_the_sheet(client, tmp_path) -> None:
    from potnet.io import read
    from potnet.sheet import make_sheet

    answer = client.post("/predict", json=SALT).json()
    (crystal,) = answer["crystals"]
    assert answer["failures"] == []
    assert crystal["space_group"] == "Fm-3m (225)"
    by_name = {row["property"]: row for row in crystal["rows"]}
    file = tmp_path / "salt.vasp"
    file.write_text(POSCAR)
    rows = make_sheet(read(file))
    assert [row.record() for row in rows] == list(by_name.values())


def test_many_structures_stream_line_by_line_in_order(client) -> None:
    body = {"structures": [SALT["structures"][0], BROKEN, SALT["structures"][0]]}
    answer = client.post("/predict", json=body, headers={"accept": "application/x-ndjson"})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["id"] for line in lines] == ["salt", "bad", "salt (2)"]
    assert lines[1]["stage"] == "read"
    assert lines[0]["rows"][0]["value"] == lines[2]["rows"][0]["value"]


def test_sums_are_those_of_the_library(client) -> None:
    asked = {**SALT["structures"][0], "potentials": ["coulomb"]}
    answer = client.post("/sums", json=asked).json()
    madelung = 2.82 * (answer["values"][0][1][0] - answer["values"][0][0][0])
    assert madelung == pytest.approx(1.7475645946, abs=1e-7)


def test_potentials_at_atoms_are_the_sums_over_all_others(client) -> None:
    asked = {**SALT["structures"][0], "potentials": ["coulomb", "london"]}
    pairs = client.post("/sums", json=asked).json()
    atoms = client.post("/sums", json={**asked, "per": "atom"}).json()
    assert atoms["units"] == ["1/Å", "Å^-6"]
    for row, own in zip(pairs["values"], atoms["values"], strict=True):
        assert own == pytest.approx([sum(pair) for pair in zip(*row, strict=True)], abs=1e-12)
    for one, many in zip(pairs["error_bound"], atoms["error_bound"], strict=True):
        assert 2 * one <= many <= 2 * one + 1e-12, "bounds add up"
    assert client.post("/sums", json={**asked, "per": "bond"}).status_code == 422


def test_numbers_of_atoms_that_a_text_states_are_told(client) -> None:
    text = (
        '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:forces:R:3:q:R:1\n'
        "Cs 0 0 0 0.3 0.4 0 1\nCl 2 2 2 0 0 2 -1\n"
    )
    for path in ("/check", "/predict"):
        answer = client.post(path, json={"structures": [{"name": "a.xyz", "content": text}]})
        told = answer.json()["crystals"][0]["atom_values"]
        assert told == [
            {"name": "forces, length", "values": [0.5, 2.0]},
            {"name": "q", "values": [1.0, -1.0]},
        ]


def test_bonds_reach_through_the_boundary_and_are_there_once(salts) -> None:
    found = drawn_bonds(salts[4])
    assert len(found) == 6, "rock salt: six neighbours for each pair of atoms"
    assert len(set(found)) == 6
    assert any(any(shift) for _, _, shift in found)


def test_nearest_crystals_have_their_known_values_the_same_one_first(client) -> None:
    found = client.post("/nearest", json=SALT["structures"][0]).json()["crystals"]
    assert found[0]["is_same"]
    assert (found[0]["formula"], found[0]["space_group"]) == ("NaCl", 225)
    assert found[0]["formation_energy"] < -1.5
    assert len(found) >= 8
    assert [c["distance"] for c in found] == sorted(c["distance"] for c in found)
    assert found[0]["example"] == "NaCl.cif", "of which there is a structure to be seen"


def test_shares_of_an_explanation_add_up_to_the_prediction(client) -> None:
    asked = {**SALT["structures"][0], "property": "formation_energy"}
    found = client.post("/explain", json=asked).json()
    shares = sum(sum(row) for row in found["by_channel_and_distance"])
    assert found["surroundings"] == pytest.approx(shares)
    assert sum(atom["share"] for atom in found["atoms"]) == pytest.approx(shares)
    assert found["total"] == pytest.approx(found["composition"] + shares, abs=1e-3)
    assert len(found["atoms"]) == 2
    assert client.post("/explain", json={**asked, "property": "density"}).status_code == 422


def test_stability_draws_the_hull_of_two_and_three_elements(client) -> None:
    asked = {"formula": "MgAl2O4", "formation_energy": -2.9, "lower": -3.0, "upper": -2.8}
    found = client.post("/stability", json=asked).json()
    assert found["diagram"]["elements"] == ["O", "Mg", "Al"]
    assert found["lower"] < found["energy_above_hull"] < found["upper"]
    names = [phase["formula"] for phase in found["diagram"]["phases"]]
    assert {"O", "Mg", "Al", "MgO", "Al2O3"} <= set(names)
    asked = {"formula": "NaCl", "formation_energy": -2.0}
    assert len(client.post("/stability", json=asked).json()["diagram"]["elements"]) == 2
    asked = {"formula": "Cu", "formation_energy": 0.1}
    assert client.post("/stability", json=asked).json()["diagram"] is None
    refused = client.post("/stability", json={"formula": "Xx", "formation_energy": 0})
    assert refused.status_code == 422


def test_a_landscape_is_a_potential_on_a_plane(client) -> None:
    asked = {**SALT["structures"][0], "potential": "london"}
    found = client.post("/landscape", json=asked).json()
    assert {atom["symbol"] for atom in found["atoms"]} == {"Na", "Cl"}
    values = [value for row in found["values"] for value in row]
    assert None in values, "inside atoms there is none"
    assert min(value for value in values if value is not None) > 0
    through = client.post("/landscape", json={**asked, "plane": [1, 0, 0]}).json()["plane"]
    assert through.startswith("(1 0 0)")
    wrong = client.post("/landscape", json={**asked, "plane": [0, 0, 0]})
    assert wrong.status_code == 422


def test_distributions_count_all_crystals_that_have_a_value(client) -> None:
    found = client.get("/distributions").json()
    assert found["formation_energy"]["n"] > 90_000
    assert found["energy_above_hull"]["zeros"] > 10_000, "on the hull"
    assert found["highest_phonon_frequency"]["n"] == 1265
    assert found["exfoliation_energy"]["n"] == 636
    assert len(found) == 10
    for one in found.values():
        assert one["source"]
        assert sum(one["counts"]) + one["zeros"] == one["n"]
        assert len(one["edges"]) == len(one["counts"]) + 1


def test_what_is_read_with_a_change_is_told(client) -> None:
    text = "data_x\n_cell_length_a 4.2\n_cell_length_b 4.2\n_cell_length_c 4.2\nloop_\n"
    text += (
        "_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\nPo1 0 0 0\n"
    )
    for path in ("/check", "/predict"):
        answer = client.post(path, json={"structures": [{"name": "po.cif", "content": text}]})
        told = answer.json()["crystals"][0]["warnings"]
        assert any("no symmetry is stated" in warning for warning in told)
        assert not any("/" in warning for warning in told), "no folder of this machine is named"


# What is sent, and the status that is right.
POST = {"content-type": "application/json"}
HOSTILE: list[tuple[str, str, dict[str, str], bytes, int]] = [
    ("GET", "/nothing", {}, b"", 404),
    ("GET", "/static/../app.py", {}, b"", 404),
    ("GET", "/static/%2e%2e/app.py", {}, b"", 404),
    ("GET", "/static//etc/passwd", {}, b"", 404),
    ("GET", "/static/..%2f..%2fcli%2fapp.py", {}, b"", 404),
    ("GET", "/examples/../../etc/passwd", {}, b"", 404),
    ("PUT", "/predict", POST, b"{}", 405),
    ("DELETE", "/models", {}, b"", 405),
    ("GET", "/predict", {}, b"", 405),
    ("OPTIONS", "/predict", {"origin": "https://evil.example"}, b"", 403),
    ("GET", "/health", {"host": "evil.example"}, b"", 421),
    ("GET", "/health", {"host": "localhost.evil.example"}, b"", 421),
    ("GET", "/health", {"host": "127.0.0.1@evil.example"}, b"", 421),
    ("GET", "/health", {"host": ""}, b"", 421),
    ("GET", "/health", {"host": "[::2]"}, b"", 421),
    ("POST", "/predict", POST | {"host": "192.168.0.7:8765"}, b"{}", 421),
    ("POST", "/predict", POST | {"origin": "https://evil.example"}, b"{}", 403),
    ("POST", "/predict", POST | {"origin": "null"}, b"{}", 403),
    ("POST", "/predict", POST | {"origin": "http://localhost:1"}, b"{}", 403),
    ("POST", "/predict", {"content-type": "text/plain"}, b"{}", 415),
    ("POST", "/predict", {"content-type": "application/x-www-form-urlencoded"}, b"a=b", 415),
    ("POST", "/predict", {"content-type": "multipart/form-data; boundary=x"}, b"--x--", 415),
    ("POST", "/predict", {}, b"{}", 415),
    ("POST", "/predict", POST | {"content-length": "99999999999999999999999"}, b"{}", 413),
    ("POST", "/predict", POST | {"content-length": "-1"}, b"{}", 413),
    ("POST", "/predict", POST, b"x" * 200_001, 413),
    ("POST", "/predict", POST, b"", 422),
    ("POST", "/predict", POST, b"{", 422),
    ("POST", "/predict", POST, b"null", 422),
    ("POST", "/predict", POST, b"[]", 422),
    ("POST", "/predict", POST, b"{}", 422),
    ("POST", "/predict", POST, b"\xff\xfe\x00", 400),
    ("POST", "/predict", POST, b"[" * 100_000, 400),
    ("POST", "/predict", POST, b'{"structures": []}', 422),
    ("POST", "/predict", POST, b'{"structures": "x"}', 422),
    ("POST", "/predict", POST, b'{"structures": [{"name": "x"}]}', 422),
    ("POST", "/predict", POST, b'{"structures": [{"content": 7}]}', 422),
    ("POST", "/predict", POST, b'{"structures": [{"content": "x", "path": "/etc/passwd"}]}', 422),
    ("POST", "/check", POST, b'{"structures": [{"content": "x"}], "models": ["/etc"]}', 422),
    ("POST", "/sums", POST, b'{"content": "x"}', 422),
    ("POST", "/sums", POST, json.dumps({"content": POSCAR, "tolerance": 0}).encode(), 422),
    ("POST", "/sums", POST, json.dumps({"content": POSCAR, "potentials": ["x"]}).encode(), 422),
    ("POST", "/sums", POST, json.dumps({"content": POSCAR, "potentials": []}).encode(), 422),
    ("POST", "/check", POST, json.dumps({"structures": SALT["structures"] * 6}).encode(), 422),
    ("POST", "/predict", POST | {"content-encoding": "gzip"}, b"\x1f\x8b\x08" + b"\0" * 20, 415),
    ("POST", "/predict", POST | {"content-encoding": "br"}, b"{}", 415),
    ("POST", "/nearest", POST, b'{"content": ""}', 422),
    ("POST", "/nearest", POST, json.dumps({"content": POSCAR, "n": 10**9}).encode(), 422),
    ("POST", "/landscape", POST, json.dumps({"content": POSCAR, "plane": [1, 0]}).encode(), 422),
    (
        "POST",
        "/landscape",
        POST,
        json.dumps({"content": POSCAR, "plane": [99, 0, 0]}).encode(),
        422,
    ),
    (
        "POST",
        "/landscape",
        POST,
        json.dumps({"content": POSCAR, "potential": "x" * 99}).encode(),
        422,
    ),
    ("POST", "/stability", POST, b'{"formula": "NaCl", "formation_energy": NaN}', 422),
    ("POST", "/stability", POST, b'{"formula": "NaCl", "formation_energy": 1e999}', 422),
    ("POST", "/stability", POST, b'{"formula": "Na)Cl(", "formation_energy": 0}', 422),
    (
        "POST",
        "/stability",
        POST,
        json.dumps({"formula": "A" * 201, "formation_energy": 0}).encode(),
        422,
    ),
    ("POST", "/sums", POST, b'{"content": "x", "tolerance": NaN}', 422),
]


@pytest.mark.parametrize(("method", "path", "headers", "body", "status"), HOSTILE)
def test_a_hostile_request_is_a_problem_with_a_sentence(
    client, method, path, headers, body, status
) -> None:
    answer = client.request(method, path, headers=headers, content=body or None)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["detail"].endswith(".")
    assert "Traceback" not in answer.text
    assert client.get("/health").status_code == 200, "nobody else is harmed"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\x00\x01",
        "\ud800",
        "data_" + "x" * 50_000,
        "9999999999\n\n",
        "{" * 2000,
        "[[[[",
        "=1+1",
    ],
)
@pytest.mark.parametrize("name", ["", "../../x.cif", "/etc/passwd", "a\x1b[2J.cif", "x" * 400])
def test_a_text_that_is_no_structure_is_a_failure_with_a_reason(client, content, name) -> None:
    body = json.dumps({"structures": [{"name": name, "content": content}]})
    answer = client.post("/check", content=body, headers=POST)
    assert answer.status_code == 200, answer.text
    assert answer.json()["crystals"] == []
    (failure,) = answer.json()["failures"]
    assert failure["reason"]
    assert "\x1b" not in answer.text
    assert "potnet-" not in answer.text, "no folder of this machine is named"


def test_a_crystal_of_too_many_atoms_is_a_failure(salts) -> None:
    many = salts[0].supercell([3, 3, 3])
    import potnet.io.json_files as records

    text = records.dumps([many.as_dict()])
    (found,) = read_texts([("many.json", text)], LIMITS)
    assert "at most 40 atoms" in found.item.reason  # type: ignore[union-attr]


def test_every_answer_forbids_foreign_scripts_and_frames(client) -> None:
    for path in ("/", "/health", "/static/page.js", "/nothing"):
        policy = client.get(path).headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
    assert "access-control-allow-origin" not in client.get("/health").headers


def test_another_address_needs_the_token() -> None:
    app = make_app(hosts=frozenset({"lab.example"}), token="s3cret")
    client = TestClient(app, base_url="http://lab.example")  # type: ignore[arg-type]
    assert client.get("/").status_code == 200
    assert client.get("/models").status_code == 401
    for wrong in ("Bearer s3cre", "Bearer ", "s3crets", "Basic s3cret"):
        assert client.get("/examples", headers={"authorization": wrong}).status_code == 401
    assert client.get("/examples?token=s3cret").status_code == 401
    answer = client.get("/examples", headers={"authorization": "Bearer s3cret"})
    assert answer.status_code == 200


def test_a_full_server_sends_others_away() -> None:
    app = make_app(limits=Limits(waiting=0))
    client = TestClient(app, base_url="http://localhost")  # type: ignore[arg-type]
    answer = client.post("/check", json=SALT)
    assert answer.status_code == 429
    assert "busy" in answer.json()["detail"]


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    app = make_app(limits=Limits(seconds=0.0))
    client = TestClient(app, base_url="http://localhost")  # type: ignore[arg-type]
    assert client.post("/check", json=SALT).status_code == 504


def test_what_breaks_is_a_problem_too(monkeypatch) -> None:
    from potnet.serve.answers import Answers

    def broken(*_: object) -> list:
        raise RuntimeError("secret")

    monkeypatch.setattr(Answers, "checked", broken)
    app = make_app(limits=LIMITS)
    client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)  # type: ignore[arg-type]
    answer = client.post("/check", json=SALT)
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text


def test_networks_compute_in_one_thread_as_predict_does(client) -> None:
    import threading

    import torch

    client.post("/predict", json=SALT)
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [1], "threads that begin later"


def test_the_description_of_the_interface_names_all_of_it(client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    wanted = {"/predict", "/check", "/sums", "/models", "/examples", "/health", "/metrics"}
    wanted |= {"/explain", "/nearest", "/stability", "/landscape", "/distributions"}
    assert wanted == set(paths)
