"""The sums in torch: batched, differentiable twice, on the CPU and on CUDA devices.

S(i, j) = sum over lattice vectors L of short(|d + L|) + (1/V) sum over wave vectors k of
long(k) cos(k d), with d = r_j - r_i (docs/theory.md, eq. 3). Crystals with about as many atoms are
evaluated together, in chunks that keep within a stated budget of memory.

Reading the shapes: g crystals of a chunk, n atoms, p pairs i < j and one pair of an atom with
itself, m lattice vectors, k wave vectors, q potentials.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latticesums import slabs_and_wires
from latticesums.errors import ConfigError, StructureError
from latticesums.lattice import SAME_SPOT, NearPositions, bring_near, check_cells
from latticesums.plan import Plan, make_plan
from latticesums.potentials.base import Potential
from latticesums.rounding import rounding_bounds

#: Candidate (pair, image) couples looked at together; sets the working memory, about 100 bytes
#: per couple without gradients. With gradients every chunk's graph is kept until it is used.
CHUNK = 1 << 20

Indices = NDArray[np.int64]


def evaluate(
    positions: Tensor,
    cells: Tensor,
    n_atoms: Indices,
    potentials: Sequence[Potential],
    tolerance: float,
    share: NDArray[np.float64] | float = 1.0,
    *,
    dtype: torch.dtype = torch.float64,
    of_each: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the sums of all ordered pairs of each crystal, and the bound of their error.

    Args:
        positions: Cartesian coordinates in Å, float64, shape (n_atoms, 3), crystal after crystal.
        cells: Lattice vectors as rows in Å, float64, shape (n_graphs, d, 3), for crystals that
            are periodic in d directions, 0 to 3.
        n_atoms: Atoms of each crystal, at least 1, shape (n_graphs,).
        potentials: What to sum, no combinations.
        tolerance: Largest absolute error.
        share: Multiplies the tolerance of each potential, shape (n_potentials,) or
            (n_graphs, n_potentials).
        dtype: What most of the work is done in, float64 or float32.
        of_each: Whether to bound the error of each sum, and not to refuse any.

    Returns:
        Sums of shape (n_pairs, n_potentials), crystal after crystal, i slow and j fast; and the
        error bounds of each crystal, shape (n_graphs, n_potentials), or those of each sum.

    Raises:
        StructureError: If a cell cannot be summed over, or two atoms are on one spot.
        ConfigError: If the tolerance is out of range or below what the dtype can keep.
    """
    rows, points = cells.detach().cpu().numpy(), positions.detach().cpu().numpy()
    near = bring_near(points, rows, n_atoms)
    rests = None
    if near is not None:
        points = near.positions
        positions, rests = _moved(positions, cells, n_atoms, near)
    starts = np.cumsum(n_atoms) - n_atoms
    single = dtype == torch.float32
    share = np.multiply(share, 0.5 if single else 1.0)  # one half is for rounding
    across = 0.0 if cells.shape[1] == 3 else heights(points, rows, n_atoms)
    plan = make_plan(rows, n_atoms, potentials, tolerance, share, heights=across)
    tolerances = plan.tolerance * (2 if single else 1)
    far_off = np.maximum.reduceat(np.abs(points).max(1), starts)
    grid = _grids(plan, far_off)
    values, stats, order = [], [], []
    with torch.autocast(positions.device.type, enabled=False):
        for graphs in _chunks(plan, n_atoms):
            chunk = _Chunk.gather(
                positions, rests, cells, plan, grid, graphs, starts[graphs], n_atoms[graphs], dtype
            )
            chunk_values, chunk_stats = _evaluate_chunk(chunk, potentials, of_each)
            values.append(chunk_values)
            stats.append(chunk_stats)
            order.append(graphs)
    _check_distances(stats, order, n_atoms)
    sums = _in_order(values, order, n_atoms, positions.device)
    back = np.argsort(np.concatenate(order))
    wave_sums, constants = _cat(stats, "wave_sums")[back], _cat(stats, "constants")[back]
    if of_each:
        graph = np.repeat(np.arange(len(n_atoms)), n_atoms**2)
        short = _in_order([s.short_sums for s in stats], order, n_atoms, positions.device)
        rounding = rounding_bounds(
            plan,
            potentials,
            short_sums=short.cpu().numpy(),
            wave_sums=wave_sums,
            constants=constants,
            graph=graph,
            single=single,
        )
        errors = plan.truncation[graph] + rounding
        if cells.shape[1] == 0:  # an atom of a cluster has no images: its own sum is 0, exactly
            errors[_own_pairs(n_atoms)] = 0
        return sums, torch.from_numpy(errors).to(positions.device)
    bounds = plan.truncation + rounding_bounds(
        plan,
        potentials,
        short_sums=_cat(stats, "short_sums")[back],
        wave_sums=wave_sums,
        constants=constants,
        single=single,
    )
    certify(bounds / tolerances, potentials, tolerance, dtype)
    return sums, torch.from_numpy(bounds).to(positions.device)


