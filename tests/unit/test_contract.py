"""Networks of others: found by entry points, checked, trained, saved, loaded."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ConfigDict
from tiny_network import TinyNet, TinySettings, made_up_dataset, registered  # noqa: F401
from typer.testing import CliRunner

import potnet
from potnet.cli import app
from potnet.errors import ConfigError
from potnet.models import registry
from potnet.models.completenet import CompleteNet, CompleteNetSettings
from potnet.models.contract import Network
from potnet.testing import CheckError, check_network
from potnet.training import TrainingConfig, train

SOURCE = '''
"""A network of one layer, linear in the sums."""

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from potnet.features.complete import CompleteFeatures
from potnet.models.contract import Network


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    features: CompleteFeatures = CompleteFeatures(degree=0)
    width: int = 16


class Linear(Network):
    name = "linear"
    Settings = Settings

    def __init__(self, settings, n_targets=1):
        super().__init__(settings, n_targets)
        self.embed = nn.Embedding(119, settings.width)
        self.filters = nn.Linear(settings.features.n_channels, settings.width, bias=False)
        self.head = nn.Linear(settings.width, n_targets)

    def forward(self, batch):
        i, j = batch.edge_index("complete")
        h = self.embed(batch.numbers)
        message = self.filters(batch.pairs["complete"].values) * h[j]
        h = torch.tanh(h + 0.3 * torch.zeros_like(h).index_add(0, i, message))
        pooled = h.new_zeros(len(batch), h.shape[1])
        pooled = pooled.index_add(0, batch.graph_index, batch.weights[:, None] * h)
        return self.head(pooled)
'''


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder on ``sys.path`` that holds an installed distribution with a network."""
    folder = tmp_path / "site"
    info = folder / "linear_net-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "linear_net.py").write_text(SOURCE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: linear-net\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[potnet.networks]\nlinear = linear_net:Linear\nbroken = linear_net:Absent\n"
        "wrong = linear_net:Settings\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("linear_net", None)


def test_a_network_of_an_installed_package_trains_saves_loads_and_predicts(plug_in, tmp_path):
    assert "linear" in registry.networks()
    settings = {"network": "linear", "network_settings": {"width": 8}, "epochs": 2}
    dataset = made_up_dataset(40)
    result = train(dataset, TrainingConfig(**settings, device="cpu"), tmp_path / "run")
    model = potnet.load(result.model)
    assert model.card.network == "linear"
    rows = model.predict(dataset.crystals[:3])
    assert [row.unit for row in rows] == ["Å"] * 3
    assert len({row.prediction for row in rows}) == 3
    torch.manual_seed(0)
    check_network(registry.build("linear"))


def test_the_command_line_trains_a_network_of_an_installed_package(plug_in, tmp_path):
    dataset = made_up_dataset(20)
    lines = ["id,structure,size"]
    for id, crystal, value in zip(
        dataset.ids, dataset.crystals, dataset.targets["size"].tolist(), strict=True
    ):
        potnet.write([crystal], tmp_path / f"{id}.cif")
        lines.append(f"{id},{id}.cif,{value}")
    (tmp_path / "id_prop.csv").write_text("\n".join(lines))
    words = ["train", tmp_path / "id_prop.csv", "-t", "size", "--network", "linear"]
    words += ["--epochs", 1, "-o", tmp_path / "run"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert potnet.load(tmp_path / "run" / "model").card.network == "linear"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "of linear_net:Absent must be importable, got module 'linear_net' has no attr"),
        ("wrong", "linear_net:Settings must be a potnet.models.contract.Network whose name is"),
        ("absent", "must be one of completenet, potnet, .*linear.*, got 'absent'"),
    ],
)
def test_an_entry_point_that_does_not_work_is_one_sentence(plug_in, name, message):
    with pytest.raises(ConfigError, match=message):
        registry.build(name)


def test_a_network_may_not_take_the_name_of_one_of_ours():
    with pytest.raises(ConfigError, match="must not be that of a network of potnet, got 'potnet'"):
        registry.register(type("Other", (TinyNet,), {"name": "potnet"}))


class OfTheBatch(TinyNet):
    """A row that depends on the others."""

    def forward(self, batch):
        found = super().forward(batch)
        return found - found.mean()


class OfTheOrder(TinyNet):
    """An answer that depends on which atom comes first."""

    def forward(self, batch):
        first = batch.node_counts.cumsum(0) - batch.node_counts
        return super().forward(batch) + batch.numbers[first, None] / 10


class Idle(CompleteNet):
    """A weight that does nothing."""

    name = "tiny"

    def __init__(self, settings: CompleteNetSettings | None = None, n_targets: int = 1) -> None:
        super().__init__(settings, n_targets)
        self.idle = torch.nn.Linear(3, 3)


class Loose(TinySettings):
    model_config = ConfigDict(extra="ignore")


class LooseSettings(TinyNet):
    Settings: Any = Loose


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (OfTheBatch, "`output` must not depend on the rest of the batch"),
        (OfTheOrder, "`output` must be the same for a crystal that is reordered"),
        (Idle, "`idle.weight` must take part in the output, got no gradient"),
        (LooseSettings, "`Settings` must refuse unknown keys"),
    ],
)
def test_a_network_that_breaks_its_contract_is_told_how(monkeypatch, network, message):
    monkeypatch.setitem(registry._registered, "tiny", network)
    torch.manual_seed(0)
    with pytest.raises(CheckError, match=message):
        check_network(network(network.Settings()))


def test_a_network_that_nobody_knows_is_told_where_to_name_itself():
    stranger = type("Stranger", (TinyNet,), {"name": "stranger"})
    with pytest.raises(CheckError, match="`name` must be known to potnet: give the class to"):
        check_network(stranger(TinySettings()))


def test_what_is_no_network_is_refused():
    with pytest.raises(CheckError, match="must be a potnet.models.contract.Network, got Linear"):
        check_network(torch.nn.Linear(1, 1))  # pyright: ignore[reportArgumentType]


def test_the_contract_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Network(TinySettings(), 1)  # pyright: ignore[reportAbstractUsage]
