"""What a network relies on in the features that it reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from potnet.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from potnet.crystal import Crystal
    from potnet.features.batch import Batch


class Features(BaseModel, ABC):
    """Settings that turn crystals into batches: frozen, comparable, kept in a model's card.

    A subclass declares its settings as fields, with a ``version`` that is raised when the meaning
    of its numbers changes, and implements a call. The two other methods have answers that are
    right for any features.

    Raises:
        ValueError: If a setting is of another type, or outside of its range: pydantic's own.

    Attributes:
        is_differentiable: Whether :meth:`differentiable` is implemented.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    is_differentiable: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, crystals: Sequence[Crystal]) -> Batch:
        """Return the features of ``crystals``, in order.

        Raises:
            StructureError: If a crystal has no features.
        """

    def once(self, crystals: Sequence[Crystal]) -> Batch:
        """Return features that are read once, for which less may be spent on their compactness.

        Networks must give the same results as with the features of a call.
        """
        return self(crystals)

    def each_atom(self, crystals: Sequence[Crystal]) -> Batch:
        """Return features with a node for each atom of the cells as they are given, in order.

        Raises:
            ModelError: If the features know no single atoms of any cell.
        """
        raise ModelError(
            f"{type(self).__name__}: the features must not depend on the cell for each atom to "
            "have its own node, got some that do. Use a model of the network completenet."
        )

    def differentiable(self, crystal: Crystal, positions: Tensor, cell: Tensor) -> Batch:
        """Return the features of one crystal as functions of its positions and its cell.

        Args:
            crystal: The crystal at which derivatives are wanted.
            positions: Its positions in Å, float64, shape (n_atoms, 3).
            cell: Its lattice vectors as rows in Å, float64, shape (3, 3).

        Returns:
            A batch of one crystal, float64.

        Raises:
            ModelError: If the features have no derivatives.
        """
        raise ModelError(
            f"{type(self).__name__}: the features must be differentiable, got some that are not. "
            "Use a model of the network completenet."
        )
