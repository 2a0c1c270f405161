"""What training, prediction and archives rely on in a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from potnet.errors import ModelError
from potnet.features.contract import Features

if TYPE_CHECKING:
    from pydantic import BaseModel

    from potnet.features.batch import Batch

__all__ = ["Features", "Network"]


class Network(nn.Module, ABC):
    """A network that turns batches of crystals into standardised numbers.

    A subclass has a ``name``, ``Settings`` (a pydantic model that is frozen and forbids unknown
    keys, with a field ``features`` for what the network reads) and ``forward``. It is built by its
    settings and the number of targets alone. A crystal's row may depend neither on the other
    crystals of the batch (but for statistics of normalisation while training) nor on how the
    crystal is written down: :func:`potnet.testing.check_network` looks.

    Args:
        settings: All settings.
        n_targets: Numbers predicted for each crystal.

    Attributes:
        name: What settings and archives call the network.
        Settings: Class of its settings; each has a default.
        settings: Those of this one, of the class ``Settings``.
        n_targets: Numbers predicted for each crystal.
        references: A function of the composition that the network adds to its output: row Z is the
            part of the element Z, and rows beyond 118, if any, those that are divided by the atoms
            in the reduced formula. Training fits it before it begins. None if there is none.
        is_recordable: Whether a step on a GPU may be recorded and replayed: crystals that are added
            to a batch change nothing for the others while training either, the same operations
            are done for all batches of a shape, and none waits for the device.
    """

    name: ClassVar[str]
    is_recordable: ClassVar[bool] = False
    Settings: ClassVar[type[BaseModel]]
    settings: Any
    references: nn.Embedding | None

    def __init__(self, settings: BaseModel, n_targets: int) -> None:
        super().__init__()
        self.settings = settings
        self.n_targets = n_targets
        self.references = None

    @property
    def features(self) -> Features:
        """What turns crystals into batches for this network."""
        return self.settings.features

    def embedding(self, batch: Batch) -> Tensor:
        """Return numbers that describe each crystal, shape (n_graphs, n_numbers).

        Raises:
            ModelError: If the network offers none.
        """
        raise ModelError(
            f"{self.name}: the network must offer an embedding, got one that does not. "
            "Use a model of the network completenet."
        )

    def embedding_of_atoms(self, batch: Batch) -> Tensor:
        """Return numbers that describe each node in its crystal, shape (n_nodes, n_numbers).

        Raises:
            ModelError: If the network offers none.
        """
        raise ModelError(
            f"{self.name}: the network must offer an embedding of atoms, got one that does not. "
            "Use a model of the network completenet."
        )

    def from_embedding(self, states: Tensor, batch: Batch) -> Tensor:
        """Return what a call returns; ``states`` are what :meth:`embedding` says, to save work."""
        return self(batch)

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Return one row per crystal, shape (n_graphs, n_targets), in standardised units."""