def _own_pairs(n_atoms: Indices) -> Indices:
    """Return the numbers of the pairs of an atom with itself."""
    starts = np.cumsum(n_atoms**2) - n_atoms**2
    atom = np.arange(n_atoms.sum()) - np.repeat(np.cumsum(n_atoms) - n_atoms, n_atoms)
    return np.repeat(starts, n_atoms) + atom * np.repeat(n_atoms + 1, n_atoms)


def _moved(
    positions: Tensor, cells: Tensor, n_atoms: Indices, near: NearPositions
) -> tuple[Tensor, Tensor]:
    """Return positions brought near the origin and what they lack, with the derivatives of them."""
    device = positions.device
    owner = torch.from_numpy(np.repeat(np.arange(len(cells)), n_atoms)).to(device)
    wraps = torch.from_numpy(near.wraps).to(device)
    moved = positions - (wraps[:, None] @ cells[owner])[:, 0]
    moved = moved - moved.detach() + torch.from_numpy(near.positions).to(device)
    return moved, torch.from_numpy(near.rests).to(device)


def heights(
    positions: NDArray[np.float64], cells: NDArray[np.float64], n_atoms: Indices
) -> NDArray[np.float64]:
    """Return bounds of the distance of any two atoms across the lattice, (n_graphs,), Å."""
    check_cells(cells)
    starts = np.cumsum(n_atoms) - n_atoms
    across = np.eye(3) - np.linalg.pinv(cells) @ cells
    offsets = positions - np.repeat(positions[starts], n_atoms, 0)
    offsets = np.einsum("na,nab->nb", offsets, np.repeat(across, n_atoms, 0))
    return 2 * np.maximum.reduceat(np.sqrt((offsets * offsets).sum(1)), starts)


