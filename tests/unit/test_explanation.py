"""Shares of a prediction add up, however the crystal is written, and say what they should."""

import json

import numpy as np
import pytest
import torch

import potnet
from potnet.crystal import Crystal
from potnet.errors import ConfigError, Failure, ModelError, StructureError
from potnet.explanation import Explainer, Explanation
from potnet.features.by_distance import by_distance
from potnet.features.complete import CompleteFeatures
from potnet.models import registry
from potnet.models.card import DataCard, ModelCard, TargetCard
from potnet.models.contract import Network
from potnet.prediction import Predictor
from potnet.testing import WRITINGS, crystals

CRYSTALS = crystals()
SMALL = {"width": 16, "vectors": 8, "n_layers": 2}


def predictor(network: str = "completenet", n_members: int = 2, **changes) -> Predictor:
    """Return networks with random weights that are strong enough to be non-linear."""
    settings = changes.pop("settings", SMALL if network == "completenet" else None)
    targets = changes.pop("targets", (TargetCard(name="energy", unit="eV/atom", mean=-1, std=2),))
    members = []
    for seed in range(n_members):
        torch.manual_seed(seed)
        member = registry.build(network, settings, len(targets)).eval()
        if member.references is not None:
            torch.nn.init.normal_(member.references.weight)
        members.append(member)
    card = ModelCard(
        network=network,
        settings=members[0].settings.model_dump(mode="json"),
        targets=targets,
        data=DataCard(
            name="none", n_train=1, elements=("O",), max_atoms=9, volume_per_atom=(1.0, 99.0)
        ),
        **changes,
    )
    return Predictor(members, card)


@pytest.fixture(scope="module")
def model() -> Predictor:
    return predictor()


def explained(model: Predictor, crystal: Crystal) -> Explanation:
    return Explainer(model, n_known=0).explain(crystal)[0]


@pytest.mark.parametrize("name", CRYSTALS)
def test_the_shares_add_up_to_the_prediction(model, name):
    found = explained(model, CRYSTALS[name])
    parts = (found.composition, found.surroundings, found.combination, found.residual)
    assert sum(parts) == pytest.approx(found.total, abs=1e-12)
    assert abs(found.residual) < 1e-6 * 2
    assert found.total == pytest.approx(found.prediction.prediction, abs=1e-5)
    for view in (found.by_channel, found.by_pair, found.by_atom):
        assert view.sum() == pytest.approx(found.surroundings, abs=1e-12)
    assert sum(found.by_element.values()) == pytest.approx(found.surroundings, abs=1e-12)


def test_each_kind_of_share_adds_up_to_the_same(model):
    found = explained(model, CRYSTALS["rutile"])
    totals: dict[str, float] = {}
    for share in found.shares():
        totals[share.kind] = totals.get(share.kind, 0.0) + share.share
    for kind in ("channel", "channel and distance", "distance", "element", "atom"):
        assert totals[kind] == pytest.approx(found.surroundings, abs=1e-12)
    assert totals["pair of elements"] == pytest.approx(found.surroundings, abs=1e-12)


