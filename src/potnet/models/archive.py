"""Model archives: trained networks, and a card that says what they are good for.

An archive is a folder with two or three files, or a ``.zip`` file that holds the same:

* ``model.safetensors``: the weights of every member, as ``member0.<parameter>`` and so on, in half
  precision where that is exact, and of witnesses, as ``witness0.<parameter>``: networks that do not
  predict, but whose disagreement with the members says how sure these may be;
* ``model.json``: the card;
* ``calibration.safetensors``: how sure the model may be of a prediction, where that was measured.

The card carries the SHA-256 of the others and a few golden crystals with their predictions. Both
are checked when an archive is loaded, so that a damaged file, or a change of potnet that would
change its predictions, is an error and not a wrong number.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as arrays_from_bytes
from safetensors.numpy import save as arrays_to_bytes
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from potnet.calibration import Calibration
from potnet.crystal import Crystal
from potnet.errors import ConfigError, ModelError, PotNetError
from potnet.files import as_path, atomic_write
from potnet.models.card import FORMAT, GoldenCrystal, ModelCard
from potnet.models.catalogue import bundled
from potnet.models.evidence import combined
from potnet.models.registry import first_fault
from potnet.models.selection import select, select_card
from potnet.models.unset import build_unset

if TYPE_CHECKING:
    from potnet.models.contract import Network

WEIGHTS_NAME, CARD_NAME = "model.safetensors", "model.json"
CALIBRATION_NAME = "calibration.safetensors"
WITNESS = "witness"
SIZE_LIMITS = {WEIGHTS_NAME: 2**30, CARD_NAME: 2**24, CALIBRATION_NAME: 2**26}  # Bytes.
UNSTORED = 2**20  # Numbers that a network may hold beside its weights.
GOLDEN_TOLERANCE = 1e-4  # In standard deviations of the target.
# What zipfile raises for a damaged file, or (RuntimeError) for one it cannot read.
ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)
# The least date that a zip entry can have: equal archives are equal files.
ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def with_golden(
    card: ModelCard, members: Sequence[Network], crystals: Sequence[Crystal]
) -> ModelCard:
    """Return ``card`` with ``crystals`` and what ``members`` predict for them as golden crystals.

    Args:
        card: The card of the model.
        members: Its networks; they are put into evaluation mode.
        crystals: Two to five crystals with few atoms.
    """
    golden = tuple(
        GoldenCrystal(
            numbers=tuple(crystal.numbers.tolist()),
            positions=tuple(map(tuple, crystal.positions.tolist())),
            cell=tuple(map(tuple, crystal.cell.tolist())),
            prediction=tuple(values.tolist()),
        )
        for crystal, values in zip(crystals, _predict(members, card, crystals), strict=True)
    )
    return card.model_copy(update={"golden": golden})


def save(
    path: str | os.PathLike[str],
    members: Sequence[Network],
    card: ModelCard,
    calibration: Calibration | None = None,
    witnesses: Sequence[Network] = (),
) -> None:
    """Write an archive, whole or not at all.

    Args:
        path: A file name that ends in ``.zip``, or a folder, which is made if need be.
        members: Trained networks, all built from the settings of ``card``.
        card: What to say of them. ``potnet_version`` and the SHA-256 are set here.
        calibration: How sure they may be; without one the intervals have constant widths.
        witnesses: Networks that the calibration hears beside the members, built and scaled alike.

    Raises:
        ModelError: If the archive could not be loaded again: the members do not fit the card, a
            weight is not finite, or there are fewer than two golden crystals or they disagree.
    """
    path = as_path(path, "path")
    weights = tensors_to_bytes(
        {
            f"{kind}{k}.{name}": _stored(tensor)
            for kind, networks in (("member", members), (WITNESS, witnesses))
            for k, network in enumerate(networks)
            for name, tensor in network.state_dict().items()
        }
    )
    contents = {WEIGHTS_NAME: weights}
    if calibration is not None:
        arrays = calibration.arrays()  # safetensors takes the memory as it is, whatever its order
        contents[CALIBRATION_NAME] = arrays_to_bytes(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        )
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    update = {
        "format": FORMAT,
        "potnet_version": version("potnet"),
        "weights_sha256": digests[WEIGHTS_NAME],
        "calibration_sha256": digests.get(CALIBRATION_NAME, ""),
    }
    contents[CARD_NAME] = card.model_copy(update=update).model_dump_json(indent=1).encode()
    path = Path(path)
    _assemble(str(path), contents, verify=True)
    if path.suffix == ".zip":
        _write_zip(path, contents)
        return
    path.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        with atomic_write(path / name, "wb") as file:
            file.write(content)
    if calibration is None:  # That of an archive that was there before.
        (path / CALIBRATION_NAME).unlink(missing_ok=True)


def halved(member: Network) -> Network:
    """Round the weights of ``member`` to half precision, so that they are stored in half the size.

    They stay float32. Predictions change by about 1e-3 standard deviations of the target.
    """
    with torch.no_grad():
        for parameter in member.parameters():
            parameter.copy_(parameter.half().float())
    return member


def _stored(tensor: Tensor) -> Tensor:
    """Return a tensor as it is stored: in half precision where that loses nothing."""
    tensor = tensor.detach().cpu().clone().contiguous()
    if tensor.dtype == torch.float32 and torch.equal(tensor.half().float(), tensor):
        return tensor.half()
    return tensor


def read(source: str | os.PathLike[str], *, verify: bool = True) -> tuple[list[Network], ModelCard]:
    """Return the networks of an archive, in evaluation mode, and its card.

    Args:
        source: Name of a bundled model, or path of a folder, of a ``.zip`` file or of a run.
        verify: Predict the golden crystals and compare.

    Raises:
        ModelError: If there is no such model, it is damaged or incomplete, was written by a newer
            potnet, or does not reproduce its golden predictions.
    """
    members, card, _ = read_with_witnesses(source, verify=verify)
    return members, card


def read_with_witnesses(
    source: str | os.PathLike[str], *, verify: bool = True
) -> tuple[list[Network], ModelCard, list[Network]]:
    """Return what :func:`read` does, and the networks that the calibration hears beside these.

    Args:
        source: As for :func:`read`; so are the others.
        verify: Predict the golden crystals and compare.

    Raises:
        ModelError: As :func:`read`.
    """
    where, contents, targets = _contents(source, (CARD_NAME, WEIGHTS_NAME))
    members, card, heard = _assemble(where, contents, verify=verify)
    witnesses = _build_networks(where, card, heard, WITNESS) if heard else []
    if not targets:
        return members, card, witnesses
    return *select(members, card, targets), select(witnesses, card, targets)[0]


def read_calibration(source: str | os.PathLike[str]) -> Calibration | None:
    """Return how sure the model of an archive may be, None where that was not measured.

    Args:
        source: Name of a bundled model, or path of a folder, of a ``.zip`` file or of a run.

    Raises:
        ModelError: If there is no such model, or its calibration is missing or damaged.
    """
    where, contents, targets = _contents(source, (CARD_NAME,))
    card = _parse_card(where, contents[CARD_NAME])
    if not card.calibration_sha256:
        return None
    content = _contents(source, (CALIBRATION_NAME,))[1][CALIBRATION_NAME]
    _check_digest(where, CALIBRATION_NAME, content, card.calibration_sha256)
    try:
        calibration = Calibration.from_arrays(arrays_from_bytes(content))
        if len(calibration.outputs) != len(card.targets):
            raise ValueError(f"it is for {len(calibration.outputs)} targets")
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelError(
            f"{where}: `{CALIBRATION_NAME}` must be a calibration of the model, got one that "
            f"cannot be used ({error}). Copy the archive again."
        ) from error
    if not targets:
        return calibration
    names = [target.name for target in card.targets]
    return calibration.select([names.index(name) for name in targets])


def read_card(source: str | os.PathLike[str]) -> ModelCard:
    """Return the card of an archive without its networks.

    Args:
        source: Name of a bundled model, or path of a folder or ``.zip`` file.

    Raises:
        ModelError: If there is no such model or its card cannot be used.
    """
    where, contents, targets = _contents(source, (CARD_NAME,))
    card = _parse_card(where, contents[CARD_NAME])
    return select_card(card, targets) if targets else card


def _write_zip(path: Path, contents: Mapping[str, bytes]) -> None:
    with atomic_write(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name, ZIP_DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)


def _contents(
    source: str | os.PathLike[str], names: Sequence[str]
) -> tuple[str, dict[str, bytes], tuple[str, ...]]:
    """Return how to call the archive in messages, its files ``names``, and the targets wanted."""
    path, targets = _find(source)
    read = _read_from_folder if path.is_dir() else _read_from_zip
    return str(source), {name: read(str(source), path, name) for name in names}, targets


def _find(source: str | os.PathLike[str]) -> tuple[Path, tuple[str, ...]]:
    """Return the archive that ``source`` means, and the targets (none: all) that it means of it.

    A bundled name goes before a path.
    """
    found = bundled()
    if str(source) in found:
        return found[str(source)]
    path = as_path(source, "model")
    if (path / "model" / CARD_NAME).is_file() and not (path / CARD_NAME).exists():
        return path / "model", ()  # the folder of a run
    if not path.exists():
        known = f"one of {', '.join(found)}" if found else "(none is bundled)"
        raise ModelError(
            f"{source}: `model` must be the name of a bundled model {known} or an existing "
            f"archive, got {str(source)!r}. Check the name or the path."
        )
    return path, ()


def _read_from_folder(where: str, folder: Path, name: str) -> bytes:
    path = folder / name
    if not path.is_file():
        raise _missing_file(where, name, [item.name for item in folder.iterdir()])
    _check_size(where, name, path.stat().st_size)
    return path.read_bytes()


def _read_from_zip(where: str, path: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            if name not in archive.namelist():
                raise _missing_file(where, name, archive.namelist())
            # zipfile never returns more than the size declared here.
            _check_size(where, name, archive.getinfo(name).file_size)
            return archive.read(name)
    except ZIP_FAULTS as error:
        raise ModelError(
            f"{where}: a model archive must be a folder or an intact .zip file, got a file that "
            f"cannot be read ({error}). Copy or download it again."
        ) from error


def _missing_file(where: str, name: str, found: Sequence[str]) -> ModelError:
    listed = ", ".join(sorted(found)[:5]) or "nothing"
    return ModelError(
        f"{where}: the archive must hold `{name}`, got {listed}. Copy the whole archive again."
    )


def _check_size(where: str, name: str, size: int) -> None:
    if size > SIZE_LIMITS[name]:
        raise ModelError(
            f"{where}: `{name}` must have at most {SIZE_LIMITS[name]} bytes, got {size}. "
            "This is not an archive that potnet wrote; do not use it."
        )


def _assemble(
    where: str, contents: Mapping[str, bytes], *, verify: bool
) -> tuple[list[Network], ModelCard, dict[str, Tensor]]:
    """Return members and card from the two files' contents, checked, and weights of witnesses."""
    card = _parse_card(where, contents[CARD_NAME])
    own = _parse_weights(where, card, contents[WEIGHTS_NAME])
    heard = {name: own.pop(name) for name in list(own) if name.startswith(WITNESS)}
    members = _build_networks(where, card, own, "member")
    if verify:
        _verify(where, members, card)
    return members, card, heard


