"""Settings of the whole test run (deterministic, one thread, no display) and shared fixtures."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

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


@pytest.fixture(scope="session")
def salts():
    """Twelve crystals of the NaCl type with ids."""
    from salts import rock_salt

    from potnet.crystal import SYMBOLS

    kinds = [(z, q, r) for z, r in ((3, 2.1), (11, 2.5), (19, 2.8)) for q in (9, 17, 35, 53)]
    return [rock_salt(z, q, r + 0.01 * q, id=f"{SYMBOLS[z]}{SYMBOLS[q]}") for z, q, r in kinds]


@pytest.fixture(scope="session")
def small_members():
    """Three small networks with two outputs and random, but always the same, weights."""
    import torch

    from potnet.models import registry

    members = []
    for seed in range(3):
        torch.manual_seed(seed)
        members.append(registry.build("completenet", {"width": 8, "n_layers": 1}, 2))
    return members


@pytest.fixture(scope="session")
def small_card(small_members, salts):
    """The card of ``small_members``: a calibrated target, and one in logarithms that is not."""
    from potnet.models import archive
    from potnet.models.card import DataCard, ModelCard, TargetCard

    card = ModelCard(
        network="completenet",
        settings=small_members[0].settings.model_dump(mode="json"),
        targets=(
            TargetCard(
                name="energy",
                unit="eV/atom",
                mean=-1.5,
                std=0.8,
                interval_level=0.9,
                interval_halfwidth=0.25,
            ),
            TargetCard(name="modulus", unit="GPa", transform="log10", mean=1.8, std=0.3),
        ),
        data=DataCard(
            name="salts",
            n_train=12,
            elements=("Li", "Na", "K", "F", "Cl", "Br", "I"),
            max_atoms=4,
            volume_per_atom=(8.0, 50.0),
        ),
    )
    return archive.with_golden(card, small_members, salts[:2])


@pytest.fixture(scope="session")
def small_archive(small_members, small_card, tmp_path_factory) -> Path:
    """The folder of an archive of ``small_members``."""
    from potnet.models import archive

    path = tmp_path_factory.mktemp("archives") / "small"
    archive.save(path, small_members, small_card)
    return path


@pytest.fixture
def bundled_models() -> list[str]:
    """The names of the bundled models."""
    from potnet import available

    names = available()
    assert names, "no model is bundled: see scripts/bundle_models.py"
    return names
