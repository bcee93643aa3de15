"""Predictions that were made elsewhere, as members: they answer the rows they know."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from conjoin.contracts import Card, Column
from conjoin.errors import BundleError, ColumnError, InputError, listed
from conjoin.members.answers import answer_of, as_batch, check_answer, rows_of
from conjoin.members.columns import require
from conjoin.members.portable import card_from_json, card_to_json
from conjoin.members.wrapped import Given
from conjoin.outputs import Labels, Output, Probabilities, Quantiles, Values, silenced, unpack
from conjoin.tables import name_of

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json

_NUMBERS = np.zeros(0)
_BRACKETS = re.compile(r"^(?P<stem>.*)\[(?P<inside>.*)\]$")


@dataclass(frozen=True, eq=False)
class Predictions:
    """A member that looks its answers up. Made by `wrap`.

    output: m answers. key: the column of a batch by which rows are known, with keys (m,) of str; a row whose
    key is unknown is unanswered. Without a key a batch must have exactly m rows, in the same order.
    """

    card: Card
    output: Output
    key: str | None = None
    keys: Array | None = None

    def predict(self, batch: Batch, /) -> Output:
        """The answer for each row. Raises ColumnError where the key is missing or the rows do not match."""
        batch = as_batch(batch)
        if self.key is None:
            rows = rows_of(batch)
            if rows != len(self.output):
                raise ColumnError(
                    f"member {self.card.name!r} holds predictions for {len(self.output)} rows in their "
                    f"order; the batch has {rows} rows. Match rows by a key: wrap(..., key='id')"
                )
            return self.output
        require(batch, [self.key])
        places = self._places
        at = [places.get(name_of(v), -1) for v in np.asarray(batch[self.key]).tolist()]
        return _looked_up(self.output, np.array(at, dtype=np.int64))

    def named(self, name: str) -> Predictions:
        """The same member under another name."""
        return replace(self, card=self.card.named(name))

    def children(self) -> Mapping[str, Storable]:
        """No parts inside."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The packed output, the keys, and the card."""
        arrays, meta = self.output.pack()
        if self.keys is not None:
            arrays = {**arrays, **_packed(self.keys)}
        return arrays, {"card": card_to_json(self.card), "key": self.key, "output": cast("Json", meta)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError where the parts do not fit together."""
        try:
            card, key, inner = card_from_json(meta["card"]), meta["key"], cast("Any", meta["output"])
            output = unpack({k: v for k, v in arrays.items() if not k.startswith("keys.")}, inner)
            keys = None if key is None else _unpacked(arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"packed predictions do not make sense: {error!r}") from error
        if keys is not None and len(keys) != len(output):
            raise BundleError(f"packed predictions have {len(keys)} keys for {len(output)} rows")
        return cls(card, output, None if key is None else str(key), keys)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {str(k): i for i, k in enumerate(cast("Array", self.keys).tolist())}


def predictions_member(
    made: Any, given: Given, *, key: str | None = None, keys: Sequence[object] | None = None
) -> Predictions:
    """A member of predictions made elsewhere: an Output, an array, or a batch (the content of a file).

    key: the column by which rows are known. A batch holds it itself; for an Output or an array its values
    are given as `keys`. Without a key, rows are matched by their position. See `output_of` for how a batch
    is read. Raises InputError on doubled keys.
    """
    if isinstance(made, Mapping):
        if key is not None:
            require(made, [key])
            keys = made[key].tolist() if keys is None else keys
        output = output_of(made, given, key=key)
    elif isinstance(made, Output):
        output = made
    else:
        output = _of_array(np.asarray(made), given)
    if (key is None) != (keys is None):
        raise InputError("a key needs both: the name of its column (key=) and its values (keys=)")
    classes = output.classes if isinstance(output, Probabilities | Labels) else ()
    if given.levels is None and isinstance(output, Quantiles):
        given = replace(given, levels=output.levels)
    names = given.class_names(classes) if classes else ()
    if names != classes:
        output = replace(cast("Any", output), classes=names)
    columns = (Column(key, "category"),) if key else ()
    card = given.card(
        "predictions", given.kind or output.kind, columns=columns, classes=names, rowwise=bool(key)
    )
    check_answer(output, card, len(output))
    if keys is None:
        return Predictions(card, output)
    return Predictions(card, output, key, _distinct(keys, len(output), cast(str, key)))


def output_of(batch: Batch, given: Given, *, key: str | None = None) -> Output:
    """The output that the columns of a batch hold; the key column is left out.

    Columns written by `output.columns(name)` are read back: `p[no]`, `p[yes]` are probabilities of the
    classes no and yes, `q[0.1]`, `q[0.9]` quantiles. Otherwise a single column of numbers is values, a
    single column of text is labels, and several columns of numbers are probabilities of classes
    with the columns' names. A row whose numbers are all missing is unanswered.
    A text column "label" beside others is left out.

    Raises InputError where the columns fit no kind.
    """
    data = {n: a for n, a in batch.items() if n != key}
    if len(data) > 1 and given.kind != "labels" and data.get("label", _NUMBERS).dtype.kind in "OU":
        del data["label"]
    if not data:
        raise InputError("the predictions have no columns besides their key")
    inside = _inside(list(data))
    kind = given.kind or _kind_of(data, inside, given)
    if kind == "labels":
        column = _one(data, kind)
        values = [None if v is None or v != v else name_of(v) for v in column.tolist()]
        return Labels.of(values, given.classes)
    numbers = {n: _number(a, n) for n, a in data.items()}
    stacked = np.stack(list(numbers.values()), axis=1)
    answered = ~np.isnan(stacked).all(axis=1)
    if kind == "probabilities":
        classes = inside or [name_of(n) for n in data]
        if len(data) == 1 and given.classes is not None and len(given.classes) == 2:
            both = np.concatenate([1 - stacked, stacked], axis=1)
            return Probabilities(both, cast("Any", given.classes), answered)
        output = Probabilities(stacked, tuple(classes), answered)
        return output if given.classes is None else output.align([str(c) for c in given.classes])
    if kind == "quantiles":
        levels = given.levels or [float(v) for v in inside or ()]
        return Quantiles(stacked, tuple(levels), answered)
    if kind != "values":
        raise InputError(f"columns of a table cannot be read as {kind}; give an Output of that kind")
    return Values(stacked[:, 0] if stacked.shape[1] == 1 else stacked, answered)


def _kind_of(data: Mapping[str, Array], inside: list[str] | None, given: Given) -> str:
    if given.levels is not None:
        return "quantiles"
    if len(data) == 1:
        only = next(iter(data.values()))
        if only.dtype.kind not in "fiub":
            return "labels"
        return "values" if given.classes is None else "probabilities"
    if inside is not None and given.classes is None:
        levels = [_float(v) for v in inside]
        if all(v is not None and 0 < v < 1 for v in levels):
            return "quantiles"
    return "probabilities"


def _inside(names: list[str]) -> list[str] | None:
    """What stands in brackets, where all names are `stem[...]` with one stem."""
    found = [_BRACKETS.match(n) for n in names]
    if any(m is None for m in found) or len({cast("Any", m)["stem"] for m in found}) != 1:
        return None
    return [cast("Any", m)["inside"] for m in found]


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _one(data: Mapping[str, Array], kind: str) -> Array:
    if len(data) != 1:
        raise InputError(f"{kind} take one column; there are {listed(data)}")
    return next(iter(data.values()))


def _number(array: Array, name: str) -> Array:
    if array.dtype.kind not in "fiub" or array.ndim != 1:
        raise ColumnError(
            f"predictions must be numbers, column {name!r} is not; is it the key (key={name!r})?"
        )
    return array.astype(np.float64)


def _of_array(array: Array, given: Given) -> Output:
    kind = given.kind
    if kind is None:
        wide = array.ndim == 2 and array.shape[1] > 1
        kind = "quantiles" if given.levels else "probabilities" if wide or given.classes else "values"
        kind = "labels" if array.dtype.kind in "OU" else kind
    card = Card("predictions", kind, classes=given.class_names(()), levels=tuple(given.levels or ()))
    return answer_of(array, card, len(array))


def _distinct(keys: Sequence[object], rows: int, key: str) -> Array:
    names = [name_of(k) for k in keys]
    if len(names) != rows:
        raise InputError(f"{len(names)} keys were given for {rows} predictions")
    if len(set(names)) != len(names):
        seen: set[str] = set()
        doubled = [n for n in names if n in seen or seen.add(n)]  # type: ignore[func-returns-value]
        raise InputError(f"the key {key!r} must name each row once; doubled: {listed(doubled, most=5)}")
    out = np.empty(rows, dtype=object)
    out[:] = names
    return out


def _packed(keys: Array) -> dict[str, Array]:
    parts = [str(k).encode() for k in keys]
    ends = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    return {"keys.utf8": np.frombuffer(b"".join(parts), dtype=np.uint8), "keys.offsets": ends}


def _unpacked(arrays: Mapping[str, Array]) -> Array:
    data, ends = arrays["keys.utf8"].tobytes(), arrays["keys.offsets"].tolist()
    out = np.empty(len(ends) - 1, dtype=object)
    out[:] = [data[a:b].decode() for a, b in itertools.pairwise(ends)]
    return out


def _looked_up(output: Any, at: Array) -> Output:
    """The rows at these positions; -1 is unanswered."""
    known = at >= 0
    if len(output) == 0:
        raise ColumnError("the member holds no predictions at all")
    found = output.take(np.where(known, at, 0))
    return cast(Output, found if known.all() else silenced(found, ~known))
