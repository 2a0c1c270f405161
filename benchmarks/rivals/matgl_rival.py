"""MEGNet (Chen 2019) and M3GNet (Chen and Ong 2022) as MatGL has them, for potnet benchmark.

Settings: model ("megnet" or "m3gnet"), cutoff (5 Å), batch_size 32, learning_rate 1e-3; sizes
are the defaults of MatGL.
"""

from __future__ import annotations

import os

os.environ.setdefault("MATGL_BACKEND", "PYG")

import torch
from common import compete, read_order, set_up
from matgl.ext.pymatgen import Structure2Graph, get_element_list
from matgl.models import M3GNet, MEGNet
from pymatgen.core import Structure
from torch import nn
from torch_geometric.data import Batch


class OnBatch(nn.Module):
    """A network of MatGL that is given a batch of graphs and no state."""

    def __init__(self, network: nn.Module, n_state: int) -> None:
        super().__init__()
        self.network = network
        self.n_state = n_state

    def forward(self, batch):
        state = torch.zeros(batch.num_graphs, self.n_state) if self.n_state else None
        return self.network(batch, state)


def structure_of(record) -> Structure:
    return Structure(record["lattice"], record["species"], record["frac_coords"])


def main() -> None:
    order = read_order()
    set_up(order)
    chosen = order.settings
    cutoff = chosen.get("cutoff", 5.0)
    records = [*order.train, *order.asked]
    elements = get_element_list([structure_of(record) for record in records])
    converter = Structure2Graph(elements, cutoff)

    def graph_of(record):
        graph, lattice, _ = converter.get_graph(structure_of(record))
        graph.pos = graph.frac_coords @ lattice[0]
        graph.pbc_offshift = graph.pbc_offset @ lattice[0]
        return graph

    if chosen.get("model", "megnet") == "megnet":
        network = OnBatch(MEGNet(element_types=elements, cutoff=cutoff), 2)
    else:
        network = OnBatch(
            M3GNet(
                element_types=elements, cutoff=cutoff, is_intensive=True, readout_type="set2set"
            ),
            0,
        )
    compete(
        order,
        network,
        graph_of,
        Batch.from_data_list,
        batch_size=chosen.get("batch_size", 32),
        learning_rate=chosen.get("learning_rate", 1e-3),
    )


if __name__ == "__main__":
    main()
