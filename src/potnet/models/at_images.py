"""CompleteNet in one crystal, image by image, and its first derivatives.

For forces and stress, derivatives by all sums of pairs are wanted, most of which are zeros: an atom
meets another in few shells. Here each image within the cutoff has a filter of its own, whatever
pair it belongs to: messages are linear, so the sum over images may come last. Potentials that reach
beyond come as sums of pairs. Without a tape, since it takes longer than what is on it: each step
returns what pulls derivatives back through it. Derivatives by weights are not to be had here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from potnet.models.messages import MESSAGE_SCALE, kernel

if TYPE_CHECKING:
    from potnet.features.images import ImageBatch, Images

# Networks, rounds and what they are made of are those of CompleteNet, which imports this.

#: From a derivative by the result of a step to that by what it was made of.
Pull = Callable[[Tensor], Tensor]


def outputs_at_images(network: Any, batch: ImageBatch) -> Tensor:
    """Return what a CompleteNet makes of a crystal, shape (1, n_targets), without dropout.

    It carries first derivatives by the images alone.
    """
    images = batch.images
    given = images.shells, images.harmonics, images.far
    return _Network.apply(*given, network, batch)  # type: ignore[no-any-return]


class _Slopes(NamedTuple):
    """Derivatives by what is at images, gathered over all rounds."""

    shells: Tensor
    harmonics: Tensor
    far: Tensor


class _Network(torch.autograd.Function):
    """All of a network as one step of a tape."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, shells: Tensor, harmonics: Tensor, far: Tensor, network: Any, batch: ImageBatch
    ) -> Tensor:
        ctx.save_for_backward(shells, harmonics, far)
        h = network.describe(network.descriptors[batch.numbers]) + network.embed(batch.numbers)
        ctx.pulls = []
        for layer in network.layers:
            h, pull = _round(layer, h, batch.images)
            ctx.pulls.append(pull)
        outputs, ctx.pull_readout = _readout(network, h, batch)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        found = _Slopes(*(gradient.new_zeros(tensor.shape) for tensor in ctx.saved_tensors))
        gradient = ctx.pull_readout(gradient)
        for pull in reversed(ctx.pulls):
            gradient = pull(gradient, found)
        return *found, None, None


def _round(
    layer: Any, h: Tensor, images: Images
) -> tuple[Tensor, Callable[[Tensor, _Slopes], Tensor]]:
    """Return the states after one round of messages, and what pulls back."""
    width = h.shape[1]
    x, pull_norm = _normalised(layer.norm, h)
    scalars, pull_scalars = _messages(layer, 0, x, images)
    given, end = h.new_empty(len(h), layer.update.into.in_features), 2 * width
    given[:, :width] = x
    torch.mul(scalars[:, 0], MESSAGE_SCALE, out=given[:, width:end])
    turning = []
    for degree, step in enumerate((layer.directions, layer.tensors), 1):
        if step is not None:
            vectors, pull_vectors = _messages(step, degree, x, images)
            start, end = end, end + 2 * vectors.shape[2]
            pull_measures = _measure(step.mix.weight, vectors, given[:, start:end])
            turning.append((slice(start, end), pull_measures, pull_vectors))
    out, pull_update = _gated(layer.update, given)

    def pulled(gradient: Tensor, found: _Slopes) -> Tensor:
        by_given = pull_update(gradient)
        by_scalars = by_given[:, width : 2 * width] * MESSAGE_SCALE
        by_x = by_given[:, :width] + pull_scalars(by_scalars, found)
        for columns, pull_measures, pull_vectors in turning:
            by_x += pull_vectors(pull_measures(by_given[:, columns]), found)
        return pull_norm(by_x).add_(gradient)

    return out.add_(h), pulled


def _messages(
    step: Any, degree: int, x: Tensor, images: Images
) -> tuple[Tensor, Callable[[Tensor, _Slopes], Tensor]]:
    """Return messages of a degree, (n_atoms, 2 degree + 1, n_channels), and what pulls back."""
    n_shells, n, n_far = images.shells.shape[1], len(x), images.far.shape[1]
    send, (near, far) = step.send.weight, step.filters.weight.tensor_split([n_shells], 1)
    sent, filters = x @ send.t(), images.shells @ near.t()
    received = x.new_zeros(n, 2 * degree + 1, len(send))
    _call("meet_images", images, received, filters, sent, received, x.new_empty(len(send)))
    is_far = n_far > 0 and degree == 0
    pull_far = _far_messages(far, sent, images.far, received[:, 0]) if is_far else None

    def pulled(gradient: Tensor, found: _Slopes) -> Tensor:
        by_filters, by_sent = torch.empty_like(filters), torch.zeros_like(sent)
        room, start = x.new_empty(2 * len(send)), degree * degree
        given = filters, sent, gradient, found.harmonics[:, start:], by_filters, by_sent, room
        _call("pull_images", images, received, *given)
        found.shells.addmm_(by_filters, near)
        if pull_far:
            pull_far(gradient, by_sent, found.far)
        return by_sent @ send

    return received, pulled


