"""The fused messages are the plain tensor algebra."""

import json

import pytest
import torch

from potnet.models import matrix_messages
from potnet.models import messages as module
from potnet.models.matrix_messages import PairMatrix
from potnet.models.messages import SumLists, messages, prepared


def some_pairs(counts, components, n_sums, n_channels, seed=0):
    """All ordered pairs of crystals of ``counts`` nodes, with random sums, weights and states."""
    generator = torch.Generator().manual_seed(seed)
    i, j, first = [], [], 0
    for n in counts:
        nodes = torch.arange(first, first + n)
        i.append(nodes.repeat_interleave(n))
        j.append(nodes.repeat(n))
        first += n
    i = torch.cat([*i, torch.empty(0, dtype=torch.long)])
    j = torch.cat([*j, torch.empty(0, dtype=torch.long)])
    sums = torch.randn(len(i), components, n_sums, generator=generator)
    weight = torch.randn(n_channels, n_sums, generator=generator)
    states = torch.randn(first, n_channels, generator=generator)
    return sums, weight, states, i, j


def with_gradients(sums, weight, states, i, j):
    weight, states = weight.clone().requires_grad_(), states.clone().requires_grad_()
    result = messages(prepared(sums, i, j, len(states)), weight, states, i, j)
    probe = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view(result.shape)
    (result * probe).sum().backward()
    return result.detach(), weight.grad, states.grad


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("components", "n_sums", "n_channels"), [(1, 19, 128), (3, 16, 32), (1, 1, 1), (3, 5, 7)]
)
def test_fused_messages_and_their_gradients_are_those_of_tensor_algebra(
    components, n_sums, n_channels, threads
):
    inputs = some_pairs([1, 40, 3, 60, 2, 50, 1], components, n_sums, n_channels)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        fused = with_gradients(*inputs)
    finally:
        torch.set_num_threads(before)
    exact = with_gradients(*(t.double() if t.is_floating_point() else t for t in inputs))
    for got, expected in zip(fused, exact, strict=True):
        scale = expected.abs().max()
        assert (got - expected).abs().max() < 1e-5 * scale


def test_strided_sums_are_read_where_they_lie():
    sums, weight, states, i, j = some_pairs([3, 5], 3, 4, 8)
    wide = torch.cat([sums, sums + 1], -1)
    expected, _, _ = with_gradients(sums, weight, states, i, j)
    for part in (wide[..., :4], wide.repeat_interleave(2, -1)[..., :8:2]):
        found, _, _ = with_gradients(part, weight, states, i, j)
        assert torch.equal(found, expected)


def test_pairs_may_come_in_any_order():
    sums, weight, states, i, j = some_pairs([3, 5, 1], 3, 4, 8)
    order = torch.randperm(len(i), generator=torch.Generator().manual_seed(1))
    found = with_gradients(sums[order], weight, states, i[order], j[order])
    for got, expected in zip(found, with_gradients(sums, weight, states, i, j), strict=True):
        torch.testing.assert_close(got, expected)


def test_what_is_too_small_to_count_costs_nothing_and_changes_nothing():
    sums, weight, states, i, j = some_pairs([6, 9], 3, 5, 32)
    sparse = torch.where(sums > 0, sums, 0)
    tiny = torch.where(sums > 0, sums, 1e-40)  # the end of a Gaussian, without a mantissa
    for got, expected in zip(
        with_gradients(tiny, weight, states, i, j),
        with_gradients(sparse, weight, states, i, j),
        strict=True,
    ):
        assert torch.equal(got, expected)
    listed = prepared(tiny, i, j, 15)
    assert listed.received.n_entries == listed.sent.n_entries == int((sums > 0).sum())


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_left_out(wrong):
    sums, weight, states, i, j = some_pairs([3, 2], 1, 4, 40)
    sums[5, 0, 2] = wrong
    received, *_ = with_gradients(sums, weight, states, i, j)
    assert not received[i[5]].isfinite().any()
    others = [n for n in range(5) if n != i[5]]
    assert received[others].isfinite().all()


def test_no_pairs_give_no_messages():
    sums, weight, states, i, j = some_pairs([], 1, 4, 8)
    states = torch.ones(3, 8)
    received, by_weight, by_states = with_gradients(sums, weight, states, i, j)
    assert received.shape == (3, 1, 8)
    assert not any(found.any() for found in (received, by_weight, by_states))


