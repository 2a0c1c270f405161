"""One crystal image by image, as functions of positions and cell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from latticesums.compiled.calls import in_memory
from latticesums.compiled.machine_code import kernel
from potnet.features.batch import Batch

# Smaller shells are 0: products with numbers of few digits are a hundred times as slow.
_NEGLIGIBLE = 1e-20


@dataclass(frozen=True)
class Images:
    """Images of atoms within the cutoff of each other, and sums that reach beyond.

    Attributes:
        i: Atom that meets an image, shape (n_images,).
        j: Atom whose image it is; not below i, and for i = j there and back.
        shells: At each image, times what brings them to the order of 1, (n_images, n_shells).
        harmonics: Of the direction from i to j, the degrees one after the other, shape (n_images,
            n_harmonics).
        far: Sums of all pairs in the same way, shape (n_atoms, n_far, n_atoms).
    """

    i: Tensor
    j: Tensor
    shells: Tensor
    harmonics: Tensor
    far: Tensor

    def single(self) -> Images:
        """Return the same in single precision."""
        far = self.far.float()
        far = far.masked_fill(far.detach().abs() < _NEGLIGIBLE, 0)
        return Images(self.i, self.j, self.shells.float(), self.harmonics.float(), far)


@dataclass(frozen=True)
class ImageBatch(Batch):
    """One crystal whose pairs are left as images.

    Attributes:
        images: The images.
    """

    images: Images

    def single(self) -> ImageBatch:
        """Return the crystal in single precision."""
        return replace(self, weights=self.weights.float(), images=self.images.single())


class Shells(NamedTuple):
    """Gaussian shells with a smooth end, and directions beside them.

    Attributes:
        centers: In Å, shape (n_shells,); ``factors`` multiply the shells.
        width: Of each in Å.
        cutoff: Where they end in Å.
        degree: Highest degree of the harmonics.
    """

    centers: Tensor
    factors: Tensor
    width: float
    cutoff: float
    degree: int


def at_images(
    positions: Tensor, cell: Tensor, images: tuple[Tensor, Tensor, Tensor], shells: Shells
) -> tuple[Tensor, Tensor]:
    """Return shells and harmonics at images, with first derivatives by positions and cell.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3).
        cell: Lattice vectors as rows in Å, shape (3, 3).
        images: Atoms i and j and shifts, as :func:`latticesums.images` returns them.
        shells: What there is at each.

    Returns:
        Shapes (n_images, n_shells) and (n_images, (degree + 1)^2). The squares of the harmonics of
        one degree add up to 1; :func:`latticesums.directed_sums` says which they are.
    """
    return _AtImages.apply(positions, cell, images, shells)  # type: ignore[no-any-return]


class _AtImages(torch.autograd.Function):
    """Shells and harmonics as one step of a tape."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        positions: Tensor,
        cell: Tensor,
        images: tuple[Tensor, Tensor, Tensor],
        shells: Shells,
    ) -> tuple[Tensor, Tensor]:
        sizes = len(positions), len(images[0]), len(shells.centers), shells.degree
        values, slopes = (positions.new_empty(sizes[1:3]) for _ in range(2))
        distances, directions = positions.new_empty(sizes[1]), positions.new_empty(sizes[1], 3)
        harmonics = positions.new_empty(sizes[1], (shells.degree + 1) ** 2)
        given = positions.contiguous(), cell.contiguous()
        arrays = *given, *images, shells.centers, shells.factors, values, slopes
        places = _addresses(*arrays, distances, directions, harmonics)
        limits = shells.width, shells.cutoff, _NEGLIGIBLE
        in_memory(kernel("image_shells"), *sizes, *limits, *places)
        ctx.images, ctx.sizes = images, sizes
        ctx.save_for_backward(slopes, distances, directions)
        return values, harmonics

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_shells: Tensor, by_harmonics: Tensor) -> Any:  # type: ignore[override]
        n_atoms, *_ = ctx.sizes
        by_positions, by_cell = by_shells.new_empty(n_atoms, 3), by_shells.new_empty(3, 3)
        given = by_shells.contiguous(), by_harmonics.contiguous(), by_positions, by_cell
        places = _addresses(*ctx.images, *ctx.saved_tensors, *given)
        kernel("pull_image_shells")(*ctx.sizes, *places)
        return by_positions, by_cell, None, None


def _addresses(*tensors: Tensor) -> tuple[int, ...]:
    return tuple(tensor.data_ptr() for tensor in tensors)
