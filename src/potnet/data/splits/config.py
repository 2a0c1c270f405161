"""How a dataset is divided: the settings of a split."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

By = Literal["crystal", "composition", "chemical-system", "prototype", "cluster"]


class SplitConfig(BaseModel):
    """How the crystals are divided into training, validation and test.

    Attributes:
        kind: "given" takes the official labels or folds of the dataset, "random" shuffles,
            "published" repeats the shuffle of the published method (Python's ``random``), "k-fold"
            takes one fold as test, "nested" one fold as test and one of the rest as validation,
            "element" tests on the crystals with certain elements, "time" on the newest ones, and
            "file" takes the parts that a file lists. "auto" is "given" where the dataset has
            labels or folds and "random" elsewhere. A word of ``by`` is "random" by that.
        of: For "given": the target whose split counts, where the targets have splits of their own.
            The others are learned beside it, also from crystals that its split does not name.
        by: What "random", "k-fold", "nested" and "element" keep in one part: single crystals, or
            all crystals of one reduced formula, one set of elements, one prototype (anonymous
            formula, space group and orbits), or one cluster of like crystals.
        seed: Seed of the shuffle.
        train, val, test: Shares (whole numbers count crystals); where the test crystals are chosen
            otherwise, ``val`` is the share of the rest that validates.
        n_folds: Number of folds.
        fold: Which fold is the test set, from 0.
        inner_folds, inner_fold: The same for the validation set of "nested".
        elements: Symbols; for "element".
        column: Column of years or dates; for "time". Without one, the numbers in the ids count.
        n_clusters: For ``by: cluster``.
        path: A file that ``potnet datasets split`` or a run wrote; for "file".
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal[
        "auto", "given", "random", "published", "k-fold", "nested", "element", "time", "file"
    ] = "auto"
    of: str = ""
    by: By = "crystal"
    seed: Annotated[int, Field(ge=0)] = 123
    train: Annotated[float, Field(gt=0)] = 0.8
    val: Annotated[float, Field(gt=0)] = 0.1
    test: Annotated[float, Field(ge=0)] = 0.1
    n_folds: Annotated[int, Field(ge=2)] = 5
    fold: Annotated[int, Field(ge=0)] = 0
    inner_folds: Annotated[int, Field(ge=2)] = 5
    inner_fold: Annotated[int, Field(ge=0)] = 0
    elements: tuple[str, ...] = ()
    column: str = ""
    n_clusters: Annotated[int, Field(ge=2)] = 50
    path: str = ""

    @model_validator(mode="before")
    @classmethod
    def _group_as_kind(cls, settings: Any) -> Any:
        if isinstance(settings, dict) and settings.get("kind") in get_args(By):
            if settings.get("by", settings["kind"]) != settings["kind"]:
                raise ValueError(f"`kind` {settings['kind']} goes with no other `by`")
            return {**settings, "kind": "random", "by": settings["kind"]}
        return settings

    @field_validator("elements", mode="before")
    @classmethod
    def _as_list(cls, elements: Any) -> Any:
        return tuple(elements.replace(",", " ").split()) if isinstance(elements, str) else elements

    @model_validator(mode="after")
    def _fits_together(self) -> SplitConfig:
        for name, folds in (("fold", "n_folds"), ("inner_fold", "inner_folds")):
            if getattr(self, name) >= getattr(self, folds):
                raise ValueError(
                    f"`{name}` must be below `{folds}` = {getattr(self, folds)}, "
                    f"got {getattr(self, name)}"
                )
        if self.of and self.kind not in ("given", "auto"):
            raise ValueError(f"`of` goes with given, got {self.of!r} and {self.kind}")
        for kind, name in (("element", "elements"), ("file", "path")):
            if (self.kind == kind) != bool(getattr(self, name)):
                raise ValueError(
                    f"`{name}` must be given if, and only if, `kind` is {kind}, "
                    f"got {getattr(self, name)!r} and {self.kind}"
                )
        if self.by != "crystal" and self.kind not in ("random", "k-fold", "nested", "element"):
            raise ValueError(
                f"`by` goes with random, k-fold, nested and element, got {self.by} and {self.kind}"
            )
        counts = {share >= 1 for share in self.shares if share > 0}
        if len(counts) > 1 and (self.kind == "time" or self.by != "crystal"):
            raise ValueError(f"shares must be all below 1 or all numbers, got {self.shares}")
        return self

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of train, val and test."""
        return self.train, self.val, self.test
