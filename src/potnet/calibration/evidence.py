"""What a model has to judge by how sure it may be of its predictions."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from potnet.crystal import Crystal
from potnet.crystal.compositions import Compositions

N_ELEMENTS = 119  # atomic numbers from 0


@dataclass(frozen=True)
class Evidence:
    """What is seen of crystals while they are predicted; no true value is in it.

    None of it depends on how the crystals are written down.

    Attributes:
        states: What the networks make of each crystal, shape (n, n_states); n_states is 0 where
            they offer none.
        outputs: Of the networks together, standardised, shape (n, n_targets).
        spreads: Standard deviation over the networks, witnesses among them, 0 if there is one
            alone, shape (n, n_targets).
        shares: Of the elements by atomic number, shape (n, N_ELEMENTS).
        n_atoms: Of the primitive cell, shape (n,).
        volumes: Per atom in Å^3, shape (n,).
    """

    states: NDArray[np.float32]
    outputs: NDArray[np.float64]
    spreads: NDArray[np.float64]
    shares: NDArray[np.float64]
    n_atoms: NDArray[np.int64]
    volumes: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.n_atoms)

    def __getitem__(self, rows: NDArray) -> Evidence:
        """Return the crystals ``rows`` (indices or a mask), in that order."""
        return Evidence(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class Contents:
    """Compositions and volumes of crystals.

    Attributes:
        shares: Of the elements by atomic number, shape (n, N_ELEMENTS).
        volumes: Per atom in Å^3, shape (n,).
    """

    shares: NDArray[np.float64]
    volumes: NDArray[np.float64]

    @classmethod
    def of(cls, crystals: Sequence[Crystal]) -> Contents:
        """Return those of ``crystals``, each of which is read once."""
        found = ManyContents.of(crystals)
        return cls(found.shares[:], found.volumes)


@dataclass(frozen=True)
class ManyContents:
    """What :class:`Contents` is, in memory that is small beside the features.

    Attributes:
        shares: As there, written out for some crystals at a time.
        volumes: As there.
    """

    shares: Compositions
    volumes: NDArray[np.float64]

    @classmethod
    def of(cls, crystals: Iterable[Crystal]) -> ManyContents:
        """Return those of ``crystals``, each of which is read once."""
        volumes = array("d")

        def seen() -> Iterator[Crystal]:
            for crystal in crystals:
                volumes.append(crystal.volume / crystal.n_atoms)
                yield crystal

        shares = Compositions.of(seen(), N_ELEMENTS)
        return cls(shares, np.array(volumes))
