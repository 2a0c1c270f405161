"""The fused messages are the plain tensor algebra."""

import json

import pytest
import torch

from potnet.models import messages as module
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
        module.kernel.cache_clear()
        monkeypatch.setattr(module, "shipped", shipped)
        found.append(with_gradients(*inputs))
    module.kernel.cache_clear()
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_messages_have_second_derivatives_by_the_sums():
    *given, i, j = some_pairs([3], 2, 2, 3)
    given = [t.double().requires_grad_() for t in given]

    def received(sums, weight, states):
        return messages(prepared(sums, i, j, 3), weight, states, i, j)

    assert torch.autograd.gradgradcheck(received, given)


def test_sums_are_listed_in_single_precision_without_derivatives_alone():
    sums, _, _, i, j = some_pairs([3], 1, 4, 8)
    assert isinstance(prepared(sums, i, j, 3), SumLists)
    assert prepared(sums.double(), i, j, 3).dtype == torch.float64
    assert prepared(sums.requires_grad_(), i, j, 3) is sums
