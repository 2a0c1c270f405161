"""Following a run: how far it is, what came of it, and loggers that are told both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from potnet.errors import ConfigError, Failure
from potnet.training.config import TrainingConfig
from potnet.training.metrics import Metrics


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        stage: "features", counted in crystals, or "training", counted in epochs.
        done: Crystals or epochs done.
        total: Crystals or epochs in all.
        member: Which network is in training, from 0.
        record: The epoch's row of ``metrics.csv``.
    """

    stage: Literal["features", "training"]
    done: int
    total: int
    member: int = 0
    record: dict[str, float] | None = None


@dataclass(frozen=True)
class TrainingResult:
    """What a run left behind.

    Attributes:
        output: The folder of the run.
        model: The model archive in it.
        metrics: By part ("val", "test") and target; parts without known targets are left out.
            Empty in all processes but the first.
        best_epochs: Epoch of the kept weights of each member.
        failures: Crystals that were left out.
        seconds: Wall time of this call.
    """

    output: Path
    model: Path
    metrics: dict[str, dict[str, Metrics]]
    best_epochs: tuple[int, ...]
    failures: tuple[Failure, ...]
    seconds: float


class Callback:
    """What is told of a run while it goes on: loggers, plots, early ends.

    Override what is needed. Methods are called in the process that writes the files, in the order
    below; what one raises ends the run, which can be resumed.
    """

    def started(self, config: TrainingConfig, folder: Path) -> None:
        """Take note of the settings of a run, as they are resolved, and of its folder."""

    def progressed(self, progress: Progress) -> None:
        """Take note of a chunk of features, or of an epoch, whose numbers are its ``record``."""

    def finished(self, result: TrainingResult) -> None:
        """Take note of what came of the run."""


class Callbacks(Callback):
    """Several callbacks, and functions that want progress alone, as one.

    Args:
        callbacks: Told in this order.
        progress: A function that takes a :class:`Progress`, told first.
    """

    def __init__(
        self,
        callbacks: Sequence[Callback] = (),
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._callbacks, self._progress = tuple(callbacks), progress

    def started(self, config: TrainingConfig, folder: Path) -> None:
        for callback in self._callbacks:
            callback.started(config, folder)

    def progressed(self, progress: Progress) -> None:
        if self._progress is not None:
            self._progress(progress)
        for callback in self._callbacks:
            callback.progressed(progress)

    def finished(self, result: TrainingResult) -> None:
        for callback in self._callbacks:
            callback.finished(result)


class TensorBoard(Callback):
    """Losses, learning rates and errors for TensorBoard, in ``tensorboard/`` of the run.

    Raises:
        ConfigError: If the package tensorboard is not installed.
    """

    def __init__(self) -> None:
        if find_spec("tensorboard") is None:
            raise ConfigError(
                "TensorBoard: the package tensorboard must be installed, got none. "
                "Run `pip install tensorboard`, or read metrics.csv."
            )
        self._writer: Any = None

    def started(self, config: TrainingConfig, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("settings", f"```json\n{config.model_dump_json(indent=1)}\n```")

    def progressed(self, progress: Progress) -> None:
        for name, value in (progress.record or {}).items():
            if name not in ("member", "epoch"):
                self._writer.add_scalar(f"{name}/member{progress.member}", value, progress.done)
        if progress.record is not None:
            self._writer.flush()

    def finished(self, result: TrainingResult) -> None:
        for part, by_target in result.metrics.items():
            for target, metrics in by_target.items():
                for name, value in metrics.items():
                    if isinstance(value, float):
                        self._writer.add_scalar(f"{part}/{target}/{name}", value)
        self._writer.close()