def _grids(plan: Plan, far_off: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return powers of two, (n_graphs,), on whose multiples vectors add up without rounding.

    Args:
        plan: How to sum.
        far_off: Largest coordinate of each crystal, Å.
    """
    # large enough for all partial sums: a reduced basis is not far from orthogonal
    size = 8 * (2 * far_off + plan.radius + 2 * plan.reach) + 4 * plan.scale
    return np.ldexp(1.0, np.frexp(size)[1] - 52)


def _on_grid(x: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest multiples of ``grid``, a constant, and the rest, which carries gradients.

    Integer combinations of the first parts are exact, those of the rests are as small as roundoff:
    their sum is a vector that has the accuracy of its own length (docs/theory.md, "Rounding").
    """
    high = (x.detach() / grid).round() * grid
    return high, x - high


@dataclass(frozen=True)
class _Chunk:
    """Crystals of about the same size, padded to the same number of atoms.

    Attributes:
        graphs: Which crystals, (g,).
        n_atoms: Their atoms, (g,).
        first: Number of their first atom in the whole batch, (g,).
        positions: Coordinates relative to the first atom, on a grid, and their rests; padding
            repeats the last atom, twice (g, n, 3).
        basis: Reduced lattice vectors, on the same grid, and their rests, twice (g, d, 3).
        radius, wave_radius: See :class:`Plan`, (g,).
        length, count: Nodes of the long half of wires and slabs, (g,) and one number.
        alpha: Split widths, (g, q); all or none of a column are 0.
        box, wave_box: Integers to look at for lattice and wave vectors.
        dtype: What functions of distances and sums of waves are computed in. Vectors and Fourier
            coefficients are float64 always.
    """

    graphs: Indices
    n_atoms: Indices
    first: Indices
    positions: tuple[Tensor, Tensor]
    basis: tuple[Tensor, Tensor]
    radius: Tensor
    wave_radius: Tensor
    length: Tensor
    count: int
    alpha: Tensor
    box: tuple[int, ...]
    wave_box: tuple[int, ...]
    is_split: tuple[bool, ...]
    dtype: torch.dtype

    @property
    def n_pairs(self) -> int:
        """Pairs i < j of the padded atoms, and one of an atom with itself."""
        n = self.positions[0].shape[1]
        return n * (n - 1) // 2 + 1

    @staticmethod
    def gather(
        positions: Tensor,
        rests: Tensor | None,
        cells: Tensor,
        plan: Plan,
        grid: NDArray[np.float64],
        graphs: Indices,
        first: Indices,
        n_atoms: Indices,
        dtype: torch.dtype,
    ) -> _Chunk:
        """Return the crystals ``graphs`` of a batch."""
        device = positions.device
        room = _padded(n_atoms).max()
        rows = first[:, None] + np.minimum(np.arange(room), n_atoms[:, None] - 1)
        index = torch.from_numpy(rows).to(device)
        atoms = positions[index]
        whole = len(graphs) == len(cells) and bool((np.diff(graphs) == 1).all())
        own = cells if whole else cells[torch.from_numpy(graphs).to(device)]
        d = cells.shape[1]
        nodes = plan.quadrature
        length = np.zeros(len(cells)) if nodes is None else nodes.length
        numbers = np.concatenate(
            [
                plan.transform[graphs].reshape(len(graphs), d * d),
                plan.alpha[graphs],
                np.stack([plan.radius, plan.wave_radius, length, grid], 1)[graphs],
            ],
            1,
        )
        packed = torch.from_numpy(numbers).to(device)
        transform, alpha = packed[:, : d * d].view(len(graphs), d, d), packed[:, d * d : -4]
        high, low = _on_grid(atoms, packed[:, None, -1:])
        if rests is not None:
            low = low + rests[index]
        cell_high, cell_low = _on_grid(own, packed[:, None, -1:])
        basis = plan.basis[graphs]
        inverse = np.linalg.pinv(basis)
        reach = (plan.radius + plan.lattice.covering)[graphs, None]
        box = np.floor(reach * np.linalg.norm(inverse, axis=1) + 1e-9)
        box = np.minimum(box, _gram_schmidt_box(basis, plan.radius[graphs]))
        wave_box = np.floor(
            plan.wave_radius[graphs, None] / (2 * np.pi) * np.linalg.norm(basis, axis=2) + 1e-9
        )
        return _Chunk(
            graphs=graphs,
            n_atoms=n_atoms,
            first=first,
            positions=(high - high[:, :1], low - low[:, :1]),
            basis=(transform @ cell_high, transform @ cell_low),
            radius=packed[:, -4],
            wave_radius=packed[:, -3],
            length=packed[:, -2],
            count=0 if nodes is None else int(nodes.count[graphs[0]]),
            alpha=alpha,
            box=tuple(int(x) for x in box.max(0)),
            wave_box=tuple(int(x) for x in wave_box.max(0)),
            is_split=tuple(bool(x) for x in plan.alpha[graphs[0]] > 0),
            dtype=dtype,
        )


def _gram_schmidt_box(
    basis: NDArray[np.float64], radius: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the largest integers that images of wrapped vectors within a radius can have.

    A vector of the centred Gram-Schmidt box and its image differ by at most radius / l + 1/2 in
    each Gram-Schmidt coordinate, and coordinates of a vector of the basis along those before it
    are known: so from the last integer to the first.
    """
    d = basis.shape[1]
    orthogonal = np.linalg.cholesky(basis @ basis.transpose(0, 2, 1)) if d else basis[:, :, :0]
    lengths = orthogonal.diagonal(axis1=1, axis2=2)
    shear = np.abs(orthogonal / lengths[:, None])
    box = np.zeros(lengths.shape)
    for axis in reversed(range(d)):
        beyond = (box[:, axis + 1 :] * shear[:, axis + 1 :, axis]).sum(1)
        box[:, axis] = np.floor(radius / lengths[:, axis] * (1 + 1e-9) + 0.5 + beyond + 1e-9)
    return box


def _padded(n_atoms: Indices) -> Indices:
    """Return the numbers of atoms to which crystals are padded: an eighth more at most."""
    step = 2 ** np.maximum(np.log2(n_atoms).astype(np.int64) - 3, 0)
    return -(-n_atoms // step) * step


def _chunks(plan: Plan, n_atoms: Indices) -> Iterator[Indices]:
    """Yield the crystals to be evaluated together.

    Crystals of one chunk split the same potentials, take the same nodes and are padded to the same
    number of atoms, so that what is computed of one does not depend on the others.
    """
    rounded = _padded(n_atoms)
    pattern = (plan.alpha > 0) @ (2.0 ** np.arange(plan.alpha.shape[1]))
    count = np.zeros(len(n_atoms)) if plan.quadrature is None else plan.quadrature.count
    n_images = plan.n_images
    order = np.lexsort((n_images, rounded, pattern, count))
    cost = n_images * (0.5 * rounded * (rounded - 1) + 1)
    kinds = np.stack([rounded, pattern, count])[:, order]
    ends = np.flatnonzero((np.diff(kinds) != 0).any(0)) + 1
    for bucket in np.split(order, ends):
        start = 0
        while start < len(bucket):
            # images are padded to the last crystal's, and the crystals are sorted by them
            padded = np.arange(1, len(bucket) - start + 1) * cost[bucket[start:]]
            size = max(1, int(np.searchsorted(padded, CHUNK, side="right")))
            yield bucket[start : start + size]
            start += size


@dataclass(frozen=True)
class _Stats:
    """Sizes of what was added, for the rounding bound.

    Attributes:
        short_sums: The largest of each crystal, (g, q), or those of each pair, (n_pairs, q).
        wave_sums, constants: One row per crystal, (g, q).
        closest: Smallest squared distances met, and to what pair of the chunk they belong, (n, 2).
    """

    short_sums: Tensor
    wave_sums: Tensor
    constants: Tensor
    closest: Tensor


def _cat(stats: Sequence[_Stats], name: str) -> NDArray[np.float64]:
    return torch.cat([getattr(s, name) for s in stats]).cpu().numpy()


def _evaluate_chunk(
    chunk: _Chunk, potentials: Sequence[Potential], of_each: bool
) -> tuple[Tensor, _Stats]:
    """Return the sums of the ordered pairs of a chunk, shape (n_pairs, q)."""
    (high, low), (basis_high, basis_low) = chunk.positions, chunk.basis
    basis = basis_high + basis_low
    device = basis.device
    g, n, _ = high.shape
    d = basis.shape[1]
    inverse, volume = _inverse(basis)
    with torch.no_grad():
        cells_off = (high @ inverse).round()
    high, low = high - cells_off @ basis_high, low - cells_off @ basis_low
    fractions = (high + low) @ inverse

    i, j = torch.triu_indices(n, n, 1, device=device)
    with torch.no_grad():
        # basis = shear @ (orthogonal rows of these lengths)
        root = torch.linalg.cholesky(basis @ basis.mT)
        lengths = root.diagonal(dim1=1, dim2=2)
        shear = root / lengths[:, None]
        wraps = _nearest_plane(fractions[:, j] - fractions[:, i], shear)
        images, valid = _images(chunk, shear, lengths)
    vectors = high[:, j] - high[:, i] + wraps @ basis_high
    vectors = vectors + (low[:, j] - low[:, i] + wraps @ basis_low)
    vectors = torch.cat([vectors, vectors.new_zeros(g, 1, 3)], 1)
    lattice = images @ basis_high + images @ basis_low
    short, closest = _short_sums(chunk, vectors, lattice, valid, potentials)

    if d == 3:
        wave, wave_sums = _wave_sums(chunk, fractions, inverse, volume, potentials)
        flat = {p: _background(chunk, potentials[p], p, volume) for p in wave}
    else:
        wave = {}
        flat, wave_sums = _lower_sums(chunk, vectors, basis, inverse, volume, potentials)
    own = torch.zeros(vectors.shape[1], dtype=vectors.dtype, device=device)
    own[-1] = 1
    pair = torch.full((n, n), len(i), dtype=torch.long, device=device)
    pair[i, j] = pair[j, i] = torch.arange(len(i), device=device)
    columns, constants = [], []
    for p, potential in enumerate(potentials):
        column, size = short[p], torch.zeros_like(volume)
        if chunk.is_split[p]:
            itself = potential.long_at_zero(chunk.alpha[:, p])
            column = column + flat[p] - itself[:, None] * own
            size = flat[p].detach().abs().amax(1) + itself.detach()
        columns.append(column.index_select(1, pair.view(-1)))
        if p in wave:
            columns[-1] = columns[-1] + wave[p].reshape(g, n * n)
        constants.append(size)
    values = _drop_padding(torch.stack(columns, -1), chunk.n_atoms, n)
    if of_each:
        added = torch.stack([s.detach().index_select(1, pair.view(-1)) for s in short], -1)
        short_sums = _drop_padding(added, chunk.n_atoms, n)
    else:
        short_sums = torch.stack([s.detach().amax(1) for s in short], -1)
    return values, _Stats(short_sums, wave_sums, torch.stack(constants, -1), closest)


def _inverse(basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return what makes coordinates of vectors along the lattice, (g, 3, d), and its volume."""
    if basis.shape[1] == 3:
        return torch.linalg.inv(basis), torch.linalg.det(basis).abs()
    gram = basis @ basis.mT
    return basis.mT @ torch.linalg.inv(gram), torch.linalg.det(gram).sqrt()


def _nearest_plane(fractions: Tensor, shear: Tensor) -> Tensor:
    """Return integers that bring vectors into the centred Gram-Schmidt box (Babai).

    Rounding ``fractions`` itself would leave longer vectors, and need more images to be looked at.

    Args:
        fractions: Coordinates in the basis, shape (g, p, d).
        shear: Coordinates of the basis in its Gram-Schmidt vectors, shape (g, d, d).
    """
    place = fractions @ shear
    wraps = torch.empty_like(place)
    for axis in reversed(range(place.shape[-1])):
        wraps[..., axis] = -place[..., axis].round()
        place = place + wraps[..., axis, None] * shear[:, None, axis]
    return wraps


def _images(chunk: _Chunk, shear: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return integers of the images that can come within the radius, and which are not padding.

    A vector of the centred Gram-Schmidt box moves each Gram-Schmidt coordinate of an image by one
    half at most. The first image is the zero one.
    """
    half = _half_grid(chunk.box, lengths)
    gaps = ((half @ shear).abs() - 0.5).clamp(min=0) * lengths[:, None]
    half, valid = _pack(half, (gaps * gaps).sum(-1) <= (chunk.radius**2 * (1 + 1e-9))[:, None])
    images = torch.cat([torch.zeros_like(half[:, :1]), half, -half], 1)
    return images, torch.cat([torch.ones_like(valid[:, :1]), valid, valid], 1)


def _short_sums(
    chunk: _Chunk,
    vectors: Tensor,
    lattice: Tensor,
    valid: Tensor,
    potentials: Sequence[Potential],
) -> tuple[list[Tensor], Tensor]:
    """Return the sums of short halves, q tensors of shape (g, p), and the closest distances."""
    is_pair = _pair_mask(chunk, vectors.shape[1])
    step = max(1, CHUNK // (lattice.shape[0] * lattice.shape[1]))
    parts = []
    for start in range(0, vectors.shape[1], step):
        stop = min(start + step, vectors.shape[1])
        mask = None if is_pair is None else is_pair[:, start:stop]
        parts.append(
            _short_part(chunk, vectors[:, start:stop], lattice, valid, mask, start, potentials)
        )
    sums = [torch.cat([part[q] for part, _ in parts], 1) for q in range(len(potentials))]
    return sums, torch.cat([closest for _, closest in parts])


def _short_part(
    chunk: _Chunk,
    vectors: Tensor,
    lattice: Tensor,
    valid: Tensor,
    is_pair: Tensor | None,
    start: int,
    potentials: Sequence[Potential],
) -> tuple[list[Tensor], Tensor]:
    """Return what :func:`_short_sums` returns, for the pairs from number ``start`` on."""
    g, n_pairs, _ = vectors.shape
    n_images = lattice.shape[1]
    with torch.no_grad():
        # |d + L|^2 = |d|^2 + |L|^2 + 2 d L in one product, only to choose what is near enough
        d, far = vectors.detach().to(chunk.dtype), lattice.detach().to(chunk.dtype)
        far2 = torch.where(valid, _dot(far, far), math.inf)
        d2 = _dot(d, d)
        if is_pair is not None:
            d2 = torch.where(is_pair, d2, math.inf)
        radius = chunk.radius.to(chunk.dtype)[:, None]
        limit = radius * radius - d2
        if chunk.dtype == torch.float32:  # rather an image too many than one too few
            limit = limit + 1e-6 * (radius + 2 * d2.sqrt()) ** 2
        near = torch.baddbmm(far2[:, None], d, far.mT, alpha=2.0) <= limit[:, :, None]
        if start + n_pairs == chunk.n_pairs:
            near[:, -1, 0] = False
        flat = near.view(-1).nonzero().view(-1)
        pair = flat // n_images  # counted over the chunk
        graph = pair // n_pairs
        image = flat - pair * n_images + graph * n_images
    # one component at a time: a gather of numbers is quicker than one of rows, forth and back
    r2 = torch.zeros((), dtype=vectors.dtype, device=vectors.device)
    for component, translation in zip(vectors.unbind(-1), lattice.unbind(-1), strict=True):
        v = component.reshape(-1).index_select(0, pair)
        v = v + translation.reshape(-1).index_select(0, image)
        r2 = r2 + v * v
    closest = r2.new_zeros(0, 2)
    if len(pair):
        least = r2.detach().argmin()
        number = pair[least] + graph[least] * (chunk.n_pairs - n_pairs) + start
        closest = torch.stack([r2.detach()[least], number.to(r2.dtype)])[None]
    sums = []
    for p, potential in enumerate(potentials):
        x = r2.to(chunk.dtype) if potential.in_float32(chunk.is_split[p]) else r2
        if chunk.is_split[p]:
            terms = potential.short(x, chunk.alpha[:, p].to(x.dtype).index_select(0, graph))
        else:
            terms = potential.value(x)
        total = torch.zeros(g * n_pairs, dtype=r2.dtype, device=r2.device)
        sums.append(total.index_add(0, pair, terms.to(r2.dtype)).view(g, n_pairs))
    return sums, closest


def _wave_sums(
    chunk: _Chunk,
    fractions: Tensor,
    inverse: Tensor,
    volume: Tensor,
    potentials: Sequence[Potential],
) -> tuple[dict[int, Tensor], Tensor]:
    """Return the sums over wave vectors k != 0, (g, n, n) per split potential, and their sizes."""
    n = fractions.shape[1]
    sizes = torch.zeros(len(volume), len(potentials), dtype=volume.dtype, device=volume.device)
    split = [p for p in range(len(potentials)) if chunk.is_split[p]]
    if not split:
        return {}, sizes
    reciprocal = 2 * math.pi * inverse.mT
    with torch.no_grad():
        half = _half_grid(chunk.wave_box, volume)
        k2 = _squares(half, reciprocal @ reciprocal.mT)
        chosen = k2 <= (chunk.wave_radius**2 * (1 + 1e-9))[:, None]

    def evaluate(rows: Tensor | slice, width: int) -> tuple[Tensor, Tensor]:
        integers, valid = _pack(half, chosen[rows], width)
        k = integers @ reciprocal[rows]
        k2, factor = _dot(k, k), (2 / volume[rows])[:, None]
        weights = torch.stack(
            [potentials[p].fourier(k2, chunk.alpha[rows, p, None]) * factor for p in split], 1
        )
        weights = torch.where(valid[:, None], weights, 0.0)
        sizes = weights.detach().abs().sum(-1)
        if n == 1:  # all cosines are 1; the product of a row and a column has an order of its own
            return weights.sum(-1)[:, :, None, None], sizes
        turns = fractions[rows] @ integers.mT
        if chunk.dtype != turns.dtype:
            turns = (turns - turns.detach().round()).to(chunk.dtype)
        phases = 2 * math.pi * turns
        waves = torch.cat([phases.cos(), phases.sin()], -1)
        both = torch.cat([weights, weights], -1).to(chunk.dtype)
        weighted = (waves[:, None] * both[:, :, None]).view(len(k), len(split) * n, -1)
        total = (weighted @ waves.mT).view(len(k), len(split), n, n)
        return total.to(volume.dtype), sizes

    total, found = _by_width(chosen, evaluate)
    sizes[:, split] = found
    return {p: total[:, s] for s, p in enumerate(split)}, sizes


def _by_width(
    chosen: Tensor, evaluate: Callable[[Tensor | slice, int], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Return what ``evaluate(crystals, width)`` returns, for crystals of about as many waves.

    Each is padded to a width that its own number of waves decides, an eighth more at most, so that
    a sum over waves is done in the same order whatever else is in the batch.

    Args:
        chosen: Which wave vectors belong to each crystal, shape (g, m).
        evaluate: Takes some crystals, and the width.
    """
    counts = chosen.sum(1).cpu().numpy()  # all that the device is asked for
    widths = _padded(np.maximum(counts, 1))
    groups = [np.flatnonzero(widths == width) for width in np.unique(widths)]
    if len(groups) == 1:
        return evaluate(slice(None), int(widths[0]))
    parts = [
        evaluate(torch.from_numpy(rows).to(chosen.device), int(widths[rows[0]])) for rows in groups
    ]
    back = torch.from_numpy(np.argsort(np.concatenate(groups))).to(chosen.device)
    first, second = zip(*parts, strict=True)
    return torch.cat(first)[back], torch.cat(second)[back]


def _background(chunk: _Chunk, potential: Potential, p: int, volume: Tensor) -> Tensor:
    """Return the wave k = 0, the same for all pairs, (g, 1)."""
    return (potential.fourier_at_zero(chunk.alpha[:, p]) / volume)[:, None]


def _lower_sums(
    chunk: _Chunk,
    vectors: Tensor,
    basis: Tensor,
    inverse: Tensor,
    measure: Tensor,
    potentials: Sequence[Potential],
) -> tuple[dict[int, Tensor], Tensor]:
    """Return the long halves of wires and slabs, (g, p) per split potential, and their sizes."""
    sizes = torch.zeros(len(measure), len(potentials), dtype=measure.dtype, device=measure.device)
    split = [p for p in range(len(potentials)) if chunk.is_split[p]]
    if not split:
        return {}, sizes
    with torch.no_grad():
        half = _half_grid(chunk.wave_box, measure)
        wave = 2 * math.pi * half @ inverse.mT
        chosen = (wave * wave).sum(-1) <= (chunk.wave_radius**2 * (1 + 1e-9))[:, None]
    fractions = vectors @ inverse
    across = vectors - fractions @ basis

    def evaluate(rows: Tensor | slice, width: int) -> tuple[Tensor, Tensor]:
        integers, valid = _pack(half, chosen[rows], width)
        waves = 2 * math.pi * integers @ inverse[rows].mT
        return slabs_and_wires.long_sums(
            [m for p in split if (m := potentials[p].mixture) is not None],
            fractions=fractions[rows],
            h2=_dot(across[rows], across[rows]),
            integers=integers,
            k2=_dot(waves, waves),
            valid=valid,
            alpha=chunk.alpha[rows, split[0]],
            length=chunk.length[rows],
            count=chunk.count,
            measure=measure[rows],
            working=CHUNK,
        )

    total, found = _by_width(chosen, evaluate)
    sizes[:, split] = found
    return {p: total[:, :, s] for s, p in enumerate(split)}, sizes


def _squares(integers: Tensor, gram: Tensor) -> Tensor:
    """Return squared lengths of integer combinations, (m, 3), of bases with Gram matrices, (g, m).

    Number by number, so that no crystal's depend on how many there are, as in a product they may.
    """
    x, y, z = integers.T[:, None]
    a, b, c = gram[:, 0, :, None].unbind(1)
    d, e, f = gram[:, 1, 1, None], gram[:, 1, 2, None], gram[:, 2, 2, None]
    return x * (x * a + 2 * (y * b + z * c)) + y * (y * d + 2 * z * e) + z * z * f


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the scalar products of the rows; quicker than a sum over an axis of three."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def _half_grid(box: tuple[int, ...], like: Tensor) -> Tensor:
    """Return the integer vectors of a box about 0, one of each pair +m and -m, no zero, (n, d)."""
    ranges = [torch.arange(-b, b + 1, dtype=like.dtype) for b in box]
    grid = torch.cartesian_prod(*ranges).view(-1, len(box)) if box else like.new_zeros(1, 0)
    return grid[len(grid) // 2 + 1 :].to(like.device)  # the grid is odd about its centre


def _pack(vectors: Tensor, chosen: Tensor, width: int = 0) -> tuple[Tensor, Tensor]:
    """Return the chosen ``vectors`` of each crystal, padded with ones, and which are not padding.

    Args:
        vectors: Shape (m, d).
        chosen: Shape (g, m).
        width: Room for the vectors of a crystal; 0 for that of the largest, and 1 at least.

    Returns:
        Tensors of shapes (g, width, d) and (g, width).
    """
    place = chosen.cumsum(1)
    counts = place[:, -1:] if place.shape[1] else place.sum(1, keepdim=True)
    width = width or max(1, int(counts.max()))  # the only number that the device is asked for
    place = torch.where(chosen, place - 1, width)[:, :, None].expand(-1, -1, vectors.shape[1])
    packed = vectors.new_ones(len(chosen), width + 1, vectors.shape[1])
    packed = packed.scatter(1, place, vectors.expand(len(chosen), -1, -1))[:, :width]
    return packed, torch.arange(width, device=vectors.device) < counts


def _pair_mask(chunk: _Chunk, n_columns: int) -> Tensor | None:
    """Return which pairs have no padding atom, shape (g, p); None if no atom is padding."""
    n = chunk.positions[0].shape[1]
    if (chunk.n_atoms == n).all():
        return None
    device = chunk.radius.device
    _, j = torch.triu_indices(n, n, 1, device=device)
    j = torch.cat([j, j.new_zeros(1)])  # i < j, so j tells; the own pair is always there
    return j < torch.from_numpy(chunk.n_atoms).to(device)[:, None]


def _drop_padding(values: Tensor, n_atoms: Indices, n: int) -> Tensor:
    """Return the rows of ``values``, (g, n * n, q), that belong to atoms, (n_pairs, q)."""
    flat = values.reshape(-1, values.shape[-1])
    if (n_atoms == n).all():
        return flat
    is_atom = np.arange(n) < n_atoms[:, None]
    rows = np.flatnonzero(is_atom[:, :, None] & is_atom[:, None])
    return flat.index_select(0, torch.from_numpy(rows).to(values.device))


def _in_order(
    values: list[Tensor], order: list[Indices], n_atoms: Indices, device: torch.device
) -> Tensor:
    """Return the chunks' values in the order of the crystals."""
    joined = values[0] if len(values) == 1 else torch.cat(values)
    graphs = np.concatenate(order)
    if (np.diff(graphs) == 1).all():
        return joined
    counts = n_atoms[graphs] ** 2
    starts = np.empty(len(graphs), dtype=np.int64)
    starts[graphs] = np.cumsum(counts) - counts
    final = n_atoms**2
    shift = np.repeat(starts - (np.cumsum(final) - final), final)
    rows = shift + np.arange(int(final.sum()))
    return joined.index_select(0, torch.from_numpy(rows).to(device))


def certify(
    excess: NDArray[np.float64],
    potentials: Sequence[Potential],
    tolerance: float,
    dtype: torch.dtype,
) -> None:
    """Refuse a tolerance where bounds exceed it, ``excess`` being the quotient, shape (g, q)."""
    if (excess <= 1).all():
        return
    graph, p = np.unravel_index(int(np.nan_to_num(excess, nan=np.inf).argmax()), excess.shape)
    advice = "check for atoms that almost touch" if dtype == torch.float64 else "use float64"
    least = tolerance * excess[graph, p]
    rule = f"at least {least:.1e}" if np.isfinite(least) else "one that float64 can keep"
    raise ConfigError(
        f"crystal {graph}: `tolerance` must be {rule} "
        f"for {potentials[int(p)].name} to be kept in {str(dtype)[6:]}, got {tolerance:g}. "
        f"Give a larger tolerance, or {advice}."
    )


def _check_distances(stats: Sequence[_Stats], order: Sequence[Indices], n_atoms: Indices) -> None:
    """Raise a StructureError that names two atoms found on one spot."""
    chunk = np.repeat(np.arange(len(stats)), [len(s.closest) for s in stats])
    closest = _cat(stats, "closest")
    if not (closest[:, 0] < SAME_SPOT**2).any():
        return
    row = int(closest[:, 0].argmin())
    graphs = order[chunk[row]]
    n = int(n_atoms[graphs].max())
    g, pair = divmod(int(closest[row, 1]), n * (n - 1) // 2 + 1)
    i, j = np.triu_indices(n, 1)
    first, second = (int(i[pair]), int(j[pair])) if pair < len(i) else (0, 0)
    raise StructureError(
        f"crystal {graphs[g]}: atoms {first} and {second} must be {SAME_SPOT:g} Å apart or "
        f"more, got {closest[row, 0] ** 0.5:.3g} Å (periodic images included). Remove the "
        "duplicate atom."
    )
