"""What a training run is told: one model of settings, from a YAML or JSON file or keywords."""

from __future__ import annotations

import inspect
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from potnet.data.splits.config import SplitConfig
from potnet.errors import ConfigError
from potnet.targets import Asked, present_word

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]

FEW_CRYSTALS = 20_000

# What may differ between a run and its continuation: where it runs, not what it computes.
RESUMABLE = frozenset({"device", "devices", "n_nodes", "threads", "workers", "checkpoint_seconds"})
RESUMABLE |= {"feature_memory", "feature_folder"}


class TrainingConfig(BaseModel):
    """Settings of a training run; an unknown key is an error.

    Attributes:
        network: Name of a network in ``potnet.models.registry``.
        network_settings: Its settings; missing ones take the network's defaults.
        finetune: A bundled model or an archive whose networks training goes on from: its
            settings are the network's, and its weights are taken over. Its outputs, units and
            scales are, too, where it predicts the very targets to learn, or one in another way;
            then training takes small steps, and other weights than those it began with are kept
            only where they are better on crystals held out by more than chance. Null for random
            weights.
        freeze: Weights that stay as they are, by the beginnings of their names, such as
            ``layers.0`` or ``embed``.
        targets: Target columns of the dataset to learn; empty means all that hold numbers. The key
            ``target`` with one name is accepted as well. ``NAME > NUMBER`` is the binary target
            that says whether ``NAME`` is above a threshold. Of a column of words, the probability
            of each word is learned.
        transform: Applied to targets before standardisation: one word for all, or one per target.
            ``none``; ``log10``; ``nonnegative`` where many values are zero and none below, such as
            gaps; ``binary`` for columns of 0 and 1, whose probability of 1 is predicted then;
            ``classes`` takes each value for a class; ``auto`` is ``binary`` for columns of 0 and 1
            and ``none`` for others.
        split: See :class:`SplitConfig`; a bare word sets its ``kind``.
        seed: Makes every generator of the run; member ``k`` of an ensemble derives its own from it.
        members: Networks to train with different seeds; they predict together. Null takes as many
            as ``finetune`` has. Without it, where ``epochs`` is not set either, at most
            ``FEW_CRYSTALS`` crystals are learned by three, which err less than one; else it is one.
        combine: How the members' predictions become one; the mean errs a little less than the
            median (``benchmarks/results/combine.json``).
        epochs: Passes over the training crystals.
        cycles: Epochs after which the learning rate began to rise anew, where a run was resumed
            with more epochs than it had; resuming sets it.
        batch_size: Crystals per step, over all processes together.
        optimizer: ``muon`` moves matrices along orthogonalised momentum and all else by AdamW;
            ``adamw`` takes AdamW for everything.
        learning_rate: Peak of the one-cycle schedule.
        warmup: Share of the steps in which the learning rate rises.
        weight_decay: Decoupled decay; biases, norms and embeddings are left out.
        gradient_clip: Largest norm of the gradient, or null.
        ema_decay: Decay per step of the weight average that is validated and kept.
        loss: On standardised targets.
        patience: Epochs without a better validation score before the run ends, or null.
        interval_level: Share of crystals that the prediction interval should cover.
        device: Where to train; "auto" takes a GPU if there is one.
        devices: Processes per machine (one per GPU, or CPU processes).
        n_nodes: Machines, as torchrun starts them.
        precision: "32-true", or "bf16-mixed" for matrix products in bfloat16.
        threads: CPU threads of torch; null takes its own choice, but at most 8.
        workers: Processes that prepare features before training, and threads that do so during it.
        thin_above: Pairs of atoms above which a crystal is left out of some epochs: one with n
            pairs is taken in the share sqrt(thin_above / n) of them, evenly spread, since many
            pairs cost much and teach little more. Null takes all crystals in every epoch.
        max_pairs: Most pairs of atoms that go through the network at once. A step with more is
            taken in parts whose gradients add up, and is the same step but for rounding, noise
            and statistics of normalisation. It bounds the memory that a step needs.
        feature_memory: GiB of features that each process holds in memory; null is an eighth of
            the machine's memory, shared by its processes. Larger ones are read from
            ``feature_folder``, or without one computed in each epoch again, to the same numbers.
        feature_folder: Folder in which features are kept once they are computed, for every run
            that names it: other folds, seeds and targets, and other datasets with the same
            crystals. Runs with ``--folds`` and learning curves have one of their own until they
            are finished.
        checkpoint_seconds: Least time between two checkpoints; 0 writes one after every epoch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: str = "completenet"
    network_settings: dict[str, Any] = Field(default_factory=dict)
    finetune: str | None = None
    freeze: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    transform: Asked | dict[str, Asked] = "auto"
    split: SplitConfig = SplitConfig()
    seed: Annotated[int, Field(ge=0)] = 0
    members: Annotated[int, Field(ge=1, le=100)] | None = None
    combine: Literal["median", "mean"] = "mean"
    epochs: Annotated[int, Field(ge=1)] = 50
    cycles: tuple[Annotated[int, Field(ge=1)], ...] = ()
    batch_size: Annotated[int, Field(ge=1)] = 64
    optimizer: Literal["muon", "adamw"] = "muon"
    learning_rate: Positive = 3e-3
    warmup: Fraction = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    gradient_clip: Positive | None = 1.0
    ema_decay: Fraction = 0.999
    loss: Literal["l1", "mse", "huber"] = "l1"
    patience: Annotated[int, Field(ge=1)] | None = None
    interval_level: Annotated[float, Field(gt=0, lt=1)] = 0.9
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: Annotated[int, Field(ge=1)] = 1
    n_nodes: Annotated[int, Field(ge=1)] = 1
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    threads: Annotated[int, Field(ge=1)] | None = None
    workers: Annotated[int, Field(ge=1)] = 1
    thin_above: Annotated[int, Field(ge=1)] | None = None
    max_pairs: Annotated[int, Field(ge=1)] = 2**18
    feature_memory: Annotated[float, Field(ge=0)] | None = None
    feature_folder: Path | None = None
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 30.0

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ConfigError(_explain(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _one_target(cls, settings: Any) -> Any:
        if isinstance(settings, dict) and "target" in settings:
            settings = dict(settings)
            target = settings.pop("target")
            if settings.setdefault("targets", (target,)) != (target,):
                raise ValueError("give either `target` or `targets`, not both")
        return settings

    @field_validator("targets", mode="before")
    @classmethod
    def _as_list(cls, targets: Any) -> Any:
        return (targets,) if isinstance(targets, str) else targets

    @model_validator(mode="after")
    def _cycles_come_first(self) -> TrainingConfig:
        ends = (*self.cycles, self.epochs)
        if any(a >= b for a, b in zip(ends, ends[1:], strict=False)):
            raise ValueError(f"`cycles` must rise and end before `epochs`, got {ends}")
        return self

    @field_validator("transform", mode="before")
    @classmethod
    def _present_words(cls, transform: Any) -> Any:
        if isinstance(transform, dict):
            return {name: present_word(word) for name, word in transform.items()}
        return present_word(transform)

    @field_validator("split", mode="before")
    @classmethod
    def _bare_kind(cls, split: Any) -> Any:
        return {"kind": split} if isinstance(split, str) else split

    @classmethod
    def read(cls, path: str | os.PathLike[str], **overrides: Any) -> TrainingConfig:
        """Return the settings in a YAML or JSON file, with some of them replaced.

        Args:
            path: The file; JSON is read as YAML, of which it is a subset.
            **overrides: Settings that win over the file.

        Raises:
            ConfigError: If the file cannot be read or a setting is unknown or out of range.
        """
        import yaml

        try:
            text = Path(path).read_text(encoding="utf-8-sig")
            settings = yaml.safe_load(text) or {}
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read, {error.strerror}. Check the path."
            ) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"{path}: must be YAML or JSON, {reason}. Correct the file."
            ) from None
        if not isinstance(settings, dict):
            raise ConfigError(
                f"{path}: must hold a mapping of settings, got {type(settings).__name__}. "
                "Write one `name: value` a line."
            )
        return cls(**{**settings, **overrides})

    def differences(self, other: TrainingConfig) -> list[str]:
        """Return the settings that decide the result and differ, as ``name: mine, theirs``."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [
            f"{key}: {json.dumps(mine.get(key))}, {json.dumps(theirs.get(key))}"
            for key in {**mine, **theirs}
            if key not in RESUMABLE and mine.get(key) != theirs.get(key)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON holds them; cycles only where a run was prolonged."""
        return json.loads(self.model_dump_json(exclude=None if self.cycles else {"cycles"}))


def described() -> list[tuple[str, str, str]]:
    """Return the name, the default as JSON and the meaning of each setting, as documented above."""
    text = inspect.cleandoc(TrainingConfig.__doc__ or "").partition("Attributes:")[2]
    meanings = {
        match["name"]: " ".join(match["meaning"].split())
        for match in re.finditer(
            r"^    (?P<name>\w+): (?P<meaning>.*(?:\n        .*)*)", text, re.MULTILINE
        )
    }
    defaults = TrainingConfig().to_dict()
    return [(name, json.dumps(defaults[name]), meanings[name]) for name in defaults]


def _explain(error: ValidationError) -> str:
    """Return the first fault in one sentence."""
    fault = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in fault["loc"]) or "settings"
    if fault["type"] == "extra_forbidden":
        known = ", ".join(sorted(TrainingConfig.model_fields))
        return f"training config: `{name}` is not a setting. Known ones: {known}."
    reason = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    got = "" if isinstance(fault["input"], dict) else f", got {fault['input']!r}"
    return f"training config: `{name}`: {reason}{got}. Correct it in the file or the call."
