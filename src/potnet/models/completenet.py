"""CompleteNet: messages that are linear in complete sums.

For a pair (i, j) let F_k(i, j) be the sum of a radial kernel k over all periodic images. A layer

    A_c(i) = sum_j sum_k F_k(i, j) w_kc s_c(h_j)

is linear in F. Written with a larger cell, the copies of atom j share the state h_j and the
lattice of j splits into cosets whose sums add up to F(i, j), so A does not change: the answer does
not depend on the cell that describes the crystal. Sums weighted with the direction give vectors
B_c(i) in the same way. The non-linearity acts on atoms: A(i), the lengths and products of the
B(i), which do not turn with the crystal, and h(i) go through a small network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from potnet.features.batch import Batch
from potnet.features.complete import CompleteFeatures
from potnet.features.images import ImageBatch
from potnet.models.at_images import outputs_at_images
from potnet.models.contract import Network
from potnet.models.descriptors import element_table
from potnet.models.messages import MESSAGE_SCALE, Sums, messages, prepared

MAX_SHARED = 2**24  # numbers of the pairs of a batch; what is made of more is not kept


class CompleteNetSettings(BaseModel):
    """Shape of a CompleteNet.

    Attributes:
        features: What it reads.
        width: Numbers that describe the state of an atom.
        vectors: Vectors that an atom gathers in a layer, if the features have directions.
        tensors: Tensors of degree 2 that it gathers, if they have these.
        n_layers: Rounds of message passing.
        expansion: Hidden width of the atoms' networks, in widths.
        dropout: Share of hidden numbers left out while training.
        sum_noise: Relative noise on the sums while training: against memorising crystals.
        references: Add a linear function of the composition, which training fits before it begins
            where that explains most of a target.
        per_formula: Add a second output (and linear function) divided by the number of atoms in the
            reduced formula, for properties that are normalised by it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: CompleteFeatures = CompleteFeatures()
    width: Annotated[int, Field(ge=1, le=4096)] = 128
    vectors: Annotated[int, Field(ge=1, le=4096)] = 32
    tensors: Annotated[int, Field(ge=1, le=4096)] = 16
    n_layers: Annotated[int, Field(ge=0, le=64)] = 3
    expansion: Annotated[int, Field(ge=1, le=16)] = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    sum_noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    references: bool = True
    per_formula: bool = False


