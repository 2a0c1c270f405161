"""Sheets of many crystals, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from potnet.crystal.layers import bonding, single_layer, spacing
from potnet.errors import ConfigError, Failure, PotNetError, StructureError, as_refusal
from potnet.known import KnownCrystal, KnownCrystals, load_known
from potnet.models import available
from potnet.prediction import Prediction, Predictor, Said, load_each, predict_each
from potnet.sheet.compose import Findings, compose
from potnet.sheet.facts import Facts, facts_of
from potnet.sheet.properties import ADVISED, BENCHMARK_ONLY, PROPERTIES, models_of
from potnet.sheet.rows import Row, Sheet
from potnet.stability import Hull, load_hull

if TYPE_CHECKING:
    from potnet.crystal import Crystal

Result = TypeVar("Result")

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


@dataclass(frozen=True)
class _Parts:
    """What a crystal consists of.

    Attributes:
        words: Molecules, chains, layers, a network.
        vacuum: Between its layers, in Å; 0 if there is none.
        layer: One of them, if there are such.
        said: What the model of layers says of that.
    """

    words: str = ""
    vacuum: float = 0.0
    layer: Crystal | None = None
    said: Sequence[Prediction] = ()


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
        while items := list(islice(each, max(batch_size, 1))):
            crystals = [item.crystal for item in items if isinstance(item, Said)]
            parts = iter(self._parts_of(crystals))
            for item in items:
                if isinstance(item, Failure):
                    yield [item]
                    continue
                own = next(parts)
                said: dict[str, Sequence[Prediction]] = dict(
                    zip(predictors, item.predictions, strict=True)
                )
                is_said = not predictors or any(said.values()) or not item.failures
                sheets = [self._outcome(said, own, item.crystal, on_error)] if is_said else []
                yield [*sheets, *item.failures]

    def _parts_of(self, crystals: Sequence[Crystal]) -> list[_Parts | PotNetError]:
        """Return what crystals consist of, with one prediction for all that have layers."""
        if self._layers is None:
            return [_Parts()] * len(crystals)
        found = [_walled(_consists_of, crystal) for crystal in crystals]
        layered = {
            place: parts
            for place, parts in enumerate(found)
            if isinstance(parts, _Parts) and parts.layer is not None
        }
        said = predict_each((self._layers,), [parts.layer for parts in layered.values()])
        for (place, parts), one in zip(layered.items(), said, strict=True):
            if isinstance(one, Said) and not one.failures:
                found[place] = replace(parts, said=one.predictions[0])
            else:
                reason = one.reason if isinstance(one, Failure) else one.failures[0].reason
                found[place] = StructureError(reason)
        return found

    def _outcome(
        self,
        said: dict[str, Sequence[Prediction]],
        parts: _Parts | PotNetError,
        crystal: Crystal,
        on_error: str,
    ) -> CrystalSheet | Failure:
        """Return the sheet of a crystal, or why there is none."""
        sheet = _walled(partial(self._sheet, said, parts), crystal)
        if not isinstance(sheet, PotNetError):
            return sheet
        if on_error == "raise":
            raise sheet
        return Failure(crystal.id, "sheet", str(sheet))

    def _sheet(
        self,
        said: dict[str, Sequence[Prediction]],
        parts: _Parts | PotNetError,
        crystal: Crystal,
    ) -> CrystalSheet:
        if isinstance(parts, PotNetError):
            raise parts
        facts = facts_of(crystal)
        if self._layers is not None:
            said[LAYERS] = parts.said
        known: tuple[KnownCrystal, ...] = ()
        if self.known is not None and crystal.is_periodic:
            known = tuple(self.known.match(crystal))
        is_layered = parts.layer is not None
        found = Findings(
            crystal.id, facts, said, is_layered, parts.words, parts.vacuum, known, self.hull
        )
        wanted = self.properties
        rows = tuple(row for row in compose(found) if not wanted or row.property in wanted)
        return CrystalSheet(crystal, facts, rows, known)


def _walled(function: Callable[[Crystal], Result], crystal: Crystal) -> Result | PotNetError:
    """Return what a function makes of a crystal, or why it cannot: the others go on."""
    try:
        return function(crystal)
    except Exception as error:  # noqa: BLE001 - the wall around one crystal
        return as_refusal(crystal.id, error)


def _consists_of(crystal: Crystal) -> _Parts:
    bonded = bonding(crystal)
    if not bonded.is_layered:
        return _Parts(bonded.words)
    between = spacing(crystal, bonded)
    vacuum = between if between > APART else 0.0
    return _Parts(bonded.words, vacuum, single_layer(crystal))


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
