"""``potnet convert``: what was read, in another format, with a table of what it is."""

from pathlib import Path

from typer.testing import CliRunner

from potnet import io
from potnet.cli import app

CORPUS = Path(__file__).parents[1] / "reliability" / "corpus"


def run(*words: object):
    return CliRunner().invoke(app, ["convert", *map(str, words)])


def test_a_file_is_written_in_another_format_and_shown(tmp_path):
    done = run(CORPUS / "shelx.res", "-o", tmp_path / "urea.cif")
    assert done.exit_code == 0, done.output
    (crystal,) = io.read(tmp_path / "urea.cif")
    assert (crystal.n_atoms, crystal.space_group().number) == (16, 113)
    for fact in ("CN2H4O", "16", "P -4 2_1 m (113)", "1.375 g/cm^3"):
        assert fact in done.output


def test_a_folder_takes_a_file_for_each_crystal_and_bad_ones_are_named(tmp_path):
    names = ["my_POSCAR", "it_only_225.cif", "tag_twice_different.cif"]
    done = run(*(CORPUS / name for name in names), "-o", tmp_path / "out", "--to", "vasp")
    assert done.exit_code == 3
    assert "tag_twice_different [read]: tag_twice_different.cif: a tag must have" in done.output
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["it_only_225.vasp", "my_POSCAR.vasp"]
    assert io.read(tmp_path / "out" / "my_POSCAR.vasp")[0].symbols == ["Ti", "Ti"]


def test_species_are_supplied_and_a_folder_needs_a_format(tmp_path):
    assert run(CORPUS / "my_CONTCAR", "-o", tmp_path / "a.cif").exit_code == 3
    done = run(CORPUS / "my_CONTCAR", "-o", tmp_path / "a.cif", "--species", "B,N")
    assert done.exit_code == 0, done.output
    assert io.read(tmp_path / "a.cif")[0].formula == "BN"
    done = run(CORPUS / "my_POSCAR", "-o", tmp_path)
    assert done.exit_code == 1
    assert "`--to` must be one of cif, vasp" in done.output


def test_what_is_read_is_never_written_over(tmp_path):
    source = (CORPUS / "it_only_225.cif").read_bytes()
    (tmp_path / "it_only_225.cif").write_bytes(source)
    for _ in range(2):  # a second call would read what the first wrote
        done = run(tmp_path, "-o", tmp_path, "--to", "vasp")
    assert "must not be what is read" in done.output
    (tmp_path / "it_only_225.vasp").unlink()
    for paths in ([tmp_path], [f"{tmp_path}/*.cif"], [tmp_path / "it_only_225.cif"]):
        done = run(*paths, "-o", tmp_path, "--to", "cif")
        assert done.exit_code == 1
        assert "must not be what is read" in done.output
    done = run(tmp_path, "-o", tmp_path / "it_only_225.cif")
    assert "must not be what is read" in done.output
    assert (tmp_path / "it_only_225.cif").read_bytes() == source
