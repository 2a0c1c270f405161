"""Counts of what was asked and how long it took, in the text format of Prometheus."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from importlib.metadata import version
from pathlib import Path

PAGE = 4096  # bytes
BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # seconds

_COUNTS = {
    "structures": "Structures that were answered.",
    "failures": "Structures that could not be used.",
    "cancelled": "Requests whose client went away.",
    "batches": "Batches that were computed.",
    "batched": "Structures in these batches.",
}


class Metrics:
    """What the server did so far. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._times = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self.waiting = 0

    def count(self, name: str, n: int = 1) -> None:
        """Add ``n`` to one of the counts."""
        with self._lock:
            self._counts[name] += n

    def count_batch(self, n: int) -> None:
        """Note a batch of ``n`` structures."""
        self.count("batches")
        self.count("batched", n)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Note a request and the time until its answer was complete."""
        with self._lock:
            self._requests[path, status] += 1
            self._times[bisect_left(BUCKETS, seconds)] += 1
            self._seconds += seconds

    def text(self) -> str:
        """Return all counts."""
        with self._lock:
            lines = [*_head("info", "gauge", "The version."), _info()]
            lines += _head("requests_total", "counter", "Requests by path and status.")
            for (path, status), n in sorted(self._requests.items()):
                lines.append(f'potnet_requests_total{{path="{path}",status="{status}"}} {n}')
            for name, meaning in _COUNTS.items():
                lines += _head(f"{name}_total", "counter", meaning)
                lines.append(f"potnet_{name}_total {self._counts[name]}")
            lines += _head("waiting", "gauge", "Requests that compute or wait for it.")
            lines.append(f"potnet_waiting {self.waiting}")
            lines += self._histogram()
            lines += _head("memory_bytes", "gauge", "Memory of the process.")
            lines.append(f"potnet_memory_bytes {resident()}")
        return "\n".join(lines) + "\n"

    def _histogram(self) -> list[str]:
        name, total = "potnet_request_seconds", 0
        lines = _head("request_seconds", "histogram", "Time until an answer was complete.")
        for end, n in zip((*BUCKETS, "+Inf"), self._times, strict=True):
            total += n
            lines.append(f'{name}_bucket{{le="{end}"}} {total}')
        return [*lines, f"{name}_sum {self._seconds:.3f}", f"{name}_count {total}"]


def resident() -> int:
    """Return the memory of this process in bytes, 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * PAGE
    except (OSError, ValueError, IndexError):
        return 0


def _head(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP potnet_{name} {meaning}", f"# TYPE potnet_{name} {kind}"]


def _info() -> str:
    return f'potnet_info{{version="{version("potnet")}"}} 1'
