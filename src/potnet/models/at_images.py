"""CompleteNet's rounds of messages in one crystal, image by image, and their first derivatives.

For forces and stress, derivatives by all sums of pairs are wanted, most of which are zeros: an atom
meets another in few shells. Here each image within the cutoff has a filter of its own, whatever
pair it belongs to: messages are linear, so the sum over images may come last. Potentials that reach
beyond come as sums of pairs. Without a tape, since it takes longer than what is on it: each step
returns what pulls derivatives back through it. Derivatives by weights are not to be had here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from potnet.models.messages import MESSAGE_SCALE, kernel

if TYPE_CHECKING:
    from potnet.features.images import Images

# Rounds and what they are made of are those of CompleteNet, which imports this.

#: From a derivative by the result of a step to that by what it was made of.
Pull = Callable[[Tensor], Tensor]


def states_at_images(rounds: Sequence[Any], h: Tensor, images: Images) -> Tensor:
    """Return the states of the atoms after all rounds of messages, without dropout.

    They carry first derivatives by the images alone.

    Args:
        rounds: What makes them.
        h: States before the first round, shape (n_atoms, width).
        images: What the atoms meet.
    """
    given = images.shells, images.harmonics, images.far
    return _Rounds.apply(*given, h, images, rounds)  # type: ignore[no-any-return]


class _Slopes(NamedTuple):
    """Derivatives by what is at images, gathered over all rounds."""

    shells: Tensor
    harmonics: Tensor
    far: Tensor


class _Rounds(torch.autograd.Function):
    """All rounds as one step of a tape."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        shells: Tensor,
        harmonics: Tensor,
        far: Tensor,
        h: Tensor,
        images: Images,
        rounds: Sequence[Any],
    ) -> Tensor:
        ctx.save_for_backward(shells, harmonics, far)
        ctx.pulls = []
        for layer in rounds:
            h, pull = _round(layer, h, images)
            ctx.pulls.append(pull)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        found = _Slopes(*(gradient.new_zeros(tensor.shape) for tensor in ctx.saved_tensors))
        for pull in reversed(ctx.pulls):
            gradient = pull(gradient, found)
        return *found, None, None, None


def _round(
    layer: Any, h: Tensor, images: Images
) -> tuple[Tensor, Callable[[Tensor, _Slopes], Tensor]]:
    """Return the states after one round of messages, and what pulls back."""
    norm, width = layer.norm, h.shape[1]
    x, mean, scale = torch.native_layer_norm(h, [width], norm.weight, norm.bias, norm.eps)
    received, pull_messages = _messages(layer, x, images)
    parts, pulls = [x, MESSAGE_SCALE * received[0][:, 0]], []
    for directions, vectors in zip((layer.directions, layer.tensors), received[1:], strict=False):
        part, pull = _invariants(directions, vectors)
        parts.append(part)
        pulls.append(pull)
    out, pull_update = _gated(layer.update, torch.cat(parts, 1))
    sizes = [part.shape[1] for part in parts]

    def pulled(gradient: Tensor, found: _Slopes) -> Tensor:
        by_x, by_scalars, *by_parts = pull_update(gradient).split(sizes, 1)
        by_received = [MESSAGE_SCALE * by_scalars]
        by_received += [pull(part) for pull, part in zip(pulls, by_parts, strict=True)]
        by_x = by_x + pull_messages(by_received, found)
        needed = [True, False, False]
        own, *_ = torch.ops.aten.native_layer_norm_backward(
            by_x, h, [width], mean, scale, norm.weight, norm.bias, needed
        )
        return own.add_(gradient)

    return out.add_(h), pulled


