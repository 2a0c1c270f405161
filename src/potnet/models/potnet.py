"""PotNet: local bonds beside complete interatomic potentials (Lin et al., ICML 2023).

An atom starts as a linear image of its element's descriptors. Its edges are of two kinds: the bonds
to its neighbours, which carry a distance, and one edge from every atom of the cell, which carries
the potentials of that atom and all its periodic images. Three rounds of gated messages along the
edges, a mean over the atoms, and two linear layers give the property.

This is the published network layer for layer, with the published names of its parameters, computed
with less work in two ways that do not change the function:

* A linear layer on ``[x_i | x_j | e]`` is ``W_i x_i + W_j x_j + W_e e``, so that two thirds of it
  act once per atom instead of once per edge.
* Equal edges are computed once. An edge has a multiplicity, and a node stands for a number of
  equivalent atoms; sums, means and the statistics of batch normalisation count them all.

References:
    Lin, Yan, Luo, Liu, Qian and Ji, Efficient Approximations of Complete Interatomic Potentials for
    Crystal Property Prediction, ICML 2023, arXiv:2306.10045.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from potnet.features.batch import Batch
from potnet.features.potnet import N_DESCRIBED, PotNetFeatures
from potnet.models.contract import Network
from potnet.models.descriptors import MAX_NUMBER, element_table

POTENTIAL_WEIGHTS = (-0.801, -0.074, 0.145)  # Of Coulomb, London and Pauli; fixed, not learned.
BOND_SCALE = -0.75  # A distance d in Å enters as BOND_SCALE / d.

# The upper limits keep a damaged or hostile card from asking for all memory.
Width = Annotated[int, Field(ge=1, le=4096)]
Layers = Annotated[int, Field(ge=1, le=64)]
Centers = Annotated[int, Field(ge=2, le=4096)]

GROUPS = {
    "non-metal": (1, 6, 7, 8, 15, 16, 34),
    "noble gas": (2, 10, 18, 36, 54, 86, 118),
    "alkali": (3, 11, 19, 37, 55, 87),
    "alkaline earth": (4, 12, 20, 38, 56, 88),
    "metalloid": (5, 14, 32, 33, 51, 52),
    "halogen": (9, 17, 35, 53, 85, 117),
    "post-transition": (13, 31, 49, 50, 81, 82, 83, 84, 113, 114, 115, 116),
    "transition": (*range(21, 31), *range(39, 49), *range(72, 81), *range(104, 113)),
    "lanthanide": tuple(range(57, 72)),
    "actinide": tuple(range(89, 104)),
}


class PotNetSettings(BaseModel):
    """Shape of a PotNet.

    Attributes:
        features: What it reads; ``features.published`` chooses the published graph and sums.
        variant: ``"default"`` sends messages along both kinds of edges in one layer;
            ``"transformer"`` has an attention layer of its own for the complete edges;
            ``"euclidean"`` leaves the complete edges out and reads plain distances.
        charge_map: Describe each element by its group as well (alkali, halogen, ...).
        width: Numbers that describe the state of an atom and of an edge.
        n_layers: Rounds of messages.
        n_bond_centers: Gaussians that spread the distance of a bond.
        n_potential_centers: Multiquadrics that spread the potential of a complete edge.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: PotNetFeatures = PotNetFeatures()
    variant: Literal["default", "transformer", "euclidean"] = "default"
    charge_map: bool = False
    width: Width = 256
    n_layers: Layers = 3
    n_bond_centers: Centers = 256
    n_potential_centers: Centers = 64


@dataclass(frozen=True)
class Edges:
    """Directed edges, equal ones merged.

    Attributes:
        i: Receiving node, shape (n_edges,).
        j: Sending node, shape (n_edges,).
        features: State of each edge, shape (n_edges, width).
        multiplicity: Equal edges that end at one atom of ``i``, shape (n_edges,).
        total: Equal edges that end at all atoms of ``i``, shape (n_edges,).
    """

    i: Tensor
    j: Tensor
    features: Tensor
    multiplicity: Tensor
    total: Tensor

    def __add__(self, other: Edges) -> Edges:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Edges(*(torch.cat(pair) for pair in pairs))


class CountedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over rows that stand for several equal rows each."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input: Tensor, count: Tensor
    ) -> Tensor:
        """Return ``input``, shape (n, channels), normalised with row r taken count[r] times."""
        if not self.training:
            return super().forward(input)
        weights, total = count[:, None], count.sum()
        mean = (weights * input).sum(0) / total
        centred = input - mean
        variance = (weights * centred.square()).sum(0) / total
        self._track(mean.detach(), variance.detach() * total / (total - 1).clamp(min=1))
        return centred * (torch.rsqrt(variance + self.eps) * self.weight) + self.bias

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, as :class:`torch.nn.BatchNorm1d` does."""
        momentum = self.momentum or 0.0
        for running, new in ((self.running_mean, mean), (self.running_var, variance)):
            if running is not None:
                running.lerp_(new.to(running.dtype), momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1


class Gaussians(nn.Module):
    """``exp(-((u - c) / w)^2)`` at centres c from -4 to 4, spaced by w."""

    centers: Tensor

    def __init__(self, n_centers: int) -> None:
        super().__init__()
        self.register_buffer("centers", torch.linspace(-4, 4, n_centers), persistent=False)
        self.width = 8 / (n_centers - 1)

    def forward(self, u: Tensor) -> Tensor:
        return torch.exp(-(((u[:, None] - self.centers) / self.width) ** 2))


class Multiquadrics(Gaussians):
    """``sqrt(1 + ((u - c) / w)^2)`` at the same centres."""

    def forward(self, u: Tensor) -> Tensor:
        return torch.sqrt(1 + ((u[:, None] - self.centers) / self.width) ** 2)


class ShiftedSoftplus(nn.Module):
    """``softplus(x) - log 2``, which vanishes at 0."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.softplus(x) - math.log(2)


class EdgeNetwork(nn.ModuleList):
    """Linear, SiLU, linear on ``[x_i | x_j | e]`` of every edge."""

    def __init__(self, width: int) -> None:
        super().__init__([nn.Linear(3 * width, width), nn.SiLU(), nn.Linear(width, width)])

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        first, activation, second = cast("tuple[nn.Linear, nn.SiLU, nn.Linear]", tuple(self))
        of_i, of_j, of_edge = first.weight.chunk(3, dim=1)
        receiver = functional.linear(x, of_i, first.bias)
        sender = functional.linear(x, of_j)
        hidden = receiver[edges.i] + sender[edges.j] + functional.linear(edges.features, of_edge)
        return second(activation(hidden))


class PotNetConv(nn.Module):
    """Gated messages, summed over the edges that end at an atom."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn = CountedBatchNorm(width)
        self.bn_interaction = CountedBatchNorm(width)
        self.nonlinear_full = EdgeNetwork(width)
        self.nonlinear = EdgeNetwork(width)

    def forward(self, x: Tensor, edges: Edges, n_atoms: Tensor) -> Tensor:
        gate = torch.sigmoid(self.bn_interaction(self.nonlinear_full(x, edges), edges.total))
        message = edges.multiplicity[:, None] * gate * self.nonlinear(x, edges)
        total = message.new_zeros(x.shape).index_add(0, edges.i, message)
        return torch.relu(x + self.bn(total, n_atoms))


class TransformerConv(nn.Module):
    """Messages weighed channel by channel, averaged over the edges that end at an atom.

    The published layer also holds three modules that never act (``lin_concate``, ``lin_skip`` and
    ``skip_bn``: 132,096 parameters); they are left out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lin_edge = nn.Linear(width, width)
        self.lin_msg_update = nn.Linear(width, width)
        self.msg_layer = nn.Linear(width, width)
        self.msg_ln = nn.LayerNorm(width)
        self.alpha_ln = nn.LayerNorm(width)
        self.bn = nn.ModuleDict({"module": CountedBatchNorm(width)})
        self.softplus = ShiftedSoftplus()

    def forward(self, x: Tensor, edges: Edges, n_atoms: Tensor) -> Tensor:
        product = x[edges.i] * x[edges.j] / math.sqrt(x.shape[1])
        alpha = self.softplus(self.alpha_ln(product + self.lin_edge(edges.features)))
        value = self.lin_msg_update(x)[edges.j] * torch.sigmoid(alpha)
        count = edges.multiplicity[:, None]
        message = count * torch.relu(self.msg_ln(self.msg_layer(value)))
        total = message.new_zeros(x.shape).index_add(0, edges.i, message)
        degree = count.new_zeros(len(x), 1).index_add(0, edges.i, count)
        return self.softplus(self.bn["module"](total / degree, n_atoms)) + x


