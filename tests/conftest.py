"""Settings of the whole test run: deterministic, one thread, no display, no network."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "potnet",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("potnet")


def pytest_configure(config: pytest.Config) -> None:
    """Keep torch to one thread: results do not depend on the machine, and 2 cores stay usable."""
    import torch

    torch.set_num_threads(1)
