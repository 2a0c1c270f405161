"""Sheets of many crystals, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from potnet.crystal.layers import bonding, single_layer, spacing
from potnet.errors import ConfigError, Failure, as_refusal
from potnet.known import KnownCrystal, KnownCrystals, load_known
from potnet.models import available
from potnet.prediction import Prediction, Predictor, load_each, predict_each
from potnet.sheet.compose import Findings, compose
from potnet.sheet.facts import Facts, facts_of
from potnet.sheet.properties import ADVISED, BENCHMARK_ONLY, PROPERTIES, models_of
from potnet.sheet.rows import Row, Sheet
from potnet.stability import Hull, load_hull

if TYPE_CHECKING:
    from potnet.crystal import Crystal

BATCH_SIZE = 64
LAYERS = "exfoliation-energy"
APART = 6.0  # Å: layers that are farther apart have vacuum between them


@dataclass(frozen=True)
class CrystalSheet:
    """The sheet of one crystal.

    Attributes:
        crystal: The crystal as it was read.
        facts: What was read off it.
        rows: One row for each property.
        known: The same crystal in the index of known ones, the likest first.
    """

    crystal: Crystal
    facts: Facts
    rows: tuple[Row, ...]
    known: tuple[KnownCrystal, ...]


class SheetMaker:
    """What turns crystals into sheets.

    Args:
        models: Bundled models or archives; those of the sheet if none are named.
        properties: Rows of the sheet that are wanted; all if none are named.
        hull: What crystals compete with; the bundled snapshot if it is not given.
        known: Crystals whose values are put beside the predictions; the bundled index if it is
            not given.
        device: Where to compute.

    Raises:
        ConfigError: If a property is not one of the sheet.
        ModelError: If a model does not exist or is damaged.
    """

    def __init__(
        self,
        models: Sequence[str] = (),
        properties: Sequence[str] = (),
        *,
        hull: Hull | None = None,
        known: KnownCrystals | None = None,
        device: str = "cpu",
    ) -> None:
        if unknown := [name for name in properties if name not in PROPERTIES]:
            raise ConfigError(
                f"sheet: a property must be one of {', '.join(PROPERTIES)}, got "
                f"{', '.join(unknown)}. Name another one, or a model."
            )
        self._made_of = {
            "models": tuple(models),
            "properties": tuple(properties),
            "hull": hull,
            "known": known,
            "device": device,
        }
        self.properties = tuple(properties)
        names = tuple(models) or (models_of(self.properties) if properties else ADVISED)
        self.predictors: Mapping[str, Predictor] = load_each(names, device=device)
        self._layers = self.predictors.get(LAYERS)
        self._is_advised = any(name in ADVISED for name in names)
        self.hull = hull or (load_hull() if "mp-formation-energy" in names else None)
        self.known = known or (load_known() if self._is_advised else None)

    @property
    def settings(self) -> str:
        """What the rows depend on besides the models, in words."""
        hull = f"{self.hull.snapshot} {self.hull.checksum}" if self.hull is not None else ""
        return f"{', '.join(self.predictors)}; {', '.join(self.properties)}; {hull}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Let a worker process load for itself what the maker was made of."""
        return partial(SheetMaker, **self._made_of), ()

    def stream(
        self,
        crystals: Iterable[Any],
        *,
        batch_size: int = BATCH_SIZE,
        on_error: Literal["raise", "skip"] = "skip",
    ) -> Iterator[CrystalSheet | Failure]:
        """Yield sheets and failures in the order of the input, holding one batch at a time.

        A model that refuses a crystal that others take makes a failure after its sheet.

        Arguments and errors are those of :func:`potnet.prediction.predict_stream`.
        """
        for outcome in self.each(crystals, batch_size=batch_size, on_error=on_error):
            yield from outcome

    def each(
        self,
        crystals: Iterable[Any],
        *,
        batch_size: int = BATCH_SIZE,
        on_error: Literal["raise", "skip"] = "skip",
    ) -> Iterator[list[CrystalSheet | Failure]]:
        """Yield what :meth:`stream` does, in a list of its own for each item of the input."""
        predictors = {name: p for name, p in self.predictors.items() if p is not self._layers}
        each = predict_each(
            tuple(predictors.values()), crystals, batch_size=batch_size, on_error=on_error
        )
        for item in each:
            if isinstance(item, Failure):
                yield [item]
                continue
            said: dict[str, Sequence[Prediction]] = dict(
                zip(predictors, item.predictions, strict=True)
            )
            is_said = not predictors or any(said.values()) or not item.failures
            sheets = [self._walled(item.crystal, said, on_error)] if is_said else []
            yield [*sheets, *item.failures]

    def _walled(
        self, crystal: Crystal, said: dict[str, Sequence[Prediction]], on_error: str
    ) -> CrystalSheet | Failure:
        """Return the sheet of a crystal, or why there is none: the others go on."""
        try:
            return self._sheet(crystal, said)
        except Exception as error:  # noqa: BLE001 - the wall around one crystal
            refusal = as_refusal(crystal.id, error)
            if on_error == "raise":
                raise refusal from error
            return Failure(crystal.id, "sheet", str(refusal))

    def _sheet(self, crystal: Crystal, said: dict[str, Sequence[Prediction]]) -> CrystalSheet:
        facts = facts_of(crystal)
        is_layered, parts, vacuum = False, "", 0.0
        if self._layers is not None:
            said[LAYERS] = ()
            bonded = bonding(crystal)
            is_layered, parts = bonded.is_layered, bonded.words
            if is_layered:
                between = spacing(crystal, bonded)
                vacuum = between if between > APART else 0.0
                said[LAYERS] = self._layers.predict([single_layer(crystal)])
        known: tuple[KnownCrystal, ...] = ()
        if self.known is not None and crystal.pbc.all():
            known = tuple(self.known.match(crystal))
        found = Findings(crystal.id, facts, said, is_layered, parts, vacuum, known, self.hull)
        wanted = self.properties
        rows = tuple(row for row in compose(found) if not wanted or row.property in wanted)
        return CrystalSheet(crystal, facts, rows, known)


def make_sheet(
    crystals: Iterable[Any],
    *,
    models: Sequence[str] = (),
    properties: Sequence[str] = (),
    hull: Hull | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> Sheet:
    """Return what a scientist asks of crystals: one row for each property, with its interval.

    Args:
        crystals: Structures of any kind.
        models: Bundled models or archives; those of the sheet if none are named.
        properties: Rows that are wanted; all if none are named.
        hull: What crystals compete with; see :func:`potnet.stability.load_hull`.
        on_error: "raise" stops at the first crystal that cannot be used; "skip" goes on and lists
            it in the ``failures`` of the sheet.

    Raises:
        ConfigError: If a property is not one of the sheet.
        ModelError: If a model does not exist or is damaged.
        StructureError: If a crystal cannot be used and ``on_error`` is "raise".
    """
    rows: list[Row] = []
    failures: list[Failure] = []
    for item in SheetMaker(models, properties, hull=hull).stream(crystals, on_error=on_error):
        if isinstance(item, Failure):
            failures.append(item)
        else:
            rows += item.rows
    return Sheet(rows, failures)


def all_models() -> tuple[str, ...]:
    """Return the models of the sheet, then the other bundled ones that say something of a crystal.

    Those that reproduce a benchmark alone are not among them; they have to be named.
    """
    others = [name for name in available() if name not in (*ADVISED, *BENCHMARK_ONLY)]
    return (*ADVISED, *others)