class PotNet(Network):
    """Properties of crystals from bonds and complete potentials.

    Args:
        settings: Shape of the network and of its features.
        n_targets: Numbers predicted for each crystal.
    """

    name = "potnet"
    Settings = PotNetSettings
    settings: PotNetSettings
    elements: Tensor

    def __init__(self, settings: PotNetSettings | None = None, n_targets: int = 1) -> None:
        settings = settings or PotNetSettings()
        super().__init__(settings, n_targets)
        width, n_layers = settings.width, range(settings.n_layers)
        self.register_buffer("elements", _element_inputs(settings), persistent=False)
        self.atom_embedding = nn.Linear(self.elements.shape[1], width)
        n_bonds = settings.n_bond_centers
        self.edge_embedding = nn.Sequential(
            Gaussians(n_bonds), nn.Linear(n_bonds, width), nn.SiLU()
        )
        if settings.variant != "euclidean":
            self.infinite_rbf = Multiquadrics(settings.n_potential_centers)
            self.infinite_linear = nn.Linear(settings.n_potential_centers, width)
            self.infinite_bn = CountedBatchNorm(width)
        self.conv_layers = nn.ModuleList(PotNetConv(width) for _ in n_layers)
        if settings.variant == "transformer":
            self.transformer_conv_layers = nn.ModuleList(TransformerConv(width) for _ in n_layers)
        self.fc = nn.Sequential(nn.Linear(width, width), ShiftedSoftplus())
        self.fc_out = nn.Linear(width, n_targets)

    @property
    def features(self) -> PotNetFeatures:
        """What turns crystals into batches for this network."""
        return self.settings.features

    def forward(self, batch: Batch) -> Tensor:
        """Return one row per crystal, shape (n_graphs, n_targets), in standardised units."""
        x = self.atom_embedding(self.elements[batch.numbers])
        n_atoms = batch.weights * batch.atom_counts[batch.graph_index]  # On each node.
        x = self._interact(x, batch, n_atoms)
        share = batch.weights[:, None] * x
        mean = share.new_zeros(batch.n_graphs, x.shape[1]).index_add(0, batch.graph_index, share)
        return self.fc_out(self.fc(mean))

    def _interact(self, x: Tensor, batch: Batch, n_atoms: Tensor) -> Tensor:
        bonds = self._bonds(batch, n_atoms)
        if self.settings.variant == "transformer":
            complete = self._complete(batch, n_atoms)
            for conv, attend in zip(self.conv_layers, self.transformer_conv_layers, strict=True):
                x = conv(x, bonds, n_atoms) + attend(x, complete, n_atoms)
            return x
        is_local = self.settings.variant == "euclidean"
        edges = bonds if is_local else bonds + self._complete(batch, n_atoms)
        for conv in self.conv_layers:
            x = conv(x, edges, n_atoms)
        return x

    def _bonds(self, batch: Batch, n_atoms: Tensor) -> Edges:
        i, j = batch.edge_index("local")
        distance, multiplicity = batch.pairs["local"].values.unbind(1)
        u = distance if self.settings.variant == "euclidean" else BOND_SCALE / distance
        return Edges(i, j, self.edge_embedding(u), multiplicity, multiplicity * n_atoms[i])

    def _complete(self, batch: Batch, n_atoms: Tensor) -> Edges:
        i, j = batch.edge_index("complete")
        *potentials, multiplicity = batch.pairs["complete"].values.unbind(1)
        scalar = sum(w * v for w, v in zip(POTENTIAL_WEIGHTS, potentials, strict=True))
        total = multiplicity * n_atoms[i]
        features = functional.softplus(self.infinite_linear(self.infinite_rbf(scalar)))
        return Edges(i, j, self.infinite_bn(features, total), multiplicity, total)


def _element_inputs(settings: PotNetSettings) -> Tensor:
    """Return what describes each element, row by atomic number, shape (119, 92 or 102).

    The published code gives elements without descriptors those of fermium. Otherwise
    :class:`PotNetFeatures` refuses such elements and their rows are never read.
    """
    table = element_table()
    if settings.features.published:
        table[N_DESCRIBED + 1 :] = table[N_DESCRIBED]
    if not settings.charge_map:
        return table
    groups = torch.zeros(MAX_NUMBER + 1, len(GROUPS))
    for column, numbers in enumerate(GROUPS.values()):
        groups[list(numbers), column] = 1.0
    return torch.cat([table, groups], dim=1)