def _parse_card(where: str, content: bytes) -> ModelCard:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:  # Of JSON, of UTF-8, of what is nested deeply.
        raise ModelError(
            f"{where}: `{CARD_NAME}` must be JSON, got a file that is not ({error}). "
            "Copy the archive again."
        ) from error
    written = fields.get("format") if isinstance(fields, dict) else None
    if isinstance(written, int) and written > FORMAT:
        raise ModelError(
            f"{where}: `format` must be at most {FORMAT} for this version of potnet, got "
            f"{written}. Install a newer potnet."
        )
    try:
        return ModelCard.model_validate(fields)
    except ValidationError as error:
        raise ModelError(
            f"{where}: `{CARD_NAME}` must be a valid model card: {first_fault(error)}. "
            "Copy the archive again."
        ) from error


def _parse_weights(where: str, card: ModelCard, content: bytes) -> dict[str, Tensor]:
    _check_digest(where, WEIGHTS_NAME, content, card.weights_sha256)
    try:
        return tensors_from_bytes(content)
    except (SafetensorError, KeyError, ValueError) as error:  # The last two: of unknown types.
        raise ModelError(
            f"{where}: `{WEIGHTS_NAME}` must be a safetensors file, got one that cannot be read "
            f"({error}). Copy the archive again."
        ) from error


