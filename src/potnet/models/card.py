"""The card of a model: what it predicts, what it learned from, how good it is, how to check it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

from potnet.crystal import Crystal
from potnet.targets import Scale, Transform, present_word

FORMAT = 2  # 1 had no calibration
MAX_GOLDEN_ATOMS = 500  # of a crystal that is predicted whenever a model is loaded


class Card(BaseModel):
    """Part of a card: frozen, without unknown keys or numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TargetCard(Card):
    """One predicted property.

    Attributes:
        name: Column name of the property.
        unit: Unit of a prediction, "" for none.
        transform: What training applied to the values before standardising them.
        mean: Mean of the transformed training values.
        std: Standard deviation of the transformed training values.
        interval_level: Share of crystals that the prediction interval should cover.
        interval_halfwidth: Half the width of that interval, on transformed values, where the
            calibration of the archive has none that adapts to the crystal.
        lowest: Value below which there is none, where no end of an interval may be.
    """

    name: str = Field(min_length=1)
    unit: str
    transform: Transform = "none"
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)
    interval_level: float | None = Field(default=None, gt=0, lt=1)
    interval_halfwidth: float | None = Field(default=None, ge=0)
    lowest: float | None = None

    @field_validator("transform", mode="before")
    @classmethod
    def _present_word(cls, transform: Any) -> Any:
        return present_word(transform)

    @property
    def scale(self) -> Scale:
        """How outputs become predictions."""
        return Scale(self.name, self.unit, self.transform, self.mean, self.std)


class DataCard(Card):
    """What a model was trained on.

    Attributes:
        name: Name of the dataset.
        source: Where it comes from: citation, address, version.
        licence: Licence of the data.
        n_train: Crystals that set the weights.
        n_val: Crystals that chose among them and calibrated the intervals.
        n_test: Crystals held out for the metrics.
        train_ids_sha256: SHA-256 of the sorted training ids, joined by newlines.
        elements: Symbols of the elements in the training crystals.
        max_atoms: Most atoms in the primitive cell of a training crystal.
        volume_per_atom: Smallest and largest among the training crystals, Å^3.
        anchors: Elements of which nearly every training crystal holds one, such as O and N in a
            set of oxides and nitrides; empty where there are none.
    """

    name: str
    source: str = ""
    licence: str = ""
    n_train: int = Field(ge=1)
    n_val: int = Field(default=0, ge=0)
    n_test: int = Field(default=0, ge=0)
    train_ids_sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    elements: tuple[str, ...]
    max_atoms: int = Field(ge=1)
    volume_per_atom: tuple[float, float]
    anchors: tuple[str, ...] = ()


class OriginCard(Card):
    """The model that was fine-tuned.

    Attributes:
        name: Name of the bundled model, or of the archive's folder or file.
        weights_sha256: SHA-256 of its weights.
        data: What it was trained on.
    """

    name: str
    weights_sha256: str
    data: DataCard


class GoldenCrystal(Card):
    """A crystal with the prediction that a loaded model must reproduce.

    Attributes:
        numbers: Atomic numbers.
        positions: Cartesian coordinates in Å.
        cell: Lattice vectors as rows in Å.
        prediction: One transformed value per target (log10 of the value if the target says so).
    """

    numbers: tuple[int, ...] = Field(min_length=1, max_length=MAX_GOLDEN_ATOMS)
    positions: tuple[tuple[float, float, float], ...] = Field(max_length=MAX_GOLDEN_ATOMS)
    cell: tuple[tuple[float, float, float], ...]
    prediction: tuple[float, ...]

    def crystal(self) -> Crystal:
        """Return the crystal."""
        numbers, positions = np.array(self.numbers), np.array(self.positions)
        return Crystal(numbers, positions, np.array(self.cell), id="golden crystal")


class ModelCard(Card):
    """What a model predicts, what it was trained on, how good it is and how to check it.

    Attributes:
        format: Format of the archive.
        potnet_version: Version of potnet that wrote it.
        network: Name of the network in the registry.
        settings: All settings of the network and of its features.
        combine: How the outputs of the members become one.
        targets: Predicted properties, in the order of the outputs.
        data: What the model was trained on.
        classes: The classes of each column that was learned as such; the probability of each is a
            target.
        finetuned_from: The model that it began as, if its first weights were not random.
        metrics: Measured quality, as the evaluation gives it.
        limits: What the model is not for.
        golden: Two to five small crystals that are checked on loading; see
            :func:`potnet.models.archive.with_golden`.
        bundled: Models that potnet bundles as this one archive, with the targets of each.
        weights_sha256: SHA-256 of ``model.safetensors``; :func:`potnet.models.archive.save`
            sets it.
        calibration_sha256: That of ``calibration.safetensors``, "" if there is none.
    """

    format: Literal[1, 2] = FORMAT
    potnet_version: str = Field(default_factory=lambda: version("potnet"))
    network: str
    settings: dict[str, Any]
    combine: Literal["median", "mean"] = "median"
    targets: tuple[TargetCard, ...] = Field(min_length=1)
    data: DataCard
    classes: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    finetuned_from: OriginCard | None = Field(
        default=None,
        validation_alias=AliasChoices("finetuned_from", "start"),  # as it was called before
    )
    metrics: dict[str, Any] = Field(default_factory=dict)
    limits: str = ""
    golden: tuple[GoldenCrystal, ...] = Field(default=(), max_length=5)
    bundled: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    weights_sha256: str = ""
    calibration_sha256: str = ""

    @model_validator(mode="after")
    def _golden_fit_targets(self) -> ModelCard:
        for golden in self.golden:
            if len(golden.prediction) != len(self.targets):
                raise ValueError("a golden crystal must have one prediction per target")
        return self

    @model_validator(mode="after")
    def _bundled_name_targets(self) -> ModelCard:
        known = {target.name for target in self.targets}
        for name, targets in self.bundled.items():
            if not targets or not known.issuperset(targets):
                raise ValueError(f"bundled model {name!r} must name targets of the card")
        return self
