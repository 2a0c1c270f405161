"""ALIGNN (Choudhary and DeCost 2021) as its package has it without DGL, for potnet benchmark.

Settings and their defaults, those of the paper: alignn_layers 4, gcn_layers 4, hidden_features 256,
cutoff 8 Å, max_neighbors 12, batch_size 64, learning_rate 1e-3.
"""

from __future__ import annotations

from alignn.models.alignn_atomwise_pure import ALIGNNAtomWisePure, ALIGNNAtomWisePureConfig
from alignn.torch_graph_builder import batch_torch_graph_pairs, build_pure_torch_graph
from common import compete, read_order, set_up
from jarvis.core.atoms import Atoms
from torch import nn


class Energy(nn.Module):
    """The network's one number per crystal."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pair):
        return self.network((*pair, None))["out"]


def main() -> None:
    order = read_order()
    set_up(order)
    chosen = order.settings

    def graph_of(record):
        atoms = Atoms(
            lattice_mat=record["lattice"],
            coords=record["frac_coords"],
            elements=record["species"],
            cartesian=False,
        )
        return build_pure_torch_graph(
            atoms,
            two_body_cutoff=chosen.get("cutoff", 8.0),
            max_neighbors=chosen.get("max_neighbors", 12),
        )

    config = ALIGNNAtomWisePureConfig(
        name="alignn_atomwise_pure",
        alignn_layers=chosen.get("alignn_layers", 4),
        gcn_layers=chosen.get("gcn_layers", 4),
        hidden_features=chosen.get("hidden_features", 256),
        atom_input_features=92,
        calculate_gradient=False,
        gradwise_weight=0.0,
        energy_mult_natoms=False,
        use_penalty=False,
        lg_on_fly=False,
    )
    compete(
        order,
        Energy(ALIGNNAtomWisePure(config)),
        graph_of,
        batch_torch_graph_pairs,
        batch_size=chosen.get("batch_size", 64),
        learning_rate=chosen.get("learning_rate", 1e-3),
    )


if __name__ == "__main__":
    main()
