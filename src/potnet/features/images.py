"""One crystal image by image, as functions of positions and cell."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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

    def at(self, distances: Tensor) -> tuple[Tensor, Tensor]:
        """Return shells and their slopes, shape (n, n_shells), at distances of shape (n, 1)."""
        x = (distances - self.centers).div_(self.width)
        gaussians = torch.exp(-x * x)
        gaussians.masked_fill_(gaussians < _NEGLIGIBLE, 0).mul_(self.factors)
        edge = (1 - (distances / self.cutoff) ** 2).clamp_(min=0)
        shells = gaussians * edge**3
        slopes = x.mul_(-2 / self.width).mul_(shells)
        slopes.addcmul_(gaussians, distances * edge**2, value=-6 / self.cutoff**2)
        return shells, slopes


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
        i, j, shifts = images
        vectors = torch.addmm(positions[j] - positions[i], shifts, cell)
        distances = vectors.norm(dim=1, keepdim=True)
        values, slopes = shells.at(distances)
        directions = vectors / distances
        ctx.images, ctx.n_atoms, ctx.degree = images, len(positions), shells.degree
        ctx.save_for_backward(slopes, distances, directions)
        return values, _harmonics(directions, shells.degree)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_shells: Tensor, by_harmonics: Tensor) -> Any:  # type: ignore[override]
        slopes, distances, directions = ctx.saved_tensors
        i, j, shifts = ctx.images
        along = (by_shells * slopes).sum(1, keepdim=True)
        by_vectors = directions * along
        if ctx.degree:
            turn = _by_directions(directions, by_harmonics)
            turn = turn - directions * (turn * directions).sum(1, keepdim=True)
            by_vectors.addcdiv_(turn, distances)
        by_positions = by_vectors.new_zeros(ctx.n_atoms, 3)
        by_positions.index_add_(0, j, by_vectors).index_add_(0, i, by_vectors, alpha=-1)
        return by_positions, shifts.t() @ by_vectors, None, None


def _harmonics(directions: Tensor, degree: int) -> Tensor:
    """Return the real solid harmonics up to a degree, 2 at most, of unit vectors (n, 3)."""
    parts = [torch.ones_like(directions[:, :1]), directions]
    if degree == 2:
        x, y, z = directions.unbind(1)
        root = math.sqrt(3)
        along, across = 1.5 * z * z - 0.5, 0.5 * root * (x * x - y * y)
        parts.append(torch.stack([root * x * y, root * y * z, along, root * x * z, across], 1))
    return torch.cat(parts[: degree + 1], 1)


def _by_directions(directions: Tensor, loss: Tensor) -> Tensor:
    """Return derivatives by unit vectors from those by their harmonics, up to what is along."""
    if loss.shape[1] == 4:
        return loss[:, 1:]
    (x, y, z), root = directions.unbind(1), math.sqrt(3)
    xy, yz, along, xz, across = loss[:, 4:].unbind(1)
    turn = [
        root * (y * xy + z * xz + x * across),
        root * (x * xy + z * yz - y * across),
        root * (y * yz + x * xz) + 3 * z * along,
    ]
    return loss[:, 1:4] + torch.stack(turn, 1)
