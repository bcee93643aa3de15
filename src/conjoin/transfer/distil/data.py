"""The rows of a lesson: the table, its truth, rows without truth, rows held out for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import InputError, TruthError, listed, nearest
from conjoin.outputs import Labels, Output, Values
from conjoin.tables import batch_of
from conjoin.tables.conform import missing_columns
from conjoin.train import folds
from conjoin.train.plan import fingerprint, versions
from conjoin.train.truth import truth_of
from conjoin.transfer.distil.asking import Asked, numbers_of
from conjoin.transfer.distil.targets import truth_numbers

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Card, Column
    from conjoin.outputs import Array, Json

LEAST = 12
"""A table needs so many rows to learn from."""
LEAST_HELD = 5
"""So many rows are held out at least, or none."""
FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Rows that no student sees: their columns and their truth."""

    batch: Batch
    truth: Output


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """What there is to learn from.

    batch: the columns of the table's rows that are not held out. truth: (n, K) rows of 0 and 1 or (n, 1)
    numbers, NaN where unknown. unlabelled: the same columns of further rows. columns: those that the teacher
    declares, empty where it declares none. soft: (n, width) answers of the teacher that were given.
    """

    card: Card
    batch: Batch
    truth: Array
    unlabelled: Batch
    held: Held | None
    columns: tuple[Column, ...]
    soft: Array | None
    target: str
    target_type: str
    fingerprint: str
    notes: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Rows of the table that are not held out."""
        return len(self.truth)

    def asked(self) -> Asked | None:
        """The answers that were given; None where the teacher has to be asked."""
        if self.soft is None:
            return None
        at = np.flatnonzero(np.isfinite(self.soft).all(axis=1))
        return Asked(at, self.soft[at], len(self.soft), 0.0)

    def labels_of(self, numbers: Array) -> Output:
        """(n, K) or (n, 1) or (n,) numbers as labels or values; NaN is not answered."""
        if self.card.classes:
            known = np.isfinite(numbers).all(axis=1)
            codes = np.where(known, np.nan_to_num(numbers).argmax(axis=1), -1)
            return Labels(codes, self.card.classes)
        flat = numbers.reshape(len(numbers), -1)
        flat = flat[:, flat.shape[1] // 2]
        known = np.isfinite(flat)
        return Values(np.where(known, flat, 0.0), known)

    def provenance(self) -> Mapping[str, Json]:
        """What a bundle says of the data, as `fit` does."""
        return {
            "fingerprint": self.fingerprint,
            "rows": self.rows,
            "columns": list(self.batch),
            "target": self.target or None,
            "target_type": self.target_type,
            "versions": cast(Any, versions()),
        }


def data_of(
    card: Card,
    table: Any,
    *,
    target: str | None,
    truth: Any,
    unlabelled: Any,
    holdout: Any,
    soft: Output | None,
    seed: int,
) -> Data:
    """The data of a lesson, checked. Raises InputError and its kinds; `distil` documents the arguments."""
    batch = batch_of(table)
    n = len(next(iter(batch.values()), ()))
    if n < LEAST:
        raise InputError(f"distilling needs at least {LEAST} rows to learn from; the table has {n}")
    known = fingerprint(batch)
    name = _target_name(card, batch, target, given=truth is not None)
    numbers, kind = _truth(card, batch, name, truth, n)
    columns = {k: v for k, v in _columns(card, batch, "the table").items() if k != name or truth is not None}
    if not columns:
        raise InputError("the table has no column but the target: there is nothing to learn from")
    more = {k: v[:0] for k, v in columns.items()}
    if unlabelled is not None:
        more = _like(columns, batch_of(unlabelled), "the unlabelled rows")
    taught = None if soft is None else _soft(card, soft, n)
    out, held, note = _held(card, columns, numbers, holdout, name, seed)
    rows = np.flatnonzero(~out)
    if len(rows) < LEAST:
        raise InputError(f"{len(rows)} rows are left to learn from, {LEAST} are needed; hold out fewer")
    notes = _notes(card, known, held, holdout) + note
    return Data(
        *(card, {k: v[rows] for k, v in columns.items()}, numbers[rows], more, held),
        tuple(c for c in card.columns if c.name in columns),
        *(None if taught is None else taught[rows], name, kind, known, notes),
    )


def _target_name(card: Card, batch: Batch, target: str | None, *, given: bool) -> str:
    """The column with the truth, "" where there is none."""
    if target is not None:
        if target not in batch:
            raise TruthError(
                f"no column {target!r} for the target{nearest(target, batch)}; "
                f"the columns are {listed(batch)}"
            )
        return target
    data = card.provenance.get("data")
    trained = data.get("target") if isinstance(data, Mapping) else None
    return str(trained) if not given and trained in batch else ""


def _truth(card: Card, batch: Batch, name: str, given: Any, n: int) -> tuple[Array, str]:
    """(n, K) or (n, 1) numbers of the truth, and what the column held."""
    width = len(card.classes) or 1
    if given is None and not name:
        return np.full((n, width), np.nan), ""
    if isinstance(given, Output):
        if len(given) != n:
            raise InputError(f"truth: {len(given)} rows, the table has {n}")
        return truth_numbers(given, card), ""
    column = np.asarray(batch[name] if given is None else given)
    if column.shape != (n,):
        raise InputError(f"truth: one for each of {n} rows is needed, not shape {column.shape}")
    task = "classification" if card.classes else "regression"
    found = truth_of(column, target=name or "truth", task=task)
    if card.classes:
        codes = np.full(n, -1)
        codes[found.rows] = found.y
        return truth_numbers(Labels(codes, found.classes), card), found.original
    values = np.full((n, 1), np.nan)
    values[found.rows, 0] = found.y
    return values, found.original


def _columns(card: Card, batch: Batch, what: str) -> dict[str, Array]:
    """The columns that the teacher reads; all of them where it does not say which."""
    if not card.columns:
        return {k: np.asarray(v) for k, v in batch.items()}
    wanted = [c.name for c in card.columns]
    if any(c not in batch for c in wanted):
        raise missing_columns(wanted, batch)
    return {c: np.asarray(batch[c]) for c in wanted}


def _like(columns: Batch, more: Batch, what: str) -> dict[str, Array]:
    """The same columns of another table. Raises ColumnError, InputError where types differ."""
    if any(c not in more for c in columns):
        raise missing_columns(list(columns), more)
    out = {}
    for name, column in columns.items():
        other = np.asarray(more[name])
        if (column.dtype.kind in "OU") != (other.dtype.kind in "OU") or column.shape[1:] != other.shape[1:]:
            raise InputError(f"column {name!r} holds {column.dtype} in the table and {other.dtype} in {what}")
        out[name] = other
    return out


def _soft(card: Card, soft: Output, n: int) -> Array:
    if len(soft) != n or soft.kind != card.kind:
        raise InputError(
            f"soft: {len(soft)} answers of {soft.kind}; the table has {n} rows "
            f"and the teacher answers {card.kind}"
        )
    numbers, answered = numbers_of(soft, card)
    return np.where(answered[:, None], numbers, np.nan)


def _held(
    card: Card, columns: Batch, truth: Array, holdout: Any, name: str, seed: int
) -> tuple[Array, Held | None, tuple[str, ...]]:
    """(n,) which rows of the table are held out, the held-out rows, and notes."""
    none = np.zeros(len(truth), dtype=bool)
    if not isinstance(holdout, int | float):
        table = batch_of(holdout)
        if not name or name not in table:
            raise TruthError(f"the holdout table needs the target column {name!r}; it has {listed(table)}")
        rows = len(table[name])
        if not rows:
            raise InputError("the holdout table has no rows")
        numbers, _ = _truth(card, table, name, None, rows)
        held = Held(_like(columns, table, "the holdout table"), _output(card, numbers))
        return none, held, ()
    if not 0 <= holdout < 1:
        raise InputError(f"holdout is a share of the rows, from 0 to below 1, or a table; not {holdout!r}")
    known = np.flatnonzero(np.isfinite(truth).all(axis=1))
    if holdout == 0:
        return none, None, ()
    if len(known) * holdout < LEAST_HELD:
        why = f"only {len(known)} rows have a truth: none is held out, and nothing is scored"
        return none, None, (why,)
    label = _output(card, truth[known])
    part = fold_of(label, max(2, round(1 / holdout)), seed=seed)
    out = none.copy()
    out[known[part == 0]] = True
    held = Held({k: v[out] for k, v in columns.items()}, _output(card, truth[out]))
    return out, held, ()


def _output(card: Card, truth: Array) -> Output:
    """Numbers of a truth as labels or values."""
    known = np.isfinite(truth).all(axis=1)
    if card.classes:
        return Labels(np.where(known, np.nan_to_num(truth).argmax(axis=1), -1), card.classes)
    return Values(np.where(known, truth[:, 0], 0.0), np.asarray(known))


def _notes(card: Card, known: str, held: Held | None, holdout: Any) -> tuple[str, ...]:
    """What has to be known of the teacher's score."""
    if held is None or not isinstance(holdout, int | float):
        return ()
    data = card.provenance.get("data")
    same = isinstance(data, Mapping) and data.get("fingerprint") == known
    verb = "learned" if same else "may have learned"
    return (
        f"the teacher {verb} from the rows that were held out of this table, so its score on them is too "
        "good and the share too small; give rows that it never saw as the holdout",
    )


def fold_of(label: Output, k: int, *, seed: int) -> Array:
    """(n,) fold of each row; every class, or every region of values, in each."""
    if isinstance(label, Labels):
        return folds.stratified(label.codes, k, seed=seed)
    return folds.spread(cast("Values", label).values, k, seed=seed)
