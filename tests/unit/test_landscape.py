"""Sums at points, planes through crystals, and the pictures made of both."""

import numpy as np
import pytest
import torch

import potnet
from latticesums import InversePower, Shell, Yukawa, unit_of
from latticesums.points import APART, _blocks
from potnet import ConfigError, Crystal
from potnet.report import (
    atoms_section,
    landscape,
    landscape_plot,
    miller_section,
    png,
    telling_section,
)
from potnet.report.landscape import CORE, VOLTS
from potnet.sums import pair_sums, parse_potential, point_sums


@pytest.fixture(scope="module")
def perovskite() -> Crystal:
    edge = 3.905
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Crystal([38, 22, 8, 8, 8], edge * np.array(places), edge * np.eye(3), id="SrTiO3")


@pytest.fixture(scope="module")
def skewed() -> Crystal:
    cell = np.array([[3.1, 0.2, -0.3], [1.4, 3.9, 0.5], [-0.8, 1.1, 4.6]])
    return Crystal([6, 8], np.array([[0.1, 0.2, 0.1], [0.5, 0.6, 0.4]]) @ cell, cell)


@pytest.mark.parametrize("potentials", [("coulomb", "london", "pauli"), (Yukawa(0.7), "pauli")])
def test_a_point_feels_what_an_atom_there_would_feel(skewed, potentials):
    points = np.random.default_rng(0).normal(size=(40, 3)) * 4
    far = [
        min(np.linalg.norm(p - q + s) for q in skewed.positions for s in images(skewed)) > CORE
        for p in points
    ]
    points = points[far]
    weights = np.array([1.0, -2.0])
    sums = point_sums(skewed, points, potentials, weights=weights, tolerance=1e-7)
    assert sums.values.shape == (len(points), len(potentials))
    assert (sums.error_bound <= 1e-7).all()
    for k in range(0, len(points), 7):
        sites = torch.tensor(np.vstack([skewed.positions, points[k]]))
        values = pair_sums(sites, torch.tensor(skewed.cell), potentials, tolerance=1e-9).values
        expected = weights @ values.view(3, 3, -1)[2, :2].numpy()
        assert np.abs(expected - sums.values[k]).max() <= 1e-7 + 3e-9


def images(crystal):
    return np.array(list(np.ndindex(7, 7, 7))) @ crystal.cell - 3 * crystal.cell.sum(0)


def test_points_that_share_a_crystal_are_apart(skewed):
    points = np.random.default_rng(1).normal(size=(500, 3)) * 3
    seen = np.zeros(500, dtype=int)
    shifts = images(skewed)
    for blocks in _blocks(points, skewed):
        for block in blocks:
            seen[block] += 1
            offsets = points[block][:, None] - points[block]
            r = np.linalg.norm(offsets[:, :, None] + shifts, axis=-1)
            assert np.sort(r.ravel())[len(block)] >= APART
    assert (seen == 1).all()


def test_points_beside_a_slab_feel_its_two_periods_alone():
    cell = np.array([[2.46, 0, 0], [-1.23, 2.1304, 0], [0, 0, 12.0]])
    graphene = Crystal([6, 6], [[0, 0, 6], [0, 1.4203, 6]], cell, pbc=(True, True, False))
    points = np.array([[0.3, 0.2, 8.0], [0.3, 0.2, 21.0], [2.46 + 0.3, 0.2, 8.0]])
    sums = point_sums(graphene, points, ("coulomb", "london"), tolerance=1e-7)
    assert np.abs(sums.values[0] - sums.values[2]).max() < 2e-7
    # far away a sheet of charge: the potential falls by 2 pi / area for each Å, without end
    slope = (sums.values[1, 0] - sums.values[0, 0]) / 13
    assert slope == pytest.approx(2 * -2 * np.pi / np.linalg.det(cell[:2, :2]), rel=0.01)
    assert sums.values[1, 1] < 1e-4


def test_a_slab_is_cut_across():
    cell = np.array([[2.46, 0, 0], [-1.23, 2.1304, 0], [0, 0, 12.0]])
    graphene = Crystal([6, 6], [[0, 0, 6], [0, 1.4203, 6]], cell, pbc=(True, True, False))
    section = miller_section(graphene, (1, 0, 0))
    assert len(section.steps) == 1
    assert not section.steps[0, 2]
    maps = landscape(graphene, ("pauli",), section=section, width=8, n=16)
    assert np.allclose(maps.values[0], maps.values[0][::-1], atol=2e-6, equal_nan=True)
    assert png(landscape_plot(maps)).startswith(b"\x89PNG")


def test_bad_points_and_weights_are_refused(skewed):
    with pytest.raises(ConfigError, match="`points` must have shape"):
        point_sums(skewed, np.zeros((4, 2)))
    with pytest.raises(ConfigError, match="`weights` must hold a number for each of 2 atoms"):
        point_sums(skewed, np.zeros((4, 3)), weights=np.ones(3))
    with pytest.raises(potnet.StructureError, match="apart"):
        point_sums(skewed, skewed.positions[:1])


def test_a_miller_plane_holds_its_lattice_vectors(skewed):
    for indices in [(1, 0, 0), (1, 1, 0), (1, -1, 2), (0, -3, 2)]:
        section = miller_section(skewed, indices, 1)
        assert np.abs(section.periods @ section.normal).max() < 1e-12
        assert (section.steps @ np.array(indices) == 0).all()
        assert section.normal @ section.normal == pytest.approx(1)
        assert np.allclose(section.periods, section.steps @ skewed.cell)
        assert section.periods[1] @ section.up > 0