@pytest.mark.parametrize("write", WRITINGS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("name", ["rutile", "triclinic", "layered"])
def test_shares_do_not_depend_on_how_the_crystal_is_written(model, name, write):
    expected = explained(model, CRYSTALS[name])
    found = explained(model, write(CRYSTALS[name], 1))
    np.testing.assert_allclose(found.by_channel, expected.by_channel, rtol=0, atol=1e-6)
    assert found.by_element == pytest.approx(expected.by_element, abs=1e-6)
    n_copies = found.n_atoms // expected.n_atoms
    per_atom = np.repeat(np.sort(expected.by_atom.sum(1)), n_copies) / n_copies
    np.testing.assert_allclose(np.sort(found.by_atom.sum(1)), per_atom, rtol=0, atol=1e-6)
    assert found.sensitivity.volume == pytest.approx(expected.sensitivity.volume, abs=1e-8)
    moved = np.repeat(np.sort(expected.sensitivity.atoms), n_copies) / n_copies
    np.testing.assert_allclose(np.sort(found.sensitivity.atoms), moved, rtol=0, atol=1e-8)


@pytest.mark.parametrize("channel", ["coulomb", "shells", "directed shells"])
def test_a_channel_without_weight_has_no_share(channel):
    model = predictor(n_members=1)
    kinds = np.array(model.features.kinds)
    scalars, directed = kinds != "directed shells", kinds == "directed shells"
    with torch.no_grad():
        for layer in model.members[0].layers:
            if channel == "directed shells":
                layer.directions.filters.weight[:] = 0
            else:
                layer.filters.weight[:, torch.from_numpy(kinds[scalars] == channel)] = 0
    assert scalars.sum() + directed.sum() == model.features.n_channels
    found = explained(model, CRYSTALS["triclinic"])
    shares = dict(zip(found.channels, np.abs(found.by_channel).sum(1), strict=True))
    assert shares.pop(channel) == 0
    assert all(share > 0 for share in shares.values())


def test_ranges_of_distances_hold_the_images_that_lie_in_them():
    """Rock salt: six neighbours of the other kind at 2.82 Å, twelve of its own at 3.99 Å."""
    features = CompleteFeatures()
    found = by_distance(features, CRYSTALS["rock salt"], (2.8, 3.0, 4.1)).parts
    kinds = np.array(features.kinds)
    london = found[:, :, int(np.flatnonzero(kinds == "london")[0])].numpy()
    own, other = 10 * 12 * (2.82 * 2**0.5) ** -6, 10 * 6 * 2.82**-6
    np.testing.assert_allclose(london[0], 0, atol=1e-12)
    np.testing.assert_allclose(london[1], [0, other, other, 0], rtol=1e-9)
    np.testing.assert_allclose(london[2], [own, 0, 0, own], rtol=1e-9)
    assert (london[3] > 0).all()


@pytest.mark.parametrize("merged", [1e-5, None])
def test_ranges_add_up_to_the_complete_sums(merged):
    features = CompleteFeatures(merge_tolerance=merged, degree=2, long_range=("coulomb to 6",))
    found = by_distance(features, CRYSTALS["rutile"], (3.0, 6.0, 8.0))
    assert len(found.batch.numbers) == (2 if merged else 6)
    whole = features([CRYSTALS["rutile"]]).pairs["complete"].values.double()
    torch.testing.assert_close(found.parts.sum(0), whole, rtol=0, atol=1e-12)
    assert (found.parts[2:] == 0).all()  # Shells and the cut-off potential end at 6 Å.


def test_the_median_of_networks_is_said_beside_their_mean():
    one = explained(predictor(n_members=3), CRYSTALS["triclinic"])
    outputs = [explained(predictor(n_members=n), CRYSTALS["triclinic"]) for n in (1, 2)]
    assert one.combination != 0
    mean = explained(predictor(n_members=3, combine="mean"), CRYSTALS["triclinic"])
    assert mean.combination == 0
    assert one.total - one.combination == pytest.approx(mean.total, abs=1e-12)
    np.testing.assert_allclose(one.parts[:2], outputs[1].parts, rtol=0, atol=1e-10)
    spreads = {share.spread for share in outputs[0].shares()}
    assert all(np.isnan(spread) for spread in spreads)
    assert all(s.spread >= 0 for s in one.shares() if s.kind == "channel")


@pytest.mark.parametrize(
    ("transform", "unit", "restore"),
    [
        ("log10", "log10(GPa)", lambda x: 10**x),
        ("nonnegative", "GPa", lambda x: max(x, 0)),
        ("binary", "logit", lambda x: 1 / (1 + np.exp(-x))),
    ],
)
def test_shares_are_in_the_numbers_that_the_network_learned(transform, unit, restore):
    target = TargetCard(name="x", unit="GPa", transform=transform, std=0.5)
    found = explained(predictor(targets=(target,)), CRYSTALS["triclinic"])
    assert found.unit == unit
    assert found.space
    assert restore(found.total) == pytest.approx(found.prediction.prediction, rel=1e-5)
    assert found.composition + found.surroundings != pytest.approx(found.prediction.prediction)


def test_references_are_the_linear_part_of_the_composition():
    model = predictor(n_members=1, settings=SMALL | {"per_formula": True})
    before = explained(model, CRYSTALS["rutile"])
    table = model.members[0].references.weight
    rows = {"Ti": (22, 1 / 3), "O": (8, 2 / 3)}
    for symbol, (row, share) in rows.items():
        expected = 2 * share * float(table[row, 0] + table[row + 119, 0] / 3)
        assert before.references[symbol] == pytest.approx(expected, rel=1e-6)
    with torch.no_grad():
        table[:] = 0
    after = explained(model, CRYSTALS["rutile"])
    left = before.composition - sum(before.references.values())
    assert after.composition == pytest.approx(left, abs=1e-6)
    np.testing.assert_allclose(after.parts, before.parts, rtol=0, atol=1e-10)


def test_a_network_that_sees_no_surroundings_is_all_composition():
    found = explained(predictor(settings=SMALL | {"n_layers": 0}), CRYSTALS["rutile"])
    assert (found.parts == 0).all()
    assert found.composition + found.combination == pytest.approx(found.total, abs=1e-12)


def test_several_targets_are_explained_or_the_ones_that_are_named():
    cards = (TargetCard(name="gap", unit="eV"), TargetCard(name="gap > 0.01", unit=""))
    model = predictor(targets=cards)
    both = potnet.explain(CRYSTALS["rutile"], model, n_known=0)
    assert [e.prediction.property for e in both] == ["gap", "gap > 0.01"]
    (one,) = potnet.explain(CRYSTALS["rutile"], model, properties=["gap > 0.01"], n_known=0)
    np.testing.assert_array_equal(one.parts, both[1].parts)
    with pytest.raises(ConfigError, match="must be one of gap, gap > 0.01, got nonsense"):
        Explainer(model, ["nonsense"])


def test_models_of_single_layers_are_explained_on_a_layer():
    explainer = Explainer("exfoliation-energy", n_known=0)
    bulk = CRYSTALS["layered"].supercell((1, 1, 2)).replace(id="MoS2")
    (found,) = explainer.explain(bulk)
    assert (found.property, found.n_atoms) == ("exfoliation_energy", 3)
    assert found.surroundings == pytest.approx(found.by_atom.sum(), abs=1e-12)
    with pytest.raises(StructureError, match="must consist of layers"):
        explainer.explain(CRYSTALS["copper"])


def test_networks_that_read_no_complete_sums_are_refused():
    with pytest.raises(ModelError, match="must read complete sums .*, got potnet"):
        Explainer(predictor("potnet"))


def test_edges_must_ascend(model):
    for edges in ((5.0, 3.0), (0.0, 3.0), (3.0, float("nan"))):
        with pytest.raises(ConfigError, match="`edges` must ascend"):
            Explainer(model, edges=edges)
    assert explained(model, CRYSTALS["copper"]).distances[-1] == "beyond 8 Å"
    found = Explainer(model, edges=(), n_known=0).explain(CRYSTALS["copper"])[0]
    assert found.distances == ("beyond 0 Å",)


def test_a_bad_crystal_does_not_stop_the_others(model):
    large = CRYSTALS["triclinic"].supercell((5, 5, 3))
    moved = large.positions + 0.05 * np.random.default_rng(0).standard_normal((225, 3))
    surface = CRYSTALS["copper"].replace(pbc=[True, True, False], id="slab")
    items = [surface, Failure("x.cif", "read", "no atoms"), CRYSTALS["copper"],
             large.replace(positions=moved, id="large")]  # fmt: skip
    found = list(Explainer(model, n_known=0).stream(items))
    assert [type(item) for item in found] == [Failure, Failure, Explanation, Failure]
    assert "`pbc` must be true" in found[0].reason
    assert "at most 200 atoms to be explained, got 225" in found[3].reason
    with pytest.raises(StructureError, match="`pbc`"):
        potnet.explain(items, model)


def test_all_of_it_is_json(model):
    found = Explainer(model).explain(CRYSTALS["rock salt"])[0]
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert record["formula"] == "NaCl"
    shares = sum(atom["share"] for atom in record["atoms"])
    assert shares == pytest.approx(record["surroundings"])
    assert sum(sum(pair["by_channel"].values()) for pair in record["pairs"]) == pytest.approx(
        record["surroundings"]
    )
    assert record["sensitivity"]["strain"].keys() == {"xx", "yy", "zz", "yz", "xz", "xy"}
    assert len(record["known"]) == 5
    assert record["same"][0]["formula"] == "NaCl"
    assert record["lower"] is None  # This model was never calibrated.


def test_a_network_of_others_that_reads_complete_sums_is_explained():
    class Mean(Network):
        """The mean of the square of the shells and of the Coulomb sums."""

        name = "mean"
        Settings = type(predictor().members[0].settings)

        def __init__(self, settings=None, n_targets=1):
            super().__init__(settings or self.Settings(), n_targets)
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, batch):
            pairs = batch.pairs["complete"]
            values = pairs.values[:, [3, 16]] ** 2
            owner = batch.graph_index[batch.edge_index("complete")[0]]
            weights = batch.weights[batch.edge_index("complete")[0]]
            totals = values.new_zeros(len(batch), 2).index_add(0, owner, weights[:, None] * values)
            return self.weight * totals.sum(1, keepdim=True)

    model = predictor(n_members=1)
    model = Predictor([Mean()], model.card)
    cell = CRYSTALS["triclinic"]
    found = explained(model, cell)
    sums = model.features([cell]).pairs["complete"].values.double()[:, [3, 16]] ** 2
    expected = 2 * sums.sum(0) / cell.n_atoms  # Of a square, the integral is the square.
    shares = dict(zip(found.channels, found.by_channel.sum(1), strict=True))
    assert shares["shells"] == pytest.approx(float(expected[0]), abs=1e-6)
    assert shares["coulomb"] == pytest.approx(float(expected[1]), abs=1e-6)
