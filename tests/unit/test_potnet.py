"""PotNet and what it reads."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from potnet.crystal import Crystal
from potnet.errors import StructureError
from potnet.features.batch import Batch, Pairs
from potnet.features.potnet import PotNetFeatures
from potnet.models.potnet import GROUPS, CountedBatchNorm, PotNet, PotNetSettings

FCC = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
SALT = Crystal([11, 17], [[0, 0, 0], [2.82, 0, 0]], 2.82 * FCC, id="salt")
COPPER = Crystal([29], [[0, 0, 0]], 1.805 * FCC, id="copper")
# Two symmetry-equivalent atoms in a cell of their own kind, and one that is different.
CHAIN = Crystal(
    [6, 6, 8], [[0.9, 0, 0], [-0.9, 0, 0], [0, 2.2, 0]], [[4, 0, 0], [0, 5, 0], [0, 0, 6]]
)
CRYSTALS = (SALT, COPPER, CHAIN)
VARIANTS = ("default", "transformer", "euclidean")


def small_settings(**settings) -> PotNetSettings:
    return PotNetSettings(width=16, n_bond_centers=32, n_potential_centers=8, **settings)


def built(settings: PotNetSettings) -> PotNet:
    torch.manual_seed(0)
    return PotNet(settings).double()


def as_float64(batch: Batch) -> Batch:
    tensors = batch.to_tensors()
    return Batch.from_tensors(
        {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()}
    )


def spread(batch: Batch) -> Batch:
    """Return the same batch with every merged pair written out."""
    pairs = {}
    for name, merged in batch.pairs.items():
        counts = merged.values[:, -1].long()
        values = merged.values.clone()
        values[:, -1] = 1
        columns = (c.repeat_interleave(counts, 0) for c in (merged.i, merged.j, values))
        graph = torch.arange(len(merged.counts)).repeat_interleave(merged.counts)
        pairs[name] = Pairs(*columns, torch.bincount(graph.repeat_interleave(counts)))
    return Batch(batch.numbers, batch.weights, batch.node_counts, batch.atom_counts, pairs)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("training", [True, False])
def test_merging_equal_pairs_does_not_change_the_function(variant, training):
    batch = as_float64(PotNetFeatures(published=True)(CRYSTALS))
    outputs = []
    for form in (batch, spread(batch)):
        network = built(small_settings(variant=variant)).train(training)
        outputs.append((network(form), dict(network.named_buffers())))
    (merged, state), (written_out, other_state) = outputs
    assert spread(batch).pairs["local"].i.numel() > 3 * batch.pairs["local"].i.numel()
    torch.testing.assert_close(merged, written_out, rtol=0, atol=1e-12)
    for name in state:
        torch.testing.assert_close(state[name], other_state[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("training", [True, False])
def test_merging_equivalent_atoms_does_not_change_the_function(variant, training):
    network = built(small_settings(variant=variant)).train(training)
    outputs = []
    for merge_orbits in (True, False):
        batch = PotNetFeatures(merge_orbits=merge_orbits, tolerance=1e-11)(CRYSTALS)
        outputs.append((batch.numbers.numel(), network(as_float64(batch))))
    (n_nodes, merged), (n_atoms, plain) = outputs
    assert (n_nodes, n_atoms) == (5, 6)
    # The features are rounded to float32; batch statistics over few nodes enlarge it.
    torch.testing.assert_close(merged, plain, rtol=0, atol=1e-5 if training else 1e-6)


def test_counted_batch_norm_is_batch_norm_of_the_rows_written_out():
    torch.manual_seed(1)
    rows, count = torch.randn(5, 3, dtype=torch.float64), torch.tensor([1.0, 3, 2, 1, 4]).double()
    counted, plain = CountedBatchNorm(3).double(), torch.nn.BatchNorm1d(3).double()
    expected = plain(rows.repeat_interleave(count.long(), 0))
    starts = (count.cumsum(0) - count).long()
    torch.testing.assert_close(counted(rows, count), expected[starts])
    torch.testing.assert_close(counted.running_mean, plain.running_mean)
    torch.testing.assert_close(counted.running_var, plain.running_var)
    assert counted.num_batches_tracked == 1


def test_gradients_reach_every_parameter():
    for variant in VARIANTS:
        network = built(small_settings(variant=variant))
        network(as_float64(network.features(CRYSTALS))).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_outputs_are_one_row_per_crystal_and_one_column_per_target():
    network = PotNet(small_settings(), n_targets=3)
    assert network(network.features(CRYSTALS)).shape == (3, 3)


def test_every_element_is_in_one_group():
    assert sorted(number for numbers in GROUPS.values() for number in numbers) == list(
        range(1, 119)
    )


def test_each_atom_has_its_shells_of_neighbours():
    local = PotNetFeatures()([SALT]).pairs["local"]
    assert local.values[local.i == 0].tolist() == [
        pytest.approx([2.82 * 2**0.5, 12.0]),
        pytest.approx([2.82, 6.0]),
    ]
    local = PotNetFeatures(n_neighbors=12)([COPPER]).pairs["local"]
    assert local.values.tolist() == [pytest.approx([1.805 * 2**0.5, 12.0])]


def test_shells_do_not_depend_on_noise_in_the_positions():
    rng = np.random.default_rng(0)
    network = built(small_settings(features=PotNetFeatures(tolerance=1e-10))).eval()
    cell = SALT.supercell((2, 1, 1))
    noise = 1e-7 * rng.standard_normal(cell.positions.shape)
    noisy = cell.replace(positions=cell.positions + noise)
    exact, found = network(as_float64(network.features([cell, noisy])))
    assert abs(exact - found) < 1e-5


def test_neighbours_are_found_in_extreme_cells():
    needle = Crystal([6], [[0, 0, 0]], np.diag([1.2, 60.0, 60.0]))
    sheared = Crystal([6], [[0, 0, 0]], [[3, 0, 0], [12, 3, 0], [27, -12, 3]])
    cube = Crystal([6], [[0, 0, 0]], np.diag([3.0, 3.0, 3.0]))
    features = PotNetFeatures(primitive=False)
    distances = features([needle]).pairs["local"].values
    np.testing.assert_allclose(distances[:, 0], 1.2 * np.arange(1, 9), rtol=1e-6)
    np.testing.assert_allclose(
        features([sheared]).pairs["local"].values, features([cube]).pairs["local"].values, rtol=1e-6
    )


def test_the_mended_form_refuses_an_element_without_descriptors():
    crystal = Crystal([101], [[0, 0, 0]], 2 * FCC, id="x.cif")
    with pytest.raises(StructureError, match=r"x\.cif: elements .* got Md \(Z = 101\)"):
        PotNetFeatures()([crystal])


def test_the_published_form_describes_heavier_elements_as_fermium():
    settings = small_settings(features=PotNetFeatures(published=True))
    heavy, fermium = (Crystal([z], [[0, 0, 0]], 2 * FCC) for z in (101, 100))
    network = PotNet(settings).eval()
    one, other = network(network.features([heavy, fermium]))
    assert one == other


@pytest.mark.parametrize("published", [True, False])
def test_a_slab_that_does_not_repeat_is_refused(published):
    slab = SALT.replace(pbc=[True, True, False])
    with pytest.raises(StructureError, match="pbc"):
        PotNetFeatures(published=published)([slab])


def test_the_published_form_takes_the_cell_as_it_is():
    batch = PotNetFeatures(published=True)([SALT.supercell((2, 2, 2))])
    assert batch.numbers.numel() == 16
    assert PotNetFeatures()([SALT.supercell((2, 2, 2))]).numbers.numel() == 2


@pytest.mark.parametrize("wrong", [{"cutof": 3}, {"n_neighbors": 0}, {"version": 2}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        PotNetFeatures(**wrong)