def test_derivatives_by_the_sums_are_those_of_tensor_algebra():
    sums, weight, states, i, j = some_pairs([3, 4], 3, 4, 8)
    sums.requires_grad_()
    received = messages(prepared(sums, i, j, 7), weight, states, i, j)
    (by_sums,) = torch.autograd.grad(received.sum(), sums)
    expected = torch.einsum("ck,pc->pk", weight, states[j])[:, None].expand_as(sums)
    torch.testing.assert_close(by_sums, expected)


def test_what_is_shipped_was_made_of_this_source():
    made = json.loads((module.SHIPPED / "made.json").read_text())
    assert made["sources"] == module.fingerprint(), "run scripts/make_kernels.py"
    assert {path.name for path in module.SHIPPED.glob("*.xz")} == {
        f"{name}.bc.xz" for name in module.KERNELS
    }


@pytest.mark.slow
def test_shipped_messages_are_those_of_numba_to_the_last_bit(monkeypatch):
    inputs = some_pairs([1, 40, 3, 60], 3, 17, 128)
    found = []
    for shipped in (module.shipped, lambda *_, **__: None):
        module._kernel.cache_clear()
        monkeypatch.setattr(module, "shipped", shipped)
        found.append(with_gradients(*inputs))
    module._kernel.cache_clear()
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_messages_in_one_crystal_are_those_of_its_pairs(monkeypatch, dtype):
    sums, weight, states, i, j = some_pairs([7], 3, 5, 11)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for in_cache in (1, 3200, 2**20):  # one node at a time, two or four, all
        monkeypatch.setattr(matrix_messages, "_IN_CACHE", in_cache)
        found, expected = [], []
        for result, is_matrix in ((found, True), (expected, False)):
            kind = dtype if is_matrix else torch.float64
            given = [t.to(kind).requires_grad_() for t in (sums, weight, states)]
            read = prepared(given[0], i, j, 7) if is_matrix else given[0]
            assert isinstance(read, PairMatrix) == is_matrix
            received = messages(read, *given[1:], i, j)
            result += [received.detach(), *torch.autograd.grad((received**2).sum(), given)]
        for one, other in zip(found, expected, strict=True):
            assert torch.allclose(one.double(), other, rtol=tolerance, atol=100 * tolerance)


def test_messages_in_one_crystal_have_second_derivatives():
    *given, i, j = some_pairs([3], 2, 2, 3)
    given = [t.double().requires_grad_() for t in given]

    def received(sums, weight, states):
        return messages(prepared(sums, i, j, 3), weight, states, i, j)

    assert torch.autograd.gradgradcheck(received, given)


def test_derivatives_by_the_sums_add_up_over_layers_and_over_passes():
    *given, i, j = (t.double() if t.is_floating_point() else t for t in some_pairs([4], 2, 3, 5))
    sums, weight, states = (t.requires_grad_() for t in given)
    read = prepared(sums, i, j, 4)
    once = messages(read, weight, states, i, j)
    twice = messages(read, weight, once.square().sum(1), i, j)
    plain = messages(sums, weight, states, i, j)
    expected = messages(sums, weight, plain.square().sum(1), i, j)
    # A pass that has no way to the sums leaves nothing behind for those that have.
    torch.autograd.grad(twice.sum(), weight, retain_graph=True)
    for _ in range(2):
        found = torch.autograd.grad(twice.sum(), (sums, states), retain_graph=True)
        wanted = torch.autograd.grad(expected.sum(), (sums, states), retain_graph=True)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other)


def test_pairs_that_are_no_matrix_are_left_as_they_are():
    sums, _, _, i, j = some_pairs([2, 3], 1, 4, 8)
    assert isinstance(prepared(sums.double(), i, j, 5), torch.Tensor)  # two crystals
    sums, _, _, i, j = some_pairs([3], 1, 4, 8)
    assert isinstance(prepared(sums, i, j, 3), SumLists)  # single precision
    order = torch.arange(9).flip(0)
    assert isinstance(prepared(sums.double(), i[order], j[order], 3), torch.Tensor)
