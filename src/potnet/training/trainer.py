"""The trainer of one network: what it is made of, how it steps, what a checkpoint holds of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR

from potnet.errors import ConfigError
from potnet.features import Batch
from potnet.models.descriptors import MAX_NUMBER
from potnet.models.evidence import described
from potnet.targets import Scale, compositions, excluding, is_probability
from potnet.training.average import WeightAverage
from potnet.training.batches import (
    Loader,
    Minibatch,
    epoch_shares,
    stratified_batches,
    taken_in_epoch,
)
from potnet.training.checkpoint import Checkpoint, optimizer_tensors, restore_optimizer
from potnet.training.config import TrainingConfig
from potnet.training.correction import Correction
from potnet.training.cuda_graph import Recorder, can_record
from potnet.training.finetune import NOTHING, first_network
from potnet.training.optimizer import Muon

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from potnet.models.contract import Network
    from potnet.training.prepared import Prepared

_LOSSES = {"l1": functional.l1_loss, "mse": functional.mse_loss, "huber": functional.huber_loss}
FEWEST_CORRECTED = 5  # training crystals
# Quantile of the normal distribution: how sure it must be that a network that predicts the quantity
# already is better than it began; it is changed by chance in one of a hundred cases.
SURE = 2.3263
_EVALUATION_BATCHES = 4  # Without gradients a batch may be so many times larger.


def generator_seed(*path: int) -> int:
    """Return a seed for torch that depends on all of ``path`` (run seed, member, epoch ...)."""
    return int(np.random.SeedSequence(path).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Objective(nn.Module):
    """The mean loss over the targets that are there.

    An output below the floor of its target is no error where the target is at its floor. Binary
    targets have the cross entropy, classes that exclude each other that of their softmax.
    """

    def __init__(self, network: nn.Module, loss: str, scales: Sequence[Scale]) -> None:
        super().__init__()
        self.network = network
        self.loss = _LOSSES[loss]
        self.binary: Tensor | None
        self.floors: Tensor | None
        binary = [k for k, scale in enumerate(scales) if scale.transform == "binary"]
        self.register_buffer("binary", torch.tensor(binary) if binary else None, False)
        self.n_kinds = 0  # of classes
        for self.n_kinds, places in enumerate(excluding(scales), 1):
            self.register_buffer(f"classes{self.n_kinds}", torch.from_numpy(places), False)
        floors = torch.tensor([scale.floor for scale in scales], dtype=torch.float32)
        self.register_buffer("floors", floors if floors.isfinite().any() else None, False)

    def forward(self, minibatch: Minibatch) -> Tensor:
        output, targets = self.network(minibatch.batch).float(), minibatch.targets
        counted = output
        if self.floors is not None:
            counted = torch.where(targets <= self.floors, output.maximum(self.floors), output)
        losses = self.loss(counted, targets, reduction="none")
        if self.binary is not None:
            logits, answers = (x.index_select(1, self.binary) for x in (output, targets))
            entropy = functional.binary_cross_entropy_with_logits(logits, answers, reduction="none")
            losses = losses.index_copy(1, self.binary, entropy)
        for kind in range(self.n_kinds):
            places = self.get_buffer(f"classes{kind + 1}")
            logits, answers = (x.index_select(1, places) for x in (output, targets))
            entropy = -len(places) * answers * functional.log_softmax(logits, 1)
            losses = losses.index_copy(1, places, entropy)
        return (losses * minibatch.mask).sum() / minibatch.n_labels


class Trainer:
    """One network of the ensemble on its way from random weights to trained ones.

    Every epoch begins by seeding the generators from (seed, member, epoch). So no generator has a
    history that a checkpoint would have to save.

    Args:
        fabric: Device, precision and processes.
        config: Settings of the run.
        index: Which member.
        scales: How each target is scaled.
        pair_counts: Pairs of each training crystal, shape (n_train,).
        references: Standardised targets of the elements, for networks that begin with them,
            shape (n_elements, n_targets).
        kept: Scales by output of the model to begin with, if its outputs are kept.
    """

    def __init__(
        self,
        fabric: Fabric,
        config: TrainingConfig,
        index: int,
        *,
        scales: Sequence[Scale],
        pair_counts: NDArray[np.int64],
        references: NDArray[np.float64],
        kept: Mapping[str, Scale] = NOTHING,
    ) -> None:
        self.fabric, self.config, self.index = fabric, config, index
        self.shares = epoch_shares(pair_counts, config.thin_above)
        self.n_batches = math.ceil(self.shares.sum() / config.batch_size)
        torch.manual_seed(generator_seed(config.seed, index))
        network = first_network(config, len(scales), index=index, kept=kept)
        self.begins_trained = bool(kept)
        is_another = any(output != scale.name for output, scale in kept.items())
        # Computed in another way, all that is better is kept: there is more to gain than to lose.
        self.sureness = 0.0 if is_another else SURE
        _freeze(network, config.freeze)
        if network.references is not None and not kept:
            network.references.weight.data.copy_(torch.from_numpy(references))
        objective = Objective(network, config.loss, scales)
        self.optimizer = Muon(
            network,
            config.learning_rate,
            config.weight_decay,
            orthogonal=config.optimizer == "muon",
            fused=fabric.device.type in ("cpu", "cuda"),
        )
        self.objective, self._stepper = fabric.setup(objective, self.optimizer)
        self.network = network
        self.scheduler = self._cycle(0)
        self._recorder: Recorder | None = None
        if can_record(fabric, network, config.precision):
            steps = self._add_gradients, self._move, self._stepper.zero_grad
            self._recorder = Recorder(self.optimizer, *steps)
        self.average = WeightAverage(network, config.ema_decay)
        self.epoch = 0
        self.best_epoch = 0
        self.best_score = math.inf
        self.best: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []
        self.first_errors: NDArray[np.float64] | None = None

    @property
    def name(self) -> str:
        return f"member{self.index}"

    @property
    def is_finished(self) -> bool:
        config = self.config
        last = config.cycles[-1] if config.cycles else 0
        waited = self.epoch - max(self.best_epoch, last)
        return self.epoch >= config.epochs or waited >= (config.patience or config.epochs)

    def _cycle(self, start: int) -> OneCycleLR:
        """Return the schedule of the cycle of learning rates that begins after epoch ``start``."""
        ends = (*self.config.cycles, self.config.epochs)
        end = next(end for end in ends if end > start)
        return _one_cycle(self.optimizer, self.config, (end - start) * self.n_batches)

    def train_epoch(self, loader: Loader, train: NDArray[np.int64]) -> float:
        """Pass once over the crystals ``train`` of ``loader``; return the mean loss.

        Raises:
            ConfigError: If the loss is no longer finite.
        """
        config, fabric = self.config, self.fabric
        if self.epoch in config.cycles:
            self.scheduler = self._cycle(self.epoch)
        seed = (config.seed, self.index, self.epoch + 1)
        rng = np.random.default_rng(seed)
        torch.manual_seed(generator_seed(*seed, fabric.global_rank))
        if config.thin_above is not None:
            phases = np.random.default_rng(seed[:2])
            at_least = self.n_batches * fabric.world_size  # each process has one in every step
            train = train[taken_in_epoch(self.shares, self.epoch, at_least, phases)]
        batches = stratified_batches(loader.atom_counts[train], self.n_batches, rng)
        groups = [train[batch] for batch in batches]
        learning_rate = self.learning_rate
        self.objective.train()
        minibatches = loader.minibatches(
            groups, rank=fabric.global_rank, world_size=fabric.world_size
        )
        total = self.step_through(minibatches)
        self.average.copy_buffers()
        # The only moment of the epoch at which the host waits for the device.
        mean = torch.as_tensor(fabric.all_reduce(total / len(groups), reduce_op="mean")).item()
        self.epoch += 1
        if not math.isfinite(mean):
            raise ConfigError(
                f"training: the loss must stay finite, got {mean} in epoch {self.epoch} at a "
                f"learning rate of {learning_rate:.2g}. Lower `learning_rate` or "
                "`gradient_clip`, and look for outliers among the targets."
            )
        return mean

    def step_through(self, minibatches: Iterable[Minibatch]) -> Tensor:
        """Take the steps of ``minibatches``; return the sum of their losses, on the device."""
        total = torch.zeros((), device=self.fabric.device)
        begins_step = True
        for minibatch in minibatches:
            if self._recorder is not None and begins_step and minibatch.ends_step:
                total += self._recorder(minibatch)
            else:
                if begins_step:
                    self._stepper.zero_grad()
                total += self._add_gradients(minibatch)
                if minibatch.ends_step:
                    self._move()
            begins_step = minibatch.ends_step
            if minibatch.ends_step:
                self.scheduler.step()
                self.average.update()
        return total

    def _add_gradients(self, minibatch: Minibatch) -> Tensor:
        """Add the gradients of a minibatch to those that are there; return its loss."""
        fabric = self.fabric
        # The gradients of the parts of a step add up, and are exchanged with the last of them.
        waits = fabric.world_size > 1 and not minibatch.ends_step
        with fabric.no_backward_sync(self.objective, enabled=True) if waits else nullcontext():
            loss = self.objective(minibatch)
            fabric.backward(loss)
        return loss.detach()

    def _move(self) -> None:
        """Move the weights along the gradients."""
        if self.config.gradient_clip is not None:
            self.fabric.clip_gradients(
                self.objective,
                self._stepper,
                max_norm=self.config.gradient_clip,
                error_if_nonfinite=False,
            )
        self._stepper.step()

    @property
    def learning_rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def margin(self, errors: NDArray[np.float64]) -> float:
        """Return by how much a network that goes on has to be better than it began, to be kept.

        Args:
            errors: Of the validation crystals, standardised, nan where unknown, shape (n_val,).
        """
        if not self.begins_trained:
            return 0.0
        if self.first_errors is None:
            self.first_errors = errors
            return 0.0
        return doubt(errors - self.first_errors, self.sureness)

    def correct(self, prepared: Prepared) -> None:
        """Begin with a slope and a shift of each element, where what the network says gains by it.

        Fitted to the training crystals. Where these, each by the fit to all others, and the
        validation crystals are predicted better, and not by chance, it becomes a part of the
        weights.
        """
        references = self.network.references
        if references is None or not references.weight.requires_grad:
            return
        train, val = prepared.split.train, prepared.split.val
        rows = np.concatenate([train, val])
        said = self.predict(prepared.loader, rows)
        shares = compositions(prepared.dataset.subset(rows), MAX_NUMBER + 1)
        fits = np.arange(len(rows)) < len(train)
        for k, scale in enumerate(prepared.scales):
            if is_probability(scale.transform):
                continue
            known, before = prepared.standardised[rows, k], said[:, k]
            used = fits & (known > scale.floor)
            if used.sum() < FEWEST_CORRECTED:
                continue
            weights = None if prepared.weights is None else prepared.weights[rows][used]
            found = Correction.fit(before[used], known[used], shares[used], weights)
            after = found.of(before, shares)
            after[used] = found.others
            errors = [np.abs(scale.settled(outputs) - known) for outputs in (before, after)]
            gain = errors[0] - errors[1]
            if np.nanmean(gain) > doubt(gain, self.sureness):
                for network in (self.network, self.average.network):
                    if network.references is not None:
                        found.apply(network, network.references, k)

    def record(self, entry: dict[str, float], score: float) -> None:
        """Add an epoch to the history and keep the averaged weights if they are the best."""
        self.history.append(entry)
        if score < self.best_score:
            self.best_score, self.best_epoch = score, self.epoch
            self.best = {k: v.clone() for k, v in self.average.network.state_dict().items()}

    def predict(self, loader: Loader, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return what the averaged weights predict for ``rows``, standardised, (n, n_targets)."""
        return predict(self.average.network, loader, rows, self.config.batch_size, self.fabric)

    def take_best(self) -> Network:
        """Put the best averaged weights into the averaged network and return it."""
        self.average.network.load_state_dict(self.best)
        return self.average.network

    def checkpoint(self, run: str) -> Checkpoint:
        """Return everything that continuing needs."""
        checkpoint = Checkpoint(
            state={
                "run": run,
                "epoch": self.epoch,
                "steps": self.average.steps,
                "best_epoch": self.best_epoch,
                "best_score": self.best_score,
                "history": self.history,
                "scheduler": self.scheduler.state_dict(),
                "groups": [_settings(group) for group in self.optimizer.param_groups],
            }
        )
        checkpoint.put("weights", self.network.state_dict())
        checkpoint.put("average", self.average.network.state_dict())
        checkpoint.put("best", self.best)
        if self.first_errors is not None:
            checkpoint.put("first", {"errors": torch.from_numpy(self.first_errors)})
        checkpoint.put("optimizer", optimizer_tensors(self.optimizer, self.network))
        return checkpoint

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from what :meth:`checkpoint` returned."""
        state = checkpoint.state
        self.network.load_state_dict(checkpoint.get("weights"))
        self.average.network.load_state_dict(checkpoint.get("average"))
        self.average.steps = state["steps"]
        self.best = {k: v.to(self.fabric.device) for k, v in checkpoint.get("best").items()}
        first = checkpoint.get("first")
        self.first_errors = first["errors"].cpu().numpy() if first else None
        self.best_epoch, self.best_score = state["best_epoch"], state["best_score"]
        self.epoch, self.history = state["epoch"], state["history"]
        restore_optimizer(self.optimizer, self.network, checkpoint.get("optimizer"))
        for group, settings in zip(self.optimizer.param_groups, state["groups"], strict=True):
            group.update({k: tuple(v) if k == "betas" else v for k, v in settings.items()})
        self.scheduler.load_state_dict(state["scheduler"])


def doubt(differences: NDArray[np.float64], sureness: float = SURE) -> float:
    """Return how large the mean of ``differences`` may be by chance, inf if there are too few.

    Student's quantile (Biometrika 6, 1 (1908); Abramowitz and Stegun 26.7.5) times their standard
    error.

    Args:
        differences: Of errors, crystal by crystal, nan where unknown, shape (n,).
        sureness: The quantile of the normal distribution: that of many crystals.
    """
    if not sureness:
        return 0.0
    known = differences[np.isfinite(differences)]
    n = len(known) - 1
    if n < 2:
        return math.inf
    z = sureness
    quantile = (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )
    return quantile * float(known.std(ddof=1)) / math.sqrt(len(known))


def _freeze(network: Network, names: Sequence[str]) -> None:
    """Keep the weights whose names begin with one of ``names`` as they are.

    Raises:
        ConfigError: If one fits no weight, or nothing is left to learn.
    """
    known = [name for name, _ in network.named_parameters()]
    frozen = [name for name in known if any(name == n or name.startswith(f"{n}.") for n in names)]
    unknown = [n for n in names if not any(x == n or x.startswith(f"{n}.") for x in known)]
    if unknown or len(frozen) == len(known):
        first = dict.fromkeys(name.partition(".")[0] for name in known)
        raise ConfigError(
            f"training config: `freeze` must name some of the network's weights "
            f"({', '.join(first)}), got {unknown or list(names)}. Correct it."
        )
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)


@torch.no_grad()
def predict(
    network: Network, loader: Loader, rows: NDArray[np.int64], batch_size: int, fabric: Fabric
) -> NDArray[np.float64]:
    """Return the standardised predictions of ``network`` for ``rows``, (n, n_targets)."""
    network.eval()

    def outputs(batch: Batch) -> tuple[NDArray]:
        return (network(batch).float().cpu().numpy(),)

    return _each(outputs, loader, rows, batch_size, fabric)[0].astype(np.float64)


@torch.inference_mode()
def describe(
    networks: Sequence[Network],
    loader: Loader,
    rows: NDArray[np.int64],
    batch_size: int,
    fabric: Fabric,
) -> tuple[NDArray, NDArray[np.float64]]:
    """Return what :func:`potnet.models.evidence.described` returns, for ``rows``."""
    for network in networks:
        network.eval()

    def both(batch: Batch) -> tuple[NDArray, NDArray]:
        states, outputs = described(networks, batch)
        return states, outputs.swapaxes(0, 1)

    states, outputs = _each(both, loader, rows, batch_size, fabric)
    return states, outputs.swapaxes(0, 1)


def _each(
    function: Callable[[Batch], tuple[NDArray, ...]],
    loader: Loader,
    rows: NDArray[np.int64],
    batch_size: int,
    fabric: Fabric,
) -> list[NDArray]:
    """Return what ``function`` returns for minibatches, in the order of ``rows``."""
    n_batches = math.ceil(len(rows) / (_EVALUATION_BATCHES * batch_size))
    groups = stratified_batches(loader.atom_counts[rows], n_batches, np.random.default_rng(0))
    with fabric.autocast():
        minibatches = loader.minibatches([rows[group] for group in groups])
        found = [function(minibatch.batch) for minibatch in minibatches]
    order = np.argsort(np.concatenate(groups), kind="stable")
    return [np.concatenate(parts)[order] for parts in zip(*found, strict=True)]


def _one_cycle(
    optimizer: torch.optim.Optimizer, config: TrainingConfig, n_steps: int
) -> OneCycleLR:
    """Return the schedule; a run of a few steps gets phases of at least two steps each."""
    total = max(n_steps, 4)
    warmup = min(max(config.warmup, 2 / total), 1 - 2 / total)
    return OneCycleLR(
        optimizer,
        max_lr=config.learning_rate,
        total_steps=total,
        pct_start=warmup,
        cycle_momentum=False,
    )


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of a parameter group."""
    return {key: value for key, value in group.items() if key != "params"}