def test_a_plane_through_three_atoms_holds_them(perovskite):
    section = atoms_section(perovskite, (1, 2, 3))
    found, places = section.atoms(perovskite, 4.0, 1e-9)
    assert {1, 2, 3} <= set(found.tolist())
    assert np.abs(places[:, 2]).max() < 1e-9


def test_atoms_of_a_section_are_all_that_are_near(skewed):
    section = miller_section(skewed, (1, 1, 1))
    found, places = section.atoms(skewed, 9.0, 0.8)
    axes = np.stack([section.across, section.up, section.normal])
    shifts = np.array(list(np.ndindex(21, 21, 21))) @ skewed.cell - 10 * skewed.cell.sum(0)
    expected = 0
    for position in skewed.positions:
        local = (position + shifts - section.origin) @ axes.T
        expected += (np.abs(local) <= [4.5 + 0.8, 4.5 + 0.8, 0.8]).all(1).sum()
    assert len(found) == len(places) == expected


def test_the_default_plane_shows_every_element(perovskite):
    section = telling_section(perovskite)
    found, _ = section.atoms(perovskite, 8.0, 0.01)
    assert set(perovskite.numbers[found]) == {8, 22, 38}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: miller_section(c, (0, 0, 0)), "must be three integers"),
        (lambda c: miller_section(c, (1, 0)), "must be three integers"),
        (lambda c: miller_section(c, (1, 0, 0), 9), "`atom` must lie between 0 and 4"),
        (lambda c: atoms_section(c, (0, 1)), "numbers of three atoms"),
        (lambda c: atoms_section(c, (1, 2, 2)), "not on a line"),
        (lambda c: landscape(c, width=0.1), "`width` must be 1 to 200"),
        (lambda c: landscape(c, charges={"Sr": 2}), "got none for O, Ti"),
    ],
)
def test_bad_planes_windows_and_charges_are_refused(perovskite, call, message):
    with pytest.raises(ConfigError, match=message):
        call(perovskite)


def test_the_map_repeats_with_the_lattice_and_is_empty_inside_atoms(perovskite):
    section = miller_section(perovskite, (0, 0, 1), 1)
    n = 30
    maps = landscape(perovskite, section=section, width=2 * 3.905, n=n)
    assert maps.values.shape == (3, n, n)
    half = n // 2
    assert np.allclose(maps.values[:, :half], maps.values[:, half:], atol=2e-6, equal_nan=True)
    flat = section.points(2 * 3.905, n).reshape(n, n, 3) - section.origin
    assert np.isnan(maps.values[:, np.linalg.norm(flat, axis=2) < CORE]).all()
    assert (maps.error_bound <= 1e-6).all()
    assert maps.units == ("1/Å", "Å^-6", "")


def test_charges_give_the_potential_in_volts(perovskite):
    section = miller_section(perovskite, (0, 0, 1), 1)
    charges = {"Sr": 2, "Ti": 4, "O": -2}
    maps = landscape(perovskite, ("coulomb",), section=section, charges=charges, n=12)
    points = section.points(maps.width, 12)
    outside = np.isfinite(maps.values[0].ravel())
    weights = np.array([2.0, 4.0, -2.0, -2.0, -2.0])
    sums = point_sums(perovskite, points[outside], ("coulomb",), weights=weights)
    assert np.allclose(maps.values[0].ravel()[outside], VOLTS * sums.values[:, 0], atol=1e-12)
    assert maps.units == ("V",)


def test_the_picture_has_a_panel_a_bar_and_labels_for_each_potential(perovskite):
    maps = landscape(perovskite, ("coulomb", "london", Yukawa(1.0), "pauli"), n=40)
    figure = landscape_plot(maps)
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 4
    for axes in panels:
        names = {text.get_text() for text in axes.texts}
        assert {"Sr", "Ti", "O"} <= names
        assert len(axes.child_axes) == 1
    low, high = panels[0].images[0].get_clim()
    assert low == -high  # white is zero
    assert png(figure).startswith(b"\x89PNG")


def test_potentials_are_read_from_text():
    assert parse_potential("inverse-power:4") == InversePower(4)
    assert parse_potential("Yukawa:0.5") == Yukawa(0.5)
    assert parse_potential("shell:2,0.5,6") == Shell(2, 0.5, 6)
    assert parse_potential("london").name == "london"
    units = [unit_of(parse_potential(x)) for x in ("coulomb", "inverse-power:4", "pauli")]
    assert units == ["1/Å", "Å^-4", ""]
    assert unit_of(parse_potential("lennard-jones:0.2,3")) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gravity", "one of .*coulomb, "),
        ("potential", "one of .*coulomb, "),
        ("yukawa", "must be written as yukawa:RATE"),
        ("shell:1,2", "must be written as shell:CENTER,WIDTH,CUTOFF"),
        ("coulomb:1", "must be written as coulomb, got"),
        ("yukawa:x", "must be written as yukawa:RATE"),
        ("inverse-power:-3", "`exponent` must be a number larger than 0"),
    ],
)
def test_bad_text_for_a_potential_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_potential(text)
