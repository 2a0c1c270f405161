"""Model archives: what is written can be loaded, and nothing else can."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes

from potnet.crystal import Crystal
from potnet.errors import ConfigError, ModelError
from potnet.models import archive, available, registry
from potnet.models.card import DataCard, ModelCard, TargetCard
from potnet.models.contract import Network
from potnet.models.selection import select
from potnet.training import TrainingConfig

FCC = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
CRYSTALS = [
    Crystal([11, 17], [[0, 0, 0], [2.82, 0, 0]], 2.82 * FCC),
    Crystal([29], [[0, 0, 0]], 1.805 * FCC),
]
SETTINGS = {
    "completenet": {"width": 8, "n_layers": 1},
    "potnet": {"width": 8, "n_layers": 1, "n_bond_centers": 8, "n_potential_centers": 4},
}


def make_card(network: str = "potnet", **changes) -> ModelCard:
    targets = (
        TargetCard(name="gap", unit="eV", mean=1.5, std=2.0, interval_level=0.9),
        TargetCard(name="K_VRH", unit="GPa", transform="log10"),
    )
    data = DataCard(
        name="two crystals",
        n_train=2,
        elements=("Na", "Cl", "Cu"),
        max_atoms=2,
        volume_per_atom=(11.0, 23.0),
    )
    fields = {"network": network, "settings": SETTINGS[network], "targets": targets, "data": data}
    return ModelCard(**{**fields, **changes})


def make_members(network: str = "potnet", n_members: int = 2) -> list[Network]:
    torch.manual_seed(0)
    return [registry.build(network, SETTINGS[network], 2).eval() for _ in range(n_members)]


def write(path: Path, network: str = "potnet", n_members: int = 2) -> ModelCard:
    members, card = make_members(network, n_members), make_card(network)
    card = archive.with_golden(card, members, CRYSTALS)
    archive.save(path, members, card)
    return card


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("archives") / "model"
    write(path)
    return path


@pytest.fixture
def folder(written, tmp_path) -> Path:
    return shutil.copytree(written, tmp_path / "model")


@pytest.mark.parametrize("name", ["model", "model.zip"])
@pytest.mark.parametrize("network", registry.networks())
def test_networks_come_back_bit_for_bit(tmp_path, network, name):
    members = make_members(network)
    write(tmp_path / name, network)
    loaded, _ = archive.read(tmp_path / name)
    assert len(loaded) == 2
    for before, after in zip(members, loaded, strict=True):
        assert not after.training
        assert after.settings == before.settings
        state = after.state_dict()
        assert all(torch.equal(t, state[name]) for name, t in before.state_dict().items())


def test_the_card_comes_back_with_version_and_checksum(tmp_path):
    card = write(tmp_path / "model")
    loaded = archive.read_card(tmp_path / "model")
    assert len(loaded.weights_sha256) == 64
    assert loaded == card.model_copy(update={"weights_sha256": loaded.weights_sha256})


def test_golden_predictions_combine_the_members_on_the_transformed_scale():
    members = make_members(n_members=3)
    batch = members[0].features(CRYSTALS)
    outputs = torch.stack([member(batch).detach() for member in members]).double().numpy()
    for how, combine in (("mean", np.mean), ("median", np.median)):
        card = archive.with_golden(make_card(combine=how), members, CRYSTALS)
        expected = combine(outputs, axis=0) * [2.0, 1.0] + [1.5, 0.0]
        np.testing.assert_allclose([g.prediction for g in card.golden], expected, rtol=1e-12)


def test_equal_models_make_equal_zip_files(tmp_path):
    write(tmp_path / "a.zip")
    write(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_saving_over_an_archive_replaces_it(folder):
    write(folder, n_members=1)
    assert len(archive.read(folder)[0]) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]


def test_loading_leaves_the_random_numbers_alone(written):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    archive.read(written)
    assert torch.equal(torch.rand(1), expected)


def edit_card(folder: Path, **changes) -> None:
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | changes))


def edit_tensors(folder: Path, edit) -> None:
    """Change the weights and state their new checksum, as a wrong exporter would."""
    path = folder / "model.safetensors"
    tensors = tensors_from_bytes(path.read_bytes())
    edit(tensors)
    path.write_bytes(tensors_to_bytes(tensors))
    set_checksum(folder)


def set_checksum(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    edit_card(folder, weights_sha256=archive.hashlib.sha256(content).hexdigest())


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def cut_weights_knowingly(folder: Path) -> None:
    cut_weights(folder)
    set_checksum(folder)


def flip_a_bit(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def drop(name):
    return lambda folder: edit_tensors(folder, lambda tensors: tensors.pop(name))


def put(name, tensor):
    return lambda folder: edit_tensors(folder, lambda tensors: tensors.update({name: tensor}))


def nudge_output(tensors) -> None:
    for k in range(2):
        tensors[f"member{k}.fc_out.bias"] = tensors[f"member{k}.fc_out.bias"] + 1e-3


def golden(folder: Path) -> list:
    return json.loads((folder / "model.json").read_text())["golden"]


DEFECTS = {
    "no card": (lambda f: (f / "model.json").unlink(), "must hold `model.json`"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "must hold `model.safetensors`"),
    "weights cut short": (cut_weights, "must have the SHA-256"),
    "one bit flipped": (flip_a_bit, "must have the SHA-256"),
    "not safetensors": (cut_weights_knowingly, "must be a safetensors file"),
    "card cut short": (lambda f: (f / "model.json").write_text('{"format": 1,'), "must be JSON"),
    "card not text": (lambda f: (f / "model.json").write_bytes(b"\xff\xfe\x00"), "must be JSON"),
    "card a list": (lambda f: (f / "model.json").write_text("[]"), "must be a valid model card"),
    "unknown key": (lambda f: edit_card(f, colour="red"), "`colour`: extra inputs"),
    "no targets": (lambda f: edit_card(f, targets=[]), "must be a valid model card: `targets`"),
    "newer format": (lambda f: edit_card(f, format=3), "Install a newer potnet"),
    "unknown network": (lambda f: edit_card(f, network="gnn"), "one of completenet, potnet, got"),
    "unknown setting": (lambda f: edit_card(f, settings={"depth": 3}), "`depth`: extra inputs"),
    "other settings": (lambda f: edit_card(f, settings=SETTINGS["potnet"] | {"width": 9}), "shape"),
    "missing tensor": (drop("member1.fc.0.weight"), "lack `member1.fc.0.weight`"),
    "unknown tensor": (put("member0.x", torch.ones(1)), "unknown `member0.x`"),
    "missing member": (put("member7.x", torch.ones(1)), "lack `member2."),
    "stray tensor": (put("fc", torch.ones(1)), "lack `member2."),
    "wrong shape": (put("member0.fc_out.bias", torch.ones(3)), r"must have shape \(2,\)"),
    "wrong type": (put("member0.fc_out.bias", torch.ones(2).double()), "torch.float64"),
    "nan": (put("member0.fc_out.bias", torch.tensor([1.0, float("nan")])), "must be finite"),
    "other numbers": (lambda f: edit_tensors(f, nudge_output), "golden predictions must be"),
    "no golden": (lambda f: edit_card(f, golden=[]), "`golden` must hold 2 to 5 crystals, got 0"),
    "bad golden": (
        lambda f: edit_card(
            f, golden=[g | {"numbers": [0] * len(g["numbers"])} for g in golden(f)]
        ),
        "golden crystals must be predictable",
    ),
    "short golden": (
        lambda f: edit_card(f, golden=[g | {"prediction": [1.0]} for g in golden(f)]),
        "one prediction per target",
    ),
}


def test_weights_that_half_precision_holds_take_half_the_size(tmp_path):
    members = [archive.halved(member) for member in make_members("completenet")]
    expected = [member.state_dict() for member in members]
    card = archive.with_golden(make_card("completenet"), members, CRYSTALS)
    archive.save(tmp_path / "half", members, card)
    write(tmp_path / "full", "completenet")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]
    found, _ = archive.read(tmp_path / "half")
    for member, state in zip(found, expected, strict=True):
        assert all(tensor.dtype == torch.float32 for tensor in member.parameters())
        for name, tensor in member.state_dict().items():
            assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_one_sentence_that_names_it(folder, defect):
    damage, message = DEFECTS[defect]
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        archive.read(folder)
    assert str(caught.value).startswith(f"{folder}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_in_a_zip_file_is_found_as_well(folder, tmp_path, defect):
    DEFECTS[defect][0](folder)
    shutil.make_archive(str(tmp_path / "bad"), "zip", folder)
    with pytest.raises(ModelError, match=DEFECTS[defect][1]):
        archive.read(tmp_path / "bad.zip")


def test_verification_can_be_skipped(folder):
    edit_tensors(folder, nudge_output)
    assert len(archive.read(folder, verify=False)[0]) == 2


def test_a_zip_file_cut_short_or_changed_is_refused(tmp_path):
    path = tmp_path / "model.zip"
    write(path)
    content = path.read_bytes()
    for damaged in (content[:-50], content[:100], b"", b"not a zip file"):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match="must be a folder or an intact .zip file"):
            archive.read(path)
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    with pytest.raises(ModelError, match="intact .zip file"):
        archive.read(path)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_file_of_absurd_size_is_refused_unread(folder, tmp_path, monkeypatch, kind):
    monkeypatch.setitem(archive.SIZE_LIMITS, "model.safetensors", 1000)
    source = folder
    if kind == "zip":
        source = Path(shutil.make_archive(str(tmp_path / "big"), "zip", folder))
    with pytest.raises(ModelError, match="must have at most 1000 bytes"):
        archive.read(source)


def test_an_encrypted_zip_file_is_refused(folder, tmp_path):
    path = tmp_path / "secret.zip"
    with zipfile.ZipFile(path, "w") as file:
        for part in folder.iterdir():
            file.write(part, part.name)
    content = bytearray(path.read_bytes())
    # The encryption flag of every local and central header.
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(signature)
        while start >= 0:
            content[start + place] |= 1
            start = content.find(signature, start + 1)
    path.write_bytes(content)
    with pytest.raises(ModelError, match="intact .zip file"):
        archive.read(path)


def test_words_of_before_are_read_as_those_of_today(tmp_path):
    write(tmp_path / "model")
    path = tmp_path / "model" / archive.CARD_NAME
    fields = json.loads(path.read_text())
    assert fields.pop("finetuned_from") is None
    origin = {"name": "other", "weights_sha256": "", "data": fields["data"]}
    fields["targets"][0]["transform"] = "yes-no"
    path.write_text(json.dumps({**fields, "start": origin}))
    card = archive.read_card(tmp_path / "model")
    assert card.targets[0].transform == "binary"
    assert card.finetuned_from is not None
    assert card.finetuned_from.name == "other"
    assert TrainingConfig(transform="yes-no") == TrainingConfig(transform="binary")
    assert TrainingConfig(transform={"a": "yes-no"}) == TrainingConfig(transform={"a": "binary"})


def test_an_unknown_name_lists_the_known_ones(monkeypatch, tmp_path):
    bundled = tmp_path / "bundled"
    for name in ("gap", "bulk-modulus"):
        write(bundled / name, n_members=1)
    monkeypatch.setattr("potnet.models.catalogue.BUNDLED", bundled)
    assert available() == ["bulk-modulus", "gap"]
    assert len(archive.read("gap")[0]) == 1
    with pytest.raises(ModelError, match="one of bulk-modulus, gap.* got 'gap2'"):
        archive.read("gap2")


@pytest.mark.parametrize("network", registry.networks())
def test_bundled_names_share_an_archive(monkeypatch, tmp_path, network):
    members = make_members(network)
    names = {"modulus": ("K_VRH",), "turned": ("K_VRH", "gap")}
    metrics = {"val": {"gap": {"mae": 0.1}, "K_VRH": {"mae": 3.0}}, "note": "few"}
    card = archive.with_golden(
        make_card(network, bundled=names, metrics=metrics), members, CRYSTALS
    )
    archive.save(tmp_path / "both", members, card)
    monkeypatch.setattr("potnet.models.catalogue.BUNDLED", tmp_path)
    assert available() == ["modulus", "turned"]
    batch = members[0].features(CRYSTALS)
    for name, columns in (("modulus", [1]), ("turned", [1, 0])):
        loaded, selected = archive.read(name)
        assert [target.name for target in selected.targets] == list(names[name])
        assert selected == archive.read_card(name)
        for before, after in zip(members, loaded, strict=True):
            torch.testing.assert_close(after(batch), before(batch)[:, columns])
        # It is an archive like any other.
        archive.save(tmp_path / "own.zip", loaded, selected)
        assert archive.read(tmp_path / "own.zip")[1].targets == selected.targets
    assert archive.read_card("modulus").metrics == {"val": {"K_VRH": {"mae": 3.0}}, "note": "few"}
    with pytest.raises(ModelError, match=r"among those of the model \(gap, K_VRH\), got 'G_VRH'"):
        select(members, card, ["G_VRH"])


def test_a_card_bundles_only_targets_that_it_has():
    with pytest.raises(ValueError, match="'modulus' must name targets of the card"):
        make_card(bundled={"modulus": ("G_VRH",)})


def test_every_bundled_model_loads():
    for name in available():
        members, card = archive.read(name)
        assert members
        assert card.targets


def test_a_model_that_could_not_be_loaded_is_not_written(tmp_path):
    members, card = make_members(), make_card()
    with pytest.raises(ModelError, match="`golden` must hold 2 to 5"):
        archive.save(tmp_path / "model", members, card)
    card = archive.with_golden(card, members, CRYSTALS)
    with torch.no_grad():
        members[0].fc_out.bias.fill_(float("inf"))
    with pytest.raises(ModelError, match="must be finite"):
        archive.save(tmp_path / "model", members, card)
    with pytest.raises(ModelError, match="lack `member0"):
        archive.save(tmp_path / "model", [], card)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_network_or_setting_is_refused():
    with pytest.raises(ConfigError, match="one of completenet, potnet, got 'gcn'"):
        registry.build("gcn")
    with pytest.raises(ConfigError, match=r"potnet: .*`features.cutof`: extra inputs"):
        registry.build("potnet", {"features": {"cutof": 3}})
    with pytest.raises(ConfigError, match="`width`: .* got 0"):
        registry.build("completenet", {"width": 0})


def test_a_network_is_built_from_its_settings_object():
    network = registry.build("potnet", SETTINGS["potnet"])
    assert registry.build("potnet", network.settings).settings == network.settings
