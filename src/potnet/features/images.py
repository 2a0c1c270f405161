"""One crystal image by image, as functions of positions and cell."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

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
        far: Sums of all pairs in the same way, shape (n_far, n_atoms, n_atoms).
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


def shells_at(distances: Tensor, centers: Tensor, width: float, cutoff: float) -> Tensor:
    """Return Gaussian shells with a smooth end, shape (n, n_shells).

    Args:
        distances: In Å, shape (n, 1).
        centers: Of the shells in Å, shape (n_shells,).
        width: Of each in Å.
        cutoff: Where they end in Å.
    """
    return _Shells.apply(distances, centers, width, cutoff)  # type: ignore[no-any-return]


class _Shells(torch.autograd.Function):
    """Shells, with their slopes beside them."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, distances: Tensor, centers: Tensor, width: float, cutoff: float
    ) -> Tensor:
        x = (distances - centers) / width
        edge = (1 - (distances / cutoff) ** 2).clamp(min=0)
        # what is left of a Gaussian, and its slope: that of the end comes with a power less
        gaussians = torch.exp(-x * x)
        gaussians.masked_fill_(gaussians < _NEGLIGIBLE, 0)
        shells = gaussians * edge**3
        slopes = x.mul_(-2 / width).mul_(shells)
        slopes.addcmul_(gaussians, distances * edge**2, value=-6 / cutoff**2)
        ctx.save_for_backward(slopes)
        return shells

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        (slopes,) = ctx.saved_tensors
        return (gradient * slopes).sum(1, keepdim=True), None, None, None


def harmonics_at(directions: Tensor, degree: int) -> Tensor:
    """Return the real solid harmonics up to a degree, 2 at most, shape (n, (degree + 1)^2).

    The squares of those of one degree add up to 1; :func:`latticesums.directed_sums` says which
    they are.

    Args:
        directions: Unit vectors, shape (n, 3).
        degree: The highest.
    """
    parts = [torch.ones_like(directions[:, :1]), directions]
    if degree == 2:
        x, y, z = directions.unbind(1)
        root = math.sqrt(3)
        along, across = 1.5 * z * z - 0.5, 0.5 * root * (x * x - y * y)
        parts.append(torch.stack([root * x * y, root * y * z, along, root * x * z, across], 1))
    return torch.cat(parts[: degree + 1], 1)