def _messages(
    layer: Any, x: Tensor, images: Images
) -> tuple[list[Tensor], Callable[[Sequence[Tensor], _Slopes], Tensor]]:
    """Return messages by degree, (n_atoms, 2 degree + 1, n_channels), and what pulls back."""
    steps = [s for s in (layer, layer.directions, layer.tensors) if s is not None]
    n_shells, n, n_far = images.shells.shape[1], len(x), len(images.far)
    send = torch.cat([step.send.weight for step in steps])
    filters_of = torch.cat([step.filters.weight[:, :n_shells] for step in steps])
    widths = [len(step.send.weight) for step in steps]
    far, far_filters = images.far.flatten(0, 1), layer.filters.weight[:, n_shells:].t()[:, None]
    sizes = [n * (2 * degree + 1) * w for degree, w in enumerate(widths)]
    shapes = [(n, 2 * degree + 1, w) for degree, w in enumerate(widths)]
    sent, filters = x @ send.t(), images.shells @ filters_of.t()
    received = x.new_zeros(sum(sizes))
    _call("meet_images", images, n, widths, filters, sent, received)
    parts = [part.view(shape) for part, shape in zip(received.split(sizes), shapes, strict=True)]
    if n_far:
        met = (far @ sent[:, : widths[0]]).view(n_far, n, -1)
        parts[0][:, 0].add_(met.mul_(far_filters).sum(0))

    def pulled(gradients: Sequence[Tensor], found: _Slopes) -> Tensor:
        gradient = torch.cat([part.reshape(-1) for part in gradients])
        by_filters, by_sent = torch.zeros_like(filters), torch.zeros_like(sent)
        pulls = found.harmonics, by_filters, by_sent
        _call("pull_images", images, n, widths, filters, sent, gradient, *pulls)
        found.shells.addmm_(by_filters, filters_of)
        if n_far:
            given = (gradients[0] * far_filters).flatten(0, 1)
            by_sent[:, : widths[0]].addmm_(far.t(), given)
            found.far.flatten(0, 1).addmm_(given, sent[:, : widths[0]].t())
        return by_sent @ send

    return parts, pulled


def _call(name: str, images: Images, n: int, widths: Sequence[int], *tensors: Tensor) -> None:
    """Call a compiled function for all images."""
    end = "_double" if images.shells.dtype == torch.float64 else ""
    given = torch.tensor(widths), images.i, images.j, images.harmonics, *tensors
    addresses = (tensor.data_ptr() for tensor in given)
    kernel(name + end)(len(images.i), n, len(widths) - 1, *addresses)


def _invariants(directions: Any, vectors: Tensor) -> tuple[Tensor, Pull]:
    """Return what of vectors does not turn, as it enters the update, and what pulls back."""
    mix = directions.mix.weight
    left, right = (vectors @ mix.t()).chunk(2, -1)
    x = torch.cat([vectors.square().sum(1), (left * right).sum(1)], 1)
    u = 1 + x * x
    t = u.sqrt().sqrt()

    def pulled(gradient: Tensor) -> Tensor:
        half = gradient.div(t).mul_(0.5 * MESSAGE_SCALE)
        by_lengths, by_products = half.addcdiv(half, u)[:, None].chunk(2, -1)
        by_mixed = torch.cat([right * by_products, left * by_products], -1)
        return (by_mixed @ mix).addcmul_(vectors, by_lengths, value=2)

    return (x / t).mul_(MESSAGE_SCALE), pulled


def _gated(update: Any, x: Tensor) -> tuple[Tensor, Pull]:
    """Return what an update makes of states and messages, and what pulls back."""
    into, out = update.into, update.out
    both = functional.linear(x, into.weight, into.bias)
    value, gate = both.chunk(2, 1)
    weight = functional.silu(gate)

    def pulled(gradient: Tensor) -> Tensor:
        by_hidden = gradient @ out.weight
        by_both = torch.empty_like(both)
        by_value, by_gate = by_both.chunk(2, 1)
        torch.mul(by_hidden, weight, out=by_value)
        torch.ops.aten.silu_backward(by_hidden.mul_(value), gate, grad_input=by_gate)
        return by_both @ into.weight

    return functional.linear(value * weight, out.weight, out.bias), pulled