class GatedLinear(nn.Module):
    """Two linear maps, one weighing the other, and a third back: SwiGLU (Shazeer 2020)."""

    def __init__(self, n_in: int, n_hidden: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.into = nn.Linear(n_in, 2 * n_hidden)
        self.out = nn.Linear(n_hidden, n_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.into(x).chunk(2, -1)
        return self.out(self.dropout(value * functional.silu(gate)))


def compressed(x: Tensor) -> Tensor:
    """Return a smooth odd function of ``x`` that grows like its square root."""
    return _Compressed.apply(x)  # type: ignore[no-any-return]


class _Compressed(torch.autograd.Function):
    """x / t with t = u^(1/4), u = 1 + x^2; its derivative, (1 + 1/u) / 2t, in three operators."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        u = 1 + x * x
        t = u.sqrt().sqrt()  # three times as fast as a power of 1/4
        ctx.save_for_backward(x, u, t)
        return x / t

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        x, u, t = ctx.saved_tensors
        if torch.is_grad_enabled():  # derivatives of derivatives are wanted
            u = 1 + x * x
            t = u.sqrt().sqrt()
        half = 0.5 * gradient / t
        return torch.addcdiv(half, half, u)


class Directions(nn.Module):
    """Vectors from the directed sums, and what of them does not turn with the crystal.

    A turn of the crystal turns the components of any degree as an orthogonal matrix does, so that
    lengths and products of vectors of degree 1 and of tensors of degree 2 stay as they are.
    """

    def __init__(self, n_shells: int, width: int, n_vectors: int) -> None:
        super().__init__()
        self.filters = nn.Linear(n_shells, n_vectors, bias=False)
        self.send = nn.Linear(width, n_vectors, bias=False)
        self.mix = nn.Linear(n_vectors, 2 * n_vectors, bias=False)

    def forward(self, x: Tensor, sums: Sums, i: Tensor, j: Tensor) -> Tensor:
        """Return squared lengths and products, shape (n_nodes, 2 * n_vectors)."""
        vectors = messages(sums, self.filters.weight, self.send(x), i, j)
        left, right = self.mix(vectors).chunk(2, -1)
        lengths, products = vectors.square().sum(1), (left * right).sum(1)
        return compressed(torch.cat([lengths, products], -1))


class Interaction(nn.Module):
    """One round of messages, linear in the sums, and an update of the atoms."""

    def __init__(self, settings: CompleteNetSettings) -> None:
        super().__init__()
        width, features = settings.width, settings.features
        self.norm = nn.LayerNorm(width)
        self.filters = nn.Linear(features.n_scalars, width, bias=False)
        self.send = nn.Linear(width, width, bias=False)
        self.directions = self.tensors = None
        n_in = 2 * width
        if features.degree >= 1:
            self.directions = Directions(features.n_shells, width, settings.vectors)
            n_in += 2 * settings.vectors
        if features.degree >= 2:
            self.tensors = Directions(features.n_shells, width, settings.tensors)
            n_in += 2 * settings.tensors
        self.update = GatedLinear(n_in, settings.expansion * width, width, settings.dropout)

    def forward(self, h: Tensor, sums: Sequence[Sums], i: Tensor, j: Tensor) -> Tensor:
        x = self.norm(h)
        received = messages(sums[0], self.filters.weight, self.send(x), i, j)
        parts = [received.squeeze(1)]
        if self.directions is not None:
            parts.append(self.directions(x, sums[1], i, j))
        if self.tensors is not None:
            parts.append(self.tensors(x, sums[2], i, j))
        return h + self.update(torch.cat([x, MESSAGE_SCALE * torch.cat(parts, -1)], -1))


class CompleteNet(Network):
    """Properties of crystals from complete sums.

    Args:
        settings: Shape of the network and of its features.
        n_targets: Numbers predicted for each crystal.
    """

    name = "completenet"
    is_recordable = True
    Settings = CompleteNetSettings
    settings: CompleteNetSettings

    def __init__(self, settings: CompleteNetSettings | None = None, n_targets: int = 1) -> None:
        settings = settings or CompleteNetSettings()
        super().__init__(settings, n_targets)
        width = settings.width
        self.descriptors: Tensor
        self.register_buffer("descriptors", element_table(), persistent=False)
        self.describe = nn.Linear(self.descriptors.shape[1], width)
        self.embed = nn.Embedding(self.descriptors.shape[0], width)
        # Small, so that elements begin by what describes them and rare ones stay there.
        nn.init.normal_(self.embed.weight, std=0.01)
        self.layers = nn.ModuleList(Interaction(settings) for _ in range(settings.n_layers))
        self.norm = nn.LayerNorm(width)
        self.value = nn.Sequential(nn.Linear(width, width), nn.SiLU())
        self.attention = nn.Linear(width, 1)
        nn.init.zeros_(self.attention.weight)
        self.head = nn.Sequential(
            nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, n_targets)
        )
        self.head_per_formula = nn.Linear(width, n_targets) if settings.per_formula else None
        if settings.references:
            # Those that are divided by the atoms of the reduced formula stand below the others.
            n_references = self.descriptors.shape[0] * (2 if settings.per_formula else 1)
            self.references = nn.Embedding(n_references, n_targets)
            nn.init.zeros_(self.references.weight)

    @property
    def features(self) -> CompleteFeatures:
        """What turns crystals into batches for this network."""
        return self.settings.features

    def embedding(self, batch: Batch) -> Tensor:
        """Return the state of each crystal that the outputs are linear in, (n_graphs, width)."""
        return self.head[:-1](self._pooled(self.embedding_of_atoms(batch), batch))

    def embedding_of_atoms(self, batch: Batch) -> Tensor:
        """Return the state of each node after the last round of messages, (n_nodes, width)."""
        h = self.describe(self.descriptors[batch.numbers]) + self.embed(batch.numbers)
        i, j, sums = self._sums(batch)
        for layer in self.layers:
            h = layer(h, sums, i, j)
        return self.norm(h)

    def forward(self, batch: Batch) -> Tensor:
        """Return one row per crystal, shape (n_graphs, n_targets), in standardised units."""
        if isinstance(batch, ImageBatch):
            return outputs_at_images(self, batch)
        return self.from_embedding(self.embedding(batch), batch)

    def from_embedding(self, states: Tensor, batch: Batch) -> Tensor:
        """Return what a call returns, of what :meth:`embedding` returns."""
        output = self.head[-1](states)
        if self.references is not None:
            output = output + _mean(self.references(batch.numbers), batch)
        if self.head_per_formula is not None:
            part = self.head_per_formula(states)
            if self.references is not None:
                rows = batch.numbers + len(self.descriptors)
                part = part + _mean(self.references(rows), batch)
            output = output + part / batch.formula_counts[:, None]
        return output

    def _sums(self, batch: Batch) -> tuple[Tensor, Tensor, list[Sums]]:
        """Return the nodes of the pairs, and the sums by degree, as messages read them.

        Networks that only look at a batch, one after the other, share what is made of it.
        """
        features, values = self.features, batch.pairs["complete"].values
        key = features.n_scalars, features.n_shells, features.degree
        is_shared = not (self.training or values.requires_grad) and values.numel() <= MAX_SHARED
        kept: dict[Any, Any] = vars(batch).setdefault("_sums", {}) if is_shared else {}
        if key not in kept:
            i, j = batch.edge_index("complete")
            n_nodes = batch.numbers.numel()
            sums = [prepared(part, i, j, n_nodes) for part in self._channels(values)]
            kept[key] = i, j, sums
        return kept[key]

    def _channels(self, values: Tensor) -> list[Tensor]:
        """Return the sums by degree, each of shape (n_pairs, 2 degree + 1, n_sums)."""
        features = self.features
        sizes = [2 * degree + 1 for degree in range(1, features.degree + 1)]
        columns = [features.n_scalars, *(features.n_shells * size for size in sizes)]
        parts = values.split(columns, 1)
        sums = [part.unflatten(1, (n, -1)) for n, part in zip([1, *sizes], parts, strict=True)]
        noise = self.settings.sum_noise
        if self.training and noise:
            # The same for all components: it changes lengths, not directions.
            sums = [part * (1 + noise * torch.randn_like(part[:, :1])) for part in sums]
        return sums

    def _pooled(self, h: Tensor, batch: Batch) -> Tensor:
        """Return the mean over the atoms beside a mean that the network weighs itself."""
        value = self.value(h)
        share = batch.weights[:, None]
        # The scores are bounded, so that no single atom can silence the others by overflow.
        attention = share * torch.exp(4 * torch.tanh(self.attention(h) / 4))
        parts = torch.cat([share * value, attention * value, attention], -1)
        totals = parts.new_zeros(batch.n_graphs, parts.shape[1])
        totals = totals.index_add(0, batch.graph_index, parts)
        mean, weighed, norm = totals.split([value.shape[1], value.shape[1], 1], -1)
        return torch.cat([mean, weighed / norm], -1)


def _mean(values: Tensor, batch: Batch) -> Tensor:
    """Return the means over the atoms of each crystal, shape (n_graphs, n_columns)."""
    totals = values.new_zeros(batch.n_graphs, values.shape[1])
    return totals.index_add(0, batch.graph_index, batch.weights[:, None] * values)
