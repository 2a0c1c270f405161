"""What a run costs: processor or GPU seconds, memory, parameters."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from potnet.files import atomic_write

_SAVE_AFTER_S = 5.0


class Cost(BaseModel):
    """What one training cost.

    Attributes:
        device: "cpu", or the name of the GPU.
        seconds: Processor seconds (all threads), or seconds on the GPU, of training with its
            validation; over all calls of a run that was interrupted.
        epochs: Epochs in ``seconds``, part of one included; 0 for what has none.
        preparation: Processor seconds before the first epoch that other runs need not repeat or
            that the budget does not count, such as making features or graphs.
        n_parameters: Trained numbers; 0 for what has none.
        peak_memory_mb: Largest resident memory of the process so far, or allocated on the GPU.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str = "cpu"
    seconds: float = 0.0
    epochs: float = 0
    preparation: float = 0.0
    n_parameters: int = 0
    peak_memory_mb: float | None = None


class Meter:
    """Counts the seconds of a run; a file keeps the count when the run is killed.

    Args:
        path: The file; None counts this call alone.
        clock: What is read: processor seconds of this process, or passing ones.
    """

    def __init__(
        self, path: Path | None = None, clock: Callable[[], float] = time.process_time
    ) -> None:
        self._path, self._clock = path, clock
        self._before: dict[str, float] = {"seconds": 0.0, "epochs": 0}
        if path is not None and path.exists():
            self._before = json.loads(path.read_text(encoding="utf-8"))
        self._start = clock()
        self._saved = time.monotonic()
        self._here = 0

    @property
    def seconds(self) -> float:
        """Seconds up to now, those of earlier calls included."""
        return self._before["seconds"] + self._clock() - self._start

    @property
    def epochs(self) -> int:
        """Epochs that these seconds paid for."""
        return int(self._before["epochs"]) + self._here

    def epoch(self) -> None:
        """Count an epoch, and now and then write the count."""
        self._here += 1
        if time.monotonic() - self._saved > _SAVE_AFTER_S:
            self.save()

    def save(self) -> None:
        """Write the count."""
        if self._path is not None:
            with atomic_write(self._path) as file:
                json.dump({"seconds": self.seconds, "epochs": self.epochs}, file)
            self._saved = time.monotonic()


def peak_memory_mb() -> float | None:
    """Return the largest resident memory of this process so far in MB; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    return resident_mb(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def resident_mb(maxrss: int) -> float:
    """Return MB for what the system reports: bytes on macOS, KiB elsewhere."""
    return maxrss / (2**20 if sys.platform == "darwin" else 2**10)
