"""Predictor: a trained model that turns crystals into rows of predictions."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import torch
from torch import Tensor

from potnet.calibration import Contents
from potnet.crystal import Crystal
from potnet.devices import device as find_device
from potnet.errors import ConfigError, Failure, ModelError, PotNetError, StructureError, as_refusal
from potnet.features import Batch
from potnet.features.complete import CompleteFeatures
from potnet.models import archive
from potnet.models.catalogue import bundled
from potnet.models.completenet import CompleteNet
from potnet.models.evidence import combined, described, evidence, heard, states_of
from potnet.models.selection import select
from potnet.prediction.flags import outside_of_training, unfamiliar
from potnet.prediction.rows import Gradients, Prediction, Predictions
from potnet.prediction.structures import BATCH_SIZE, as_structures, in_batches, is_structure
from potnet.targets import normalised

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from potnet.calibration import Calibration, Judgement
    from potnet.features.contract import Features
    from potnet.models.card import ModelCard
    from potnet.models.contract import Network

#: What a network computes derivatives in.
Precision = Literal["float32", "float64"]

_TURNS = Lock()  # Of threads that use the networks in float64.


class Predictor:
    """One or several trained networks with the card that says what they predict.

    Threads may share a predictor. Processes should be started afresh ("spawn"): one that is forked
    after a prediction has the locks of torch's and numba's threads, but not the threads.

    Args:
        members: Networks of the same kind, trained from different seeds; their outputs are
            combined as the card says.
        card: Targets, units and limits of the model.
        calibration: How sure it may be of a prediction; without it intervals have the constant
            widths of the card, and crystals no familiarity.
        witnesses: Networks like the members that do not predict: where they disagree, intervals are
            wider, as far as the calibration has learned so.

    Raises:
        ModelError: If there is no network.
    """

    def __init__(
        self,
        members: Sequence[Network],
        card: ModelCard,
        calibration: Calibration | None = None,
        witnesses: Sequence[Network] = (),
    ) -> None:
        is_list = isinstance(members, list | tuple)
        if is_list and not all(isinstance(member, torch.nn.Module) for member in members):
            is_list = False
        if not is_list or not isinstance(card, archive.ModelCard):
            raise ModelError(
                "Predictor: `members` must be a list of networks and `card` a ModelCard, got "
                f"{type(members).__name__} and {type(card).__name__}. Use potnet.load."
            )
        if not members:
            raise ModelError(
                "Predictor: `members` must hold at least one network, got none. "
                "Load a complete archive with potnet.load."
            )
        self.members = [member.eval().requires_grad_(False) for member in members]
        self.card = card
        self.calibration = calibration
        self.witnesses = [network.eval().requires_grad_(False) for network in witnesses]
        # What the states of crystals are computed with: models of one archive have the same.
        self._stem = self.members

    def __repr__(self) -> str:
        names = ", ".join(target.name for target in self.card.targets)
        return f"<Predictor: {names}; {len(self.members)} x {self.card.network}>"

    @property
    def features(self) -> Features:
        """What turns crystals into batches for the networks."""
        return self.members[0].features

    @property
    def device(self) -> torch.device:
        """Where the networks compute."""
        return next(self.members[0].parameters()).device

    def to(self, device: torch.device | str) -> Predictor:
        """Move the networks to ``device`` ("cpu", "cuda") and return the predictor.

        Raises:
            ConfigError: If there is no such device.
        """
        device = find_device(device)
        with _TURNS:
            for member in (*self.members, *self.witnesses, *self._stem):
                member.to(device)
            self.__dict__.pop("_copies", None)
        return self

    def predict(
        self,
        crystals: Iterable[Any],
        *,
        batch_size: int = BATCH_SIZE,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> Predictions:
        """Return one row per crystal and property.

        Args:
            crystals: One structure or any number of them: Crystal, ASE Atoms, pymatgen Structure,
                JARVIS Atoms or their dictionaries.
            batch_size: Most crystals that are computed together.
            on_error: "raise" stops at the first crystal that cannot be predicted; "skip" goes on
                and lists it in the ``failures`` of the result.

        Raises:
            StructureError: If a crystal cannot be used and ``on_error`` is "raise".
            ModelError: If the networks give a number that is not finite.
        """
        items = [crystals] if is_structure(crystals) else crystals
        rows: list[Prediction] = []
        failures: list[Failure] = []
        for item in self.predict_stream(items, batch_size=batch_size, on_error=on_error):
            if isinstance(item, Failure):
                failures.append(item)
            else:
                rows.append(item)
        return Predictions(rows, failures, self.card.classes)

    def predict_stream(
        self,
        crystals: Iterable[Any],
        *,
        batch_size: int = BATCH_SIZE,
        on_error: Literal["raise", "skip"] = "skip",
    ) -> Iterator[Prediction | Failure]:
        """Yield rows and failures in the order of the input, holding one batch at a time.

        Arguments and errors are those of :meth:`predict`; ``crystals`` may also hold
        :class:`~potnet.errors.Failure` items, as :func:`potnet.scan` yields them.
        """
        return predict_stream([self], crystals, batch_size=batch_size, on_error=on_error)

    def predict_values(self, batch: Batch) -> NDArray[np.float64]:
        """Return predictions for features that are already there.

        Args:
            batch: What ``predictor.features(crystals)`` returns, or a part of it.

        Returns:
            Values in the units of the targets, shape (n_graphs, n_targets).

        Raises:
            StructureError: If ``batch`` is something else.
            ConfigError: If it is of features with other settings than the model's.
        """
        if not isinstance(batch, Batch):
            raise StructureError(
                f"predict_values: `batch` must be of features, got {type(batch).__name__}. "
                "Make it with predictor.features(crystals), or use predict."
            )
        batch.require(self.features, "predict_values")
        return self._restored(self._standardised(batch))

    @overload
    def embed(
        self, crystals: Any, *, per: Literal["crystal"] = "crystal", batch_size: int = BATCH_SIZE
    ) -> NDArray[np.float32]: ...
    @overload
    def embed(
        self, crystals: Any, *, per: Literal["atom"], batch_size: int = BATCH_SIZE
    ) -> list[NDArray[np.float32]]: ...
    def embed(
        self,
        crystals: Any,
        *,
        per: Literal["crystal", "atom"] = "crystal",
        batch_size: int = BATCH_SIZE,
    ) -> NDArray[np.float32] | list[NDArray[np.float32]]:
        """Return what the networks make of each crystal before their last layer, or of each atom.

        The same crystal has the same numbers however it is written down, and so has an atom,
        whatever the cell it is described in. Near numbers mean crystals (or surroundings) that are
        alike to the model, for neighbours, clusters and other regressors.

        Args:
            crystals: One structure or any number of them, as for :meth:`predict`.
            per: "crystal": the state that the outputs are linear in. "atom": the state of each atom
                after the last round of messages, in the order of the structure; pairs of all atoms
                of the cell as given are held in memory.
            batch_size: Most crystals that are computed together.

        Returns:
            The states of all networks side by side: for crystals shape (n, n_members * width), for
            atoms an array of shape (n_atoms, n_members * width) for each crystal.

        Raises:
            ConfigError: If ``per`` is another word.
            StructureError: If a crystal cannot be used.
            ModelError: If the network offers no embedding.
        """
        if not isinstance(per, str) or per not in ("crystal", "atom"):
            raise ConfigError(f"embed: `per` must be crystal or atom, got {per!r}. Choose one.")
        items = as_structures(crystals, "embed")
        found: list[NDArray[np.float32]] = []
        for batch in in_batches(items, batch_size, "raise"):
            good = [item for item in batch if isinstance(item, Crystal)]
            read = self.features.once if per == "crystal" else self.features.each_atom
            features = read(good).to(self.device)
            with torch.inference_mode():
                states = [
                    member.embedding(features)
                    if per == "crystal"
                    else member.embedding_of_atoms(features)
                    for member in self.members
                ]
            rows = torch.cat(states, 1).cpu().numpy()
            ends = np.cumsum([crystal.n_atoms for crystal in good])[:-1]
            found += [rows] if per == "crystal" else np.split(rows, ends)
        if not found:
            raise StructureError("embed: `crystals` must hold one at least, got none. Add some.")
        return np.concatenate(found) if per == "crystal" else found

    def __getitem__(self, targets: str | Sequence[str]) -> Predictor:
        """Return the model of one target, or of some, alone.

        Raises:
            ModelError: If the model has no such target.
        """
        names = [targets] if isinstance(targets, str) else list(targets)
        members, card = select(self.members, self.card, names)
        calibration = None
        if self.calibration is not None:
            places = [[t.name for t in self.card.targets].index(name) for name in names]
            calibration = self.calibration.select(places)
        witnesses, _ = select(self.witnesses, self.card, names)
        return Predictor(members, card, calibration, witnesses).to(self.device)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model as an archive, whole or not at all; :func:`potnet.load` reads it.

        Args:
            path: A folder, which is made if need be, or a file name that ends in ``.zip``.

        Raises:
            ModelError: If the archive could not be loaded again.
        """
        archive.save(path, self.members, self.card, self.calibration, self.witnesses)

    def gradients(
        self, crystal: Any, *, precision: Precision = "float64", property: str | None = None
    ) -> list[Gradients]:
        """Return each property of a crystal with its derivatives by positions and strain.

        Sums and their derivatives are computed in float64. In float64 threads take turns.

        Args:
            crystal: One structure: Crystal, ASE Atoms, pymatgen Structure and so on.
            precision: What the network computes in, "float64" or "float32".
            property: Only this one.

        Returns:
            One entry per property, in the order of the card.

        Raises:
            ModelError: If the network's features have no derivatives (those of PotNet end shells
                of neighbours abruptly).
            StructureError: If the crystal cannot be used.
            ConfigError: If the precision is another word.
        """
        if not self.features.is_differentiable:
            raise ModelError(
                f"gradients: the network must have smooth features, got {self.card.network}. "
                "Use a model of the network completenet."
            )
        if precision not in ("float32", "float64"):
            raise ConfigError(
                'gradients: `precision` must be "float32" or "float64", got '
                f"{precision!r}. Use one of them."
            )
        crystal = Crystal.from_any(crystal)
        positions = torch.tensor(crystal.positions, device=self.device, requires_grad=True)
        cell = torch.tensor(crystal.cell, device=self.device, requires_grad=True)
        batch = self._differentiable(crystal, positions, cell)
        if precision == "float32":
            batch = batch.single()
            outputs = torch.stack([member(batch)[0].double() for member in self.members])
            return self._derivatives(outputs, positions, cell, property)
        with self.in_double() as members:
            outputs = torch.stack([member(batch)[0] for member in members])
            return self._derivatives(outputs, positions, cell, property)

    def _differentiable(self, crystal: Crystal, positions: Tensor, cell: Tensor) -> Batch:
        """Return the features of a crystal with their derivatives, as the networks read them."""
        features = self.features
        # Networks made of CompleteNet may read sums of pairs in ways of their own.
        is_complete = all(type(member) is CompleteNet for member in self.members)
        if is_complete and self.device.type == "cpu" and isinstance(features, CompleteFeatures):
            return features.at_images(crystal, positions, cell)
        return features.differentiable(crystal, positions, cell)

    def _derivatives(
        self, outputs: Tensor, positions: Tensor, cell: Tensor, property: str | None
    ) -> list[Gradients]:
        """Return properties with their derivatives; outputs have shape (n_members, n_targets)."""
        z = outputs[0]
        if len(outputs) > 1:
            z = outputs.quantile(0.5, dim=0) if self.card.combine == "median" else outputs.mean(0)
        found = []
        for output, card in zip(z, self.card.targets, strict=True):
            if property not in (None, card.name):
                continue
            # The zero is there for networks that look at no surroundings: their slope is zero.
            value = card.scale.physical(output) + 0.0 * (positions.sum() + cell.sum())
            given = positions, cell
            by_positions, by_cell = torch.autograd.grad(value, given, retain_graph=True)
            # strain moves atoms and lattice vectors x by x times it
            by_strain = positions.detach().T @ by_positions + cell.detach().T @ by_cell
            symmetric = (by_strain + by_strain.T) / 2
            found.append(
                Gradients(
                    card.name,
                    value.item(),
                    by_positions.cpu().numpy(),
                    symmetric.cpu().numpy(),
                    card.unit,
                )  # fmt: skip
            )
        return found

    @cached_property
    def _copies(self) -> tuple[list[Network], list[list[Tensor]]]:
        """The networks in float64, and what each of them has learned."""
        copies = [copy.deepcopy(member).double().requires_grad_(False) for member in self.members]
        return copies, [_numbers(double) for double in copies]

    @contextmanager
    def in_double(self) -> Iterator[list[Network]]:
        """Lend the networks in float64, with the weights that they have now. Threads take turns."""
        with _TURNS:
            doubles, numbers = self._copies
            for mine, member in zip(numbers, self.members, strict=True):
                # Less work than a new copy. Nothing tells for certain that no weight has changed.
                with torch.no_grad():
                    torch._foreach_copy_(mine, _numbers(member))  # pyright: ignore[reportPrivateImportUsage]
            yield doubles

    def _standardised(self, batch: Batch) -> NDArray[np.float64]:
        """Return the combined outputs of the networks, shape (n_graphs, n_targets)."""
        batch = batch.to(self.device)
        with torch.inference_mode():
            outputs = torch.stack([member(batch).double() for member in self.members])
        return combined(outputs.cpu().numpy(), self.card.combine)

    def _judged(
        self, batch: Batch, crystals: Sequence[Crystal], made: _Made
    ) -> tuple[NDArray[np.float64], Judgement | None]:
        """Return the combined outputs, and how sure the model may be of them."""
        if self.calibration is None:
            return self._standardised(batch), None
        batch = batch.to(self.device)
        states, outputs = described(self.members, batch, made.states_of(self._stem, batch))
        seen = evidence(
            states,
            outputs,
            self.card.combine,
            Contents.of(crystals),
            batch.atom_counts.cpu().numpy(),
            heard(self.witnesses, batch),
        )
        return seen.outputs, self.calibration.judge(seen)

    def _restored(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return outputs, shape (n_graphs, n_targets), in the units of the targets."""
        with np.errstate(over="ignore"):  # what is not finite is refused in _rows
            columns = [
                card.scale.physical(column)
                for column, card in zip(z.T, self.card.targets, strict=True)
            ]
        scales = [card.scale for card in self.card.targets]
        return normalised(np.stack(columns, axis=1), scales, self.card.classes)

    def _ends(
        self, z: NDArray[np.float64], judgement: Judgement | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the ends of the intervals in the units of the targets, (n_graphs, n_targets)."""
        lower, upper = np.empty_like(z), np.empty_like(z)
        for k, card in enumerate(self.card.targets):
            scale, half = card.scale, card.interval_halfwidth
            adapted = judgement.halfwidths[k] if judgement else None
            below = above = math.nan if half is None else half
            if adapted is not None:
                below, above = adapted * card.std
            # Widths were measured on transformed values around what counts beside targets, hence
            # before the inverse and from the floor up.
            middle = np.maximum(z[:, k], scale.floor)
            with np.errstate(over="ignore"):
                lower[:, k] = scale.physical(middle, shift=-below)
                upper[:, k] = scale.physical(middle, shift=above)
                if card.lowest is not None:
                    least = np.minimum(card.lowest, scale.physical(z[:, k]))
                    lower[:, k] = np.maximum(lower[:, k], least)
        return lower, upper

    def _outcomes(
        self, crystals: Sequence[Crystal], made: _Made
    ) -> list[list[Prediction] | PotNetError]:
        """Return the rows of each crystal, or what is wrong with it.

        Args:
            crystals: What to predict.
            made: What other models have made of these crystals; what is made here is added.
        """
        try:
            batch = made.batch_of(self.features, crystals)
            z, judgement = self._judged(batch, crystals, made)
        # The wall around one crystal: whatever it does to features or network, memory that is not
        # there included, it never costs the other crystals.
        except Exception as error:  # noqa: BLE001
            if len(crystals) == 1:
                return [as_refusal(crystals[0].id, error)]
            return [
                outcome for crystal in crystals for outcome in self._outcomes([crystal], _Made())
            ]
        numbers = np.stack([self._restored(z), *self._ends(z, judgement)], axis=-1)
        atoms = batch.atom_counts.tolist()
        outcomes: list[list[Prediction] | PotNetError] = []
        for k, crystal in enumerate(crystals):
            familiarity = math.nan
            flags = outside_of_training(self.card.data, crystal, atoms[k])
            if judgement is not None and self.calibration is not None:
                familiarity = float(judgement.familiarity[k])
                counts = self.calibration.familiarity.counts
                flags += unfamiliar(crystal, familiarity, judgement.excess[k], counts)
            outcomes.append(self._rows(crystal, numbers[k].tolist(), familiarity, flags))
        return outcomes

    def _rows(
        self,
        crystal: Crystal,
        numbers: list[list[float]],
        familiarity: float,
        flags: tuple[str, ...],
    ) -> list[Prediction] | PotNetError:
        """Return a row per target from its prediction, lower and upper end, or an error."""
        values = [value for value, *_ in numbers]
        if not all(map(math.isfinite, values)):
            return ModelError(
                f"{crystal.id}: the prediction must be finite, got {values}. "
                "Check that the structure is what you mean; if it is, report the model."
            )
        return [
            Prediction(crystal.id, card.name, value, lower, upper, card.unit, flags, familiarity)
            for card, (value, lower, upper) in zip(self.card.targets, numbers, strict=True)
        ]


@dataclass(frozen=True)
class _Made:
    """What models have made of the crystals of a batch, for the models that come after them."""

    batches: list[tuple[Features, Batch]] = field(default_factory=list)
    states: list[tuple[Sequence[Network], list[Tensor] | None]] = field(default_factory=list)

    def batch_of(self, features: Features, crystals: Sequence[Crystal]) -> Batch:
        """Return what ``features`` make of the crystals."""
        for known, batch in self.batches:
            if known == features:
                return batch
        self.batches.append((features, features.once(crystals)))
        return self.batches[-1][1]

    def states_of(self, stem: Sequence[Network], batch: Batch) -> list[Tensor] | None:
        """Return the states of the crystals in the networks ``stem``, which run once."""
        for known, states in self.states:
            if known is stem:
                return states
        self.states.append((stem, states_of(stem, batch)))
        return self.states[-1][1]


def predict_stream(
    predictors: Sequence[Predictor],
    crystals: Iterable[Any],
    *,
    batch_size: int = BATCH_SIZE,
    on_error: Literal["raise", "skip"] = "skip",
) -> Iterator[Prediction | Failure]:
    """Yield the rows of several models, crystal by crystal, reading each crystal once.

    Args:
        predictors: The models; each crystal gets its rows in their order.
        crystals: Structures of any kind, or failures of reading them, which are passed on.
        batch_size: Most crystals that are computed together.
        on_error: "raise" stops at the first crystal that cannot be predicted; "skip" yields a
            :class:`~potnet.errors.Failure` in its place and goes on.

    Raises:
        StructureError: If a crystal cannot be used and ``on_error`` is "raise".
        ModelError: If a network gives a number that is not finite and ``on_error`` is "raise".
    """
    for item in predict_each(predictors, crystals, batch_size=batch_size, on_error=on_error):
        if isinstance(item, Failure):
            yield item
        else:
            for predictions in item.predictions:
                yield from predictions
            yield from item.failures


@dataclass(frozen=True)
class Said:
    """What several models say of one crystal.

    Attributes:
        crystal: The crystal.
        predictions: The rows of each model, in their order; none of a model that refused it.
        failures: Why models refused it, each reason once.
    """

    crystal: Crystal
    predictions: tuple[tuple[Prediction, ...], ...]
    failures: tuple[Failure, ...]


def predict_each(
    predictors: Sequence[Predictor],
    crystals: Iterable[Any],
    *,
    batch_size: int = BATCH_SIZE,
    on_error: Literal["raise", "skip"] = "skip",
) -> Iterator[Said | Failure]:
    """Yield what several models say, crystal by crystal; see :func:`predict_stream`."""
    crystals = as_structures(crystals, "predict")
    for batch in in_batches(crystals, batch_size, on_error):
        good = [item for item in batch if isinstance(item, Crystal)]
        made = _Made()
        each = [p._outcomes(good, made) for p in predictors] if good else []
        outcomes = zip(*each, strict=True)
        for item in batch:
            if isinstance(item, Failure):
                yield item
                continue
            predictions: list[tuple[Prediction, ...]] = []
            # Two models that refuse a crystal for the same reason make one failure.
            refused: dict[Failure, None] = {}
            for outcome in next(outcomes, ()):
                if isinstance(outcome, list):
                    predictions.append(tuple(outcome))
                    continue
                if on_error == "raise":
                    raise outcome
                stage = "features" if isinstance(outcome, StructureError) else "predict"
                refused[Failure(item.id, stage, str(outcome))] = None
                predictions.append(())
            yield Said(item, tuple(predictions), tuple(refused))


def _numbers(member: Network) -> list[Tensor]:
    """Return all that a network has learned, and what it keeps beside."""
    modules = list(member.modules())  # one walk: parameters() and buffers() take one each
    kept = [part.values() for m in modules for part in (m._parameters, m._buffers)]
    return [tensor for part in kept for tensor in part if tensor is not None]


def load(source: str | os.PathLike[str], *, device: str = "cpu") -> Predictor:
    """Return a trained model, ready to predict.

    Args:
        source: Name of a bundled model (see :func:`potnet.available`), or an archive: a folder or
            a file, as training writes it.
        device: Where to compute: "cpu", "cuda", "cuda:1".

    Raises:
        ModelError: If there is no such model, or the archive is damaged or does not reproduce the
            predictions that it carries.
    """
    members, card, witnesses = archive.read_with_witnesses(source)
    return Predictor(members, card, archive.read_calibration(source), witnesses).to(device)


def load_each(
    sources: Iterable[str | os.PathLike[str]], *, device: str = "cpu"
) -> dict[str, Predictor]:
    """Return what :func:`load` returns for each of several models, by name.

    Bundled models of one archive differ in their last layer only: the rest of their networks runs
    once for a batch that :func:`predict_each` gives to all of them.
    """
    found: dict[str, Predictor] = {}
    whole: dict[Path, Predictor] = {}
    shared = bundled()
    names = list(dict.fromkeys(map(str, sources)))
    folders = [shared[name][0] for name in names if name in shared]
    for name in names:
        folder, targets = shared.get(name, (None, ()))
        if folder is None or not targets or folders.count(folder) < 2:
            found[name] = load(name, device=device)
            continue
        if folder not in whole:
            whole[folder] = load(folder, device=device)
        found[name] = whole[folder][targets]
        found[name]._stem = whole[folder].members
    return found