def _check_digest(where: str, name: str, content: bytes, stated: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != stated:
        raise ModelError(
            f"{where}: `{name}` must have the SHA-256 that its card states, got {found[:12]}... "
            f"instead of {stated[:12]}... (damaged, cut short or of another model). "
            "Copy the archive again."
        )


def _build_networks(
    where: str, card: ModelCard, tensors: Mapping[str, Tensor], kind: str
) -> list[Network]:
    """Return the networks whose weights are called ``kind`` and a number, with every weight set."""
    n_networks = len({name.partition(".")[0] for name in tensors})
    networks = []
    for k in range(max(n_networks, 1)):
        prefix = f"{kind}{k}."
        stored = sum(t.numel() for name, t in tensors.items() if name.startswith(prefix))
        network = _build_empty(where, card, stored)
        state = network.state_dict()
        given = {
            name.removeprefix(prefix): tensor.float() if tensor.dtype == torch.float16 else tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        _check_tensors(where, prefix, state, given)
        network.load_state_dict(given)
        networks.append(network.eval())
    return networks


def _build_empty(where: str, card: ModelCard, stored: int) -> Network:
    """Return the network of ``card``, without its weights.

    A card that asks for far more than the ``stored`` numbers is refused before it fills memory.
    """
    try:
        most = stored + UNSTORED
        return build_unset(card.network, card.settings, len(card.targets), most=most)
    except ConfigError as error:
        raise ModelError(f"{where}: the card must describe a known network. {error}") from error


def _check_tensors(
    where: str, prefix: str, expected: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> None:
    """Raise unless ``given`` has every expected tensor, no other, and finite numbers only."""
    for fault, names in (
        ("lack", expected.keys() - given.keys()),
        ("have an unknown", given.keys() - expected.keys()),
    ):
        if names:
            raise ModelError(
                f"{where}: the weights must fit the network of the card, got a file where they "
                f"{fault} `{prefix}{min(names)}` ({len(names)} in all). "
                "Use the archive as it was written."
            )
    for name, tensor in given.items():
        shape, found = tuple(expected[name].shape), tuple(tensor.shape)
        if (found, tensor.dtype) != (shape, expected[name].dtype):
            raise ModelError(
                f"{where}: `{prefix}{name}` must have shape {shape} and type "
                f"{expected[name].dtype}, got {found} and {tensor.dtype}. "
                "Use the archive as it was written."
            )
        if not torch.isfinite(tensor).all():
            raise ModelError(
                f"{where}: `{prefix}{name}` must be finite, got a number that is not. "
                "Train the model again; its training diverged."
            )


def _verify(where: str, members: Sequence[Network], card: ModelCard) -> None:
    """Raise unless the golden crystals are there and get their predictions again."""
    if len(card.golden) < 2:
        raise ModelError(
            f"{where}: `golden` must hold 2 to 5 crystals, got {len(card.golden)}. "
            "Add them with potnet.models.archive.with_golden."
        )
    try:
        found = _predict(members, card, [golden.crystal() for golden in card.golden])
    except PotNetError as error:
        raise ModelError(f"{where}: the golden crystals must be predictable. {error}") from error
    expected = np.array([golden.prediction for golden in card.golden])
    deviation = np.abs(found - expected) / [target.std for target in card.targets]
    worst = float(np.max(np.nan_to_num(deviation, nan=math.inf)))
    if worst > GOLDEN_TOLERANCE:
        raise ModelError(
            f"{where}: golden predictions must be reproduced within {GOLDEN_TOLERANCE} standard "
            f"deviations, got {worst:.3g}. This potnet computes something else than "
            f"{card.potnet_version}, which wrote the model; use that version, or train again."
        )


def _predict(
    members: Sequence[Network], card: ModelCard, crystals: Sequence[Crystal]
) -> np.ndarray:
    """Return transformed predictions, shape (n_crystals, n_targets), float64."""
    device = next(members[0].parameters()).device
    batch = members[0].features(crystals).to(device)
    with torch.inference_mode():
        outputs = torch.stack([member.eval()(batch).double() for member in members])
    std = np.array([target.std for target in card.targets])
    z = combined(outputs.cpu().numpy(), card.combine)
    return z * std + [target.mean for target in card.targets]