def _far_messages(
    weight: Tensor, sent: Tensor, far: Tensor, received: Tensor
) -> Callable[[Tensor, Tensor, Tensor], None]:
    """Add the messages of far sums; return what adds derivatives by what is sent and by sums."""
    sums, filters = far.flatten(1), weight.t()[:, None]
    spread = (sent * filters).flatten(0, 1)
    received.addmm_(sums, spread)

    def pulled(gradient: Tensor, by_sent: Tensor, by_far: Tensor) -> None:
        # far sums of i and j are those of j and i
        by_sent.addmm_(sums, (gradient * filters).flatten(0, 1))
        by_far.flatten(1).addmm_(gradient, spread.t())

    return pulled


def _call(name: str, images: Images, received: Tensor, *tensors: Tensor) -> None:
    """Call a compiled function for all images of one degree."""
    _, n, n_channels = received.shape
    start, row = (n // 2) ** 2, images.harmonics.shape[1]
    given = images.i, images.j, images.harmonics[:, start:], *tensors
    _compiled(name, received)(len(images.i), n_channels, n, row, *(t.data_ptr() for t in given))


def _compiled(name: str, like: Tensor) -> Callable[..., int]:
    """Return a compiled function for numbers of the precision of a tensor."""
    return kernel(f"{name}_double" if like.dtype == torch.float64 else name)


def _measure(mix: Tensor, vectors: Tensor, out: Tensor) -> Pull:
    """Write what of vectors does not turn, as it enters the update; return what pulls back."""
    mixed = vectors @ mix.t()
    sizes = *vectors.shape, out.stride(0), MESSAGE_SCALE

    def call(name: str, *tensors: Tensor) -> None:
        _compiled(name, vectors)(*sizes, *(t.data_ptr() for t in (vectors, mixed, *tensors)))

    def pulled(gradient: Tensor) -> Tensor:
        by_vectors, by_mixed = torch.empty_like(vectors), torch.empty_like(mixed)
        call("pull_measures", gradient, by_vectors, by_mixed, out.new_empty(out.shape[1]))
        by_vectors.flatten(0, 1).addmm_(by_mixed.flatten(0, 1), mix)
        return by_vectors

    call("measure", out)
    return pulled


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


def _readout(network: Any, h: Tensor, batch: ImageBatch) -> tuple[Tensor, Pull]:
    """Return the outputs of a network for the states of the atoms, and what pulls back."""
    x, pull_norm = _normalised(network.norm, h)
    value, pull_value = _activated(network.value[0], x)
    share, score = batch.weights[:, None], torch.tanh(network.attention(x) / 4)
    attention = share * torch.exp(4 * score)
    attention = attention / attention.sum()
    pooled = torch.cat([share, attention], 1).t() @ value
    state, pull_state = _activated(network.head[0], pooled.view(1, -1))

    def pulled(gradient: Tensor) -> Tensor:
        by_state = gradient @ network.head[-1].weight
        if network.head_per_formula is not None:
            part = gradient / batch.formula_counts[:, None]
            by_state = by_state.addmm(part, network.head_per_formula.weight)
        by_mean, by_weighed = pull_state(by_state).chunk(2, 1)
        by_value = share * by_mean + attention * by_weighed
        by_score = (value - pooled[1]) @ by_weighed.t() * attention * (1 - score * score)
        return pull_norm(pull_value(by_value).addmm_(by_score, network.attention.weight))

    return network.from_embedding(state, batch), pulled


def _activated(linear: Any, x: Tensor) -> tuple[Tensor, Pull]:
    """Return the SiLU of a linear function, and what pulls back."""
    y = functional.linear(x, linear.weight, linear.bias)

    def pulled(gradient: Tensor) -> Tensor:
        return torch.ops.aten.silu_backward(gradient, y) @ linear.weight

    return functional.silu(y), pulled


def _normalised(norm: Any, h: Tensor) -> tuple[Tensor, Pull]:
    """Return states of mean 0 and spread 1, and what pulls back."""
    shape, needed = [h.shape[1]], [True, False, False]
    x, mean, scale = torch.native_layer_norm(h, shape, norm.weight, norm.bias, norm.eps)

    def pulled(gradient: Tensor) -> Tensor:
        return torch.ops.aten.native_layer_norm_backward(
            gradient, h, shape, mean, scale, norm.weight, norm.bias, needed
        )[0]

    return x, pulled
