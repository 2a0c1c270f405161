"""What is to be known of a dataset before anything is trained on it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from potnet.checks.near_duplicates import duplicate_groups, fingerprint
from potnet.checks.targets import TargetSummary
from potnet.crystal import Crystal
from potnet.data.record import Record, word
from potnet.errors import Failure, PotNetError, StructureError, as_refusal
from potnet.io import Names, Piece
from potnet.parallel import in_order
from potnet.text import printable

#: Descriptions (see near_duplicates.py) that differ by less than these lengths in Å belong to the
#: same crystal, or to one that has hardly been relaxed further.
SAME, NEAR = 0.002, 0.02
# Values of the same crystal that differ by more than this share of the spread contradict.
_CONTRADICTION = 0.25
_RARE = 5  # crystals; an element with fewer is hardly learned
_UNEVEN = 0.1  # share of the crystals below which a class is rare
_SHOWN = 5  # ids, or classes, in a sentence
_WORDS = (str, bool)
_TASK, _FEW = 64, 8  # items that go to a process at once; tasks that are done before others start

Parts = Mapping[str, NDArray[np.str_]]


@dataclass(frozen=True)
class Finding:
    """One thing to know.

    Attributes:
        kind: "refused", "repeated", "duplicates", "near-duplicates", "contradiction", "leakage",
            "missing", "impossible", "constant", "classes", "outlier", "unit" or "elements".
        severity: "problem" if training on the data as they are would mislead, else "notice".
        text: One sentence.
        ids: The crystals in question.
    """

    kind: str
    severity: Literal["problem", "notice"]
    text: str
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class DuplicateGroup:
    """The same crystal under several ids.

    Attributes:
        rows: Its rows in the dataset.
        same: Whether the crystals are equal to numerical noise, not only nearly so.
        leaks: Names of the splits in which one of them is for training and another held back.
    """

    rows: tuple[int, ...]
    same: bool
    leaks: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckResult:
    """What was read, and what was found.

    Attributes:
        name: What was read.
        ids, formulas: Of each crystal, length n.
        n_atoms: Atoms in each cell, shape (n,).
        volume_per_atom: Å^3, shape (n,).
        elements: Crystals with each element, by symbol.
        failures: What was refused and why.
        columns: The targets.
        splits: Labels "train", "val", "test" or "", shape (n,), by target ("" for all).
        duplicates: Crystals that are there several times.
        findings: What to know, problems first.
    """

    name: str
    ids: tuple[str, ...]
    formulas: tuple[str, ...]
    n_atoms: NDArray[np.int64]
    volume_per_atom: NDArray[np.float64]
    elements: Mapping[str, int]
    failures: tuple[Failure, ...]
    columns: tuple[TargetSummary, ...]
    splits: Parts
    duplicates: tuple[DuplicateGroup, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def has_problems(self) -> bool:
        return any(finding.severity == "problem" for finding in self.findings)


@dataclass
class _Rows:
    """What is kept of each crystal while the source goes by: a kilobyte, not the crystal."""

    ids: list[str] = field(default_factory=list)
    formulas: list[str] = field(default_factory=list)
    prints: list[NDArray[np.float32]] = field(default_factory=list)
    n_atoms: list[int] = field(default_factory=list)
    volumes: list[float] = field(default_factory=list)
    symbols: list[frozenset[str]] = field(default_factory=list)
    targets: list[Mapping[str, float]] = field(default_factory=list)
    words: list[Mapping[str, str]] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    units: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


def check_records(
    items: Iterable[Record | Crystal | Failure | Piece],
    *,
    name: str = "",
    split: Mapping[str, Sequence[str]] | None = None,
    units: Mapping[str, str] | None = None,
    targets: Sequence[str] = (),
    workers: int = 1,
) -> CheckResult:
    """Look a dataset over.

    Args:
        items: What :func:`potnet.data.iter_records` or :func:`potnet.io.scan` yields, or pieces of
            files that are not read yet; nothing but a description of each crystal is kept.
        name: What to call the dataset.
        split: Ids of the parts "train", "val" and "test", in place of the dataset's own labels.
        units: Units of targets that the items do not name.
        targets: Columns to look at; if there are none, those of numbers, or of words where no
            column holds numbers.
        workers: Processes that read and describe crystals; what is found does not depend on it.

    Returns:
        What was found. A crystal without a primitive cell, which models read, counts as refused.
    """
    rows = _Rows(units=dict(units or {}))
    names = Names()
    for item, abouts in _described(items, workers):
        if isinstance(item, Failure):
            rows.failures.append(item)
        for id, about in abouts:
            if isinstance(about, StructureError):
                rows.failures.append(Failure(id, "read", str(about)))
                continue
            taken = _named(names, item, id)
            if isinstance(taken, Failure):
                rows.failures.append(taken)
            elif isinstance(about, PotNetError):
                rows.failures.append(Failure(taken, "features", str(about)))
            else:
                _add(rows, item if isinstance(item, Record) else None, taken, about)
    return _concluded(rows, name, split, targets)


class _About(NamedTuple):
    """What is kept of a crystal: formula, description, size, volume of the cell, elements."""

    formula: str
    print: NDArray[np.float32]
    n_atoms: int
    volume: float
    symbols: frozenset[str]


Item = Record | Crystal | Failure | Piece
Abouts = list[tuple[str, _About | PotNetError]]


def _described(items: Iterable[Item], workers: int) -> Iterator[tuple[Item, Abouts]]:
    """Yield the items, each with what is to be known of the crystals in it, under their ids."""
    waiting: deque[Item] = deque()

    def tasks() -> Iterator[list[Piece | None]]:
        rest = iter(items)
        while chunk := list(islice(rest, _TASK)):
            waiting.extend(chunk)
            yield [_piece(item) for item in chunk]

    def divided(task: list[Piece | None]) -> list[list[Piece | None]]:
        return [[piece] for piece in task]

    done = in_order(_look, tasks(), workers, divide=divided, join=_joined, lost=_lost, few=_FEW)
    for abouts in chain.from_iterable(done):
        yield waiting.popleft(), abouts


def _named(names: Names, item: Item, id: str) -> str | Failure:
    """Return the id of a crystal, of a file or a dataset, or why it can have none."""
    if isinstance(item, Piece):
        return names.unique(id, item.path)
    reason = f"Ids must not repeat, got {id!r} again. Rename or remove one."
    return id if names.take(id) else Failure(id, "read", reason)


def _piece(item: Item) -> Piece | None:
    """Return what goes to another process: the crystal alone."""
    if isinstance(item, Failure):
        return None
    if isinstance(item, Piece):
        return item
    crystal = item if isinstance(item, Crystal) else item.crystal
    return Piece.of("", item.id, crystal)


def _look(task: list[Piece | None]) -> list[Abouts]:
    """Return what is to be known of the crystals in each piece."""
    return [
        [(name, _about(name, found)) for name, found in piece.found()] if piece else []
        for piece in task
    ]


def _about(id: str, crystal: Crystal | StructureError) -> _About | PotNetError:
    if isinstance(crystal, StructureError):
        return crystal
    try:
        crystal.primitive()
        volume = crystal.volume / crystal.n_atoms
        symbols = frozenset(crystal.symbols)
        return _About(crystal.formula, fingerprint(crystal), crystal.n_atoms, volume, symbols)
    except Exception as error:  # noqa: BLE001 - the wall: one crystal never costs the others
        reason = str(as_refusal(id, error))
        return PotNetError(reason)


def _joined(parts: Sequence[list[Abouts]]) -> list[Abouts]:
    return [abouts for part in parts for abouts in part]


def _lost(task: list[Piece | None], why: str) -> list[Abouts]:
    (piece,) = task
    name = (piece.name or piece.path) if piece else ""
    reason = f"{name}: it must be computable here, got a process that {why}. Leave it out."
    return [[(name, PotNetError(reason))]]


def _add(rows: _Rows, record: Record | None, id: str, about: _About) -> None:
    rows.ids.append(id)
    rows.formulas.append(about.formula)
    rows.prints.append(about.print)
    rows.n_atoms.append(about.n_atoms)
    rows.volumes.append(about.volume)
    rows.symbols.append(about.symbols)
    info = record.info if record else {}
    rows.targets.append(dict(record.targets) if record else {})
    words = {name: word(value) for name, value in info.items() if isinstance(value, _WORDS)}
    rows.words.append({name: text for name, text in words.items() if text})
    rows.labels.append(record.split if record else None)
    rows.units.update({k: unit for k, unit in record.units.items() if unit} if record else {})


def _concluded(
    rows: _Rows,
    name: str,
    split: Mapping[str, Sequence[str]] | None,
    targets: Sequence[str],
) -> CheckResult:
    n_atoms = np.array(rows.n_atoms, dtype=np.int64)
    names = list(dict.fromkeys(k for targets in rows.targets for k in targets))
    columns = []
    for target in names:
        values = np.array([t.get(target, np.nan) for t in rows.targets], dtype=np.float64)
        if np.isfinite(values).any():
            columns.append(TargetSummary.of(target, rows.units.get(target, ""), values, n_atoms))
    splits = _splits(rows, split)
    found = CheckResult(
        name=name,
        ids=tuple(rows.ids),
        formulas=tuple(rows.formulas),
        n_atoms=n_atoms,
        volume_per_atom=np.array(rows.volumes),
        elements=dict(Counter(s for symbols in rows.symbols for s in symbols).most_common()),
        failures=tuple(rows.failures),
        columns=tuple(columns),
        splits=splits,
        duplicates=_duplicates(rows, splits),
    )
    findings = [*_of_reading(found), *_of_duplicates(found), *_of_columns(found)]
    if targets or not columns:
        findings += _of_classes(rows.words, targets)
    if not columns and not any(finding.kind == "classes" for finding in findings):
        findings += _of_odd_columns(rows.words)
    findings += _of_elements(found, rows.symbols)
    findings.sort(key=lambda finding: finding.severity != "problem")
    return CheckResult(**{**vars(found), "findings": tuple(findings)})


def _of_odd_columns(words: Sequence[Mapping[str, str]]) -> list[Finding]:
    """Return which columns cannot be learned: those of words of which hardly one repeats."""
    first: dict[str, str] = {}
    for row in words:
        first = dict(row) | first
    text = "neither numbers nor words that repeat, and no target"
    return [
        Finding("words", "notice", f"{printable(name)}: {text}, such as {printable(value, 40)!r}")
        for name, value in first.items()
    ]


def _splits(rows: _Rows, split: Mapping[str, Sequence[str]] | None) -> Parts:
    """Return the labels of the crystals, by target or under "" for all."""
    if split is not None:
        part = {id: name for name in ("train", "val", "test") for id in split.get(name, ())}
        return {"": np.array([part.get(id, "") for id in rows.ids], dtype=str)}
    maps = [label if isinstance(label, Mapping) else {"": label or ""} for label in rows.labels]
    names = dict.fromkeys(name for labels in maps for name in labels)
    found = {k: np.array([str(labels.get(k) or "") for labels in maps], dtype=str) for k in names}
    return {k: labels for k, labels in found.items() if np.isin(labels, ["val", "test"]).any()}


def _duplicates(rows: _Rows, splits: Parts) -> tuple[DuplicateGroup, ...]:
    """Return the groups of equal crystals, then those of nearly equal ones that are larger."""
    same = duplicate_groups(rows.formulas, rows.prints, SAME)
    near = duplicate_groups(rows.formulas, rows.prints, NEAR)
    near = [group for group in near if group not in same]
    return tuple(
        DuplicateGroup(tuple(group), equal, _leaks(group, splits))
        for groups, equal in ((same, True), (near, False))
        for group in groups
    )


def _leaks(group: Sequence[int], splits: Parts) -> tuple[str, ...]:
    """Return the splits in which one of the group is for training and another held back."""
    found = []
    for name, labels in splits.items():
        parts = set(labels[list(group)].tolist())
        if "train" in parts and parts & {"val", "test"}:
            found.append(name)
    return tuple(found)


def _of_reading(found: CheckResult) -> list[Finding]:
    if not found.failures:
        return []
    n, first = len(found.failures), found.failures[0]
    ids = tuple(failure.id for failure in found.failures)
    return [Finding("refused", "problem", f"{n:,} refused; first: {first.reason}", ids)]


def _of_duplicates(found: CheckResult) -> list[Finding]:
    findings = []
    for same, kind, what in (
        (True, "duplicates", "the same crystal under several ids"),
        (False, "near-duplicates", f"crystals that differ by less than {NEAR} Å"),
    ):
        groups = [group for group in found.duplicates if group.same == same]
        if groups:
            n = sum(len(group.rows) for group in groups)
            rows = [k for group in groups for k in group.rows]
            text = f"{len(groups):,} groups of {what}, {n:,} in all: {_some(found, groups[0].rows)}"
            findings.append(Finding(kind, "notice", text, _ids(found, rows)))
    for name in found.splits:
        labels = found.splits[name]
        n_held = int(np.isin(labels, ["val", "test"]).sum())
        for same, what in (
            (True, "are also in training"),
            (False, f"differ by less than {NEAR} Å from one in training"),
        ):
            leaking = [g for g in found.duplicates if name in g.leaks and g.same == same]
            rows = [k for g in leaking for k in g.rows if labels[k] in ("val", "test")]
            if rows:
                text = (
                    f"split{f' of {name}' if name else ''}: {len(rows):,} of {n_held:,} crystals "
                    f"held back for validation or test {what}: {_some(found, rows)}"
                )
                severity = "problem" if same else "notice"
                findings.append(Finding("leakage", severity, text, _ids(found, rows)))
    for column in found.columns:
        spread = float(np.std(column.known))
        rows = []
        for group in found.duplicates:
            values = column.values[list(group.rows)]
            values = values[np.isfinite(values)]
            if group.same and len(values) > 1 and np.ptp(values) > _CONTRADICTION * spread > 0:
                rows += group.rows
        if rows:
            text = (
                f"{column.name}: {len(rows):,} equal crystals have values that differ by more than "
                f"{_CONTRADICTION * spread:.3g} {column.unit}".rstrip()
                + f": {_some(found, rows)}"
            )
            findings.append(Finding("contradiction", "problem", text, _ids(found, rows)))
    return findings


def _of_columns(found: CheckResult) -> list[Finding]:
    findings = []
    for c in found.columns:
        if c.impossible:
            text = (
                f"{c.name}: {len(c.impossible):,} values that cannot be, such as "
                f"{c.values[c.impossible[0]]:.4g} {c.unit} of {found.ids[c.impossible[0]]}; "
                f"{c.impossible_because}: another unit or kind of value, or a failed calculation?"
            )
            findings.append(Finding("impossible", "problem", text, _ids(found, c.impossible)))
        if c.n_kinds == 1 and len(c.known) > 1:
            text = (
                f"{c.name}: all {len(c.known):,} values are {c.known[0]:.4g} {c.unit}".rstrip()
                + ": nothing can be learned from them"
            )
            findings.append(Finding("constant", "problem", text))
        elif c.n_kinds == 2 and c.n_rarest < _RARE:
            text = f"{c.name}: one of two values is that of only {c.n_rarest} crystals"
            findings.append(Finding("constant", "notice", text))
        if c.grows_with_cell:
            text = f"{c.name}: grows with the number of atoms though its unit is {c.unit}"
            findings.append(Finding("unit", "problem", f"{text}: is it per cell?"))
        if not c.unit:
            findings.append(Finding("unit", "notice", f"{c.name}: its unit is not known"))
        if c.n_missing:
            text = f"{c.name}: missing for {c.n_missing:,} of {len(c.values):,} crystals"
            missing = np.flatnonzero(~np.isfinite(c.values)).tolist()
            findings.append(Finding("missing", "notice", text, _ids(found, missing)))
        if c.outliers:
            k = c.outliers[0]
            text = (
                f"{c.name}: {len(c.outliers):,} values stand far out, the farthest "
                f"{c.values[k]:.4g} {c.unit}".rstrip()
                + f" of {found.ids[k]}"
            )
            findings.append(Finding("outlier", "notice", text, _ids(found, c.outliers)))
    return findings


def _of_classes(words: Sequence[Mapping[str, str]], targets: Sequence[str]) -> list[Finding]:
    """Return what is to be known of columns of words, which are learned as classes."""
    findings = []
    for name in dict.fromkeys(chain.from_iterable(words)):
        if targets and name not in targets:
            continue
        counts = Counter(row[name] for row in words if name in row)
        n = counts.total()
        shown = ", ".join(f"{kind!r} {count:,}" for kind, count in counts.most_common(_SHOWN))
        if len(counts) == 1:
            text = f"{name}: all {n:,} crystals are {next(iter(counts))!r}: nothing can be learned"
            findings.append(Finding("constant", "problem", text))
        elif 2 * len(counts) <= n:
            rest = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
            text = f"{name}: {len(counts)} classes: {shown}{rest}"
            findings.append(Finding("classes", "notice", text))
            rare = [kind for kind, count in counts.items() if count < max(_RARE, _UNEVEN * n)]
            if rare:
                text = (
                    f"{name}: rare classes, hardly learned: {', '.join(map(repr, rare[:_SHOWN]))}"
                )
                findings.append(Finding("classes", "notice", text))
    return findings


def _of_elements(found: CheckResult, symbols: Sequence[frozenset[str]]) -> list[Finding]:
    findings = []
    rare = [symbol for symbol, count in found.elements.items() if count < _RARE]
    if rare and len(found.ids) >= 10 * _RARE:
        text = f"{len(rare)} elements are in fewer than {_RARE} crystals: {', '.join(rare)}"
        findings.append(Finding("elements", "notice", text))
    for name, labels in found.splits.items():
        known = frozenset().union(*(symbols[k] for k in np.flatnonzero(labels == "train").tolist()))
        held = np.flatnonzero(np.isin(labels, ["val", "test"])).tolist()
        new = [k for k in held if symbols[k] - known]
        if new:
            absent = sorted(frozenset().union(*(symbols[k] for k in new)) - known)
            text = (
                f"split{f' of {name}' if name else ''}: {len(new):,} crystals held back have "
                f"elements that training never sees: {', '.join(absent)}"
            )
            findings.append(Finding("elements", "notice", text, _ids(found, new)))
    return findings


def _ids(found: CheckResult, rows: Iterable[int]) -> tuple[str, ...]:
    return tuple(found.ids[k] for k in rows)


def _some(found: CheckResult, rows: Sequence[int]) -> str:
    """Return the first ids and formulas of ``rows``."""
    shown = ", ".join(f"{found.ids[k]} ({found.formulas[k]})" for k in rows[:_SHOWN])
    return shown + (" ..." if len(rows) > _SHOWN else "")
