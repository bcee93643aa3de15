"""Members behind an Open Inference Protocol (version 2) endpoint, over HTTP and JSON."""

from __future__ import annotations

import asyncio
import http.client
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import numpy as np

from conjoin.contracts import Card, Column, ColumnType
from conjoin.errors import ColumnError, InputError, MemberError, listed
from conjoin.members import columns as read
from conjoin.members.answers import answer_of, as_batch, no_rows, rows_of
from conjoin.members.wrapped import Given
from conjoin.tables import conform

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array, Output

MAX_ANSWER = 1 << 28
"""Bytes of an answer that are read at most."""

_DTYPES: dict[str, Any] = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BYTES": np.object_,
}  # fmt: skip
"""Data types of the protocol."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output as the endpoint's metadata name it; -1 in shape is a free axis."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def width(self) -> int | None:
        """How many numbers a row has; None where the metadata do not say."""
        inner = self.shape[1:]
        return None if any(d < 0 for d in inner) else int(np.prod(inner, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the model answers: scheme, host, port, the path of the model, headers, seconds to wait."""

    scheme: str
    host: str
    port: int | None
    path: str
    headers: tuple[tuple[str, str], ...]
    timeout: float

    def call(self, method: str, suffix: str, body: Any = None) -> Any:
        """The JSON that the endpoint answers. Raises MemberError, which says what came instead."""
        where = f"{self.scheme}://{self.host}{f':{self.port}' if self.port else ''}{self.path}{suffix}"
        kind = http.client.HTTPSConnection if self.scheme == "https" else http.client.HTTPConnection
        connection = kind(self.host, self.port, timeout=self.timeout)
        headers = {"Accept": "application/json", **dict(self.headers)}
        payload = None
        if body is not None:
            payload = json.dumps(body, allow_nan=False).encode()
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, self.path + suffix, body=payload, headers=headers)
            answer = connection.getresponse()
            status, raw = answer.status, answer.read(MAX_ANSWER + 1)
        except TimeoutError as error:
            raise MemberError(f"{where} did not answer within {self.timeout:g} seconds") from error
        except (OSError, http.client.HTTPException) as error:
            raise MemberError(f"{where} cannot be reached: {error or type(error).__name__}") from error
        finally:
            connection.close()
        if len(raw) > MAX_ANSWER:
            raise MemberError(f"{where} answered more than {MAX_ANSWER} bytes")
        if status != 200:
            raise MemberError(f"{where} answered status {status}: {_message(raw)}")
        try:
            return json.loads(raw)
        except ValueError as error:
            raise MemberError(f"{where} answered no JSON: {raw[:100]!r}") from error


@dataclass(frozen=True, eq=False)
class Remote:
    """A member that asks a model elsewhere. Made by `conjoin.remote`.

    inputs: what the model reads. output: the name of the output that is the answer. by_name: False where one
    matrix input takes the columns x0, x1, ... or all columns of numbers. rows: at most so many go into one
    request.
    """

    card: Card
    endpoint: Endpoint
    inputs: tuple[Tensor, ...]
    output: str
    by_name: bool
    rows: int

    def predict(self, batch: Batch, /) -> Output:
        """One answer for each row. Raises ColumnError, and MemberError where the model fails."""
        batch = as_batch(batch)
        rows = rows_of(batch)
        if rows == 0:
            return no_rows(self.card)
        feeds = self._feeds(batch)
        parts = []
        for start in range(0, rows, self.rows):
            chunk = {n: a[start : start + self.rows] for n, a in feeds.items()}
            parts.append(self._ask(chunk))
        return answer_of(np.concatenate(parts), self.card, rows)

    async def apredict(self, batch: Batch, /) -> Output:
        """The same without blocking the event loop: the request waits in a thread."""
        return await asyncio.to_thread(self.predict, batch)

    def named(self, name: str) -> Remote:
        """The same member under another name."""
        return replace(self, card=self.card.named(name))

    def _feeds(self, batch: Batch) -> dict[str, Array]:
        first = self.inputs[0]
        if not self.by_name:
            return {first.name: _as(read.by_position(batch, first.width), first)}
        columns = conform(batch, self.card.columns)
        if len(self.inputs) < len(columns):
            return {first.name: np.concatenate([_as(a, first) for a in columns.values()], axis=1)}
        pairs = zip(self.inputs, columns.values(), strict=True)
        return {t.name: _folded(_as(a, t), t) for t, a in pairs}

    def _ask(self, feeds: Mapping[str, Array]) -> Array:
        inputs = [
            {"name": t.name, "datatype": t.datatype, "shape": list(a.shape), "data": _json(a)}
            for t, a in ((t, feeds[t.name]) for t in self.inputs)
        ]
        body = {"inputs": inputs, "outputs": [{"name": self.output}]}
        answer = self.endpoint.call("POST", "/infer", body)
        who = f"member {self.card.name!r}"
        try:
            found = {o["name"]: o for o in answer["outputs"]}
            tensor = found[self.output]
            array = np.array(tensor["data"], dtype=_DTYPES[tensor["datatype"]])
            return array.reshape([int(d) for d in tensor["shape"]])
        except (KeyError, TypeError, ValueError) as error:
            raise MemberError(f"{who}: its answer does not follow the protocol: {error!r}") from error


def remote(
    url: str,
    *,
    model: str,
    version: str | None = None,
    name: str | None = None,
    kind: str | None = None,
    classes: Sequence[object] | None = None,
    levels: Sequence[float] | None = None,
    columns: Sequence[str | Column] | Mapping[str, ColumnType] | None = None,
    output: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    rows: int = 4096,
) -> Remote:
    """A member that asks a model on a server that speaks the Open Inference Protocol, version 2.

    url: where the server is, such as "http://127.0.0.1:8080". The model's metadata are fetched once. Inputs
    take the batch's columns by name; a single input of several numbers a row takes `columns` side by side.
    kind: what the model answers; without it a float output of K > 1 numbers is read as probabilities, of one
    as values, BYTES as labels. output: its name, where there are several. headers: sent with each request.
    timeout: seconds for each request; rows: at most so many go into one.
    Raises InputError on a bad address and where the metadata leave the kind open, MemberError where the
    server cannot be reached or answers something else.
    """
    given = Given(name, kind, classes, levels, columns)
    endpoint = _endpoint(url, model, version, headers or {}, timeout)
    metadata = endpoint.call("GET", "")
    try:
        inputs = tuple(_tensor(t) for t in metadata["inputs"])
        outputs = [_tensor(t) for t in metadata["outputs"]]
    except (KeyError, TypeError, ValueError) as error:
        raise MemberError(f"the metadata of {url} do not follow the protocol: {error!r}") from error
    answer, found_kind = _answer(outputs, output, given)
    found = [str(i) for i in range(answer.width or 0)] if found_kind == "probabilities" else []
    columns_read, by_name = _columns(inputs, given)
    fields: dict[str, Any] = {"columns": columns_read}
    if found_kind in ("probabilities", "labels"):
        fields["classes"] = given.class_names(found if answer.width != 1 else [])
    card = given.card(model, found_kind, **fields)
    return Remote(card, endpoint, inputs, answer.name, by_name, rows)


def _endpoint(
    url: str, model: str, version: str | None, headers: Mapping[str, str], timeout: float
) -> Endpoint:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"{url!r} is not an address such as 'http://127.0.0.1:8080'")
    path = f"{parts.path.rstrip('/')}/v2/models/{quote(model, safe='')}"
    path += f"/versions/{quote(version, safe='')}" if version is not None else ""
    return Endpoint(parts.scheme, parts.hostname, parts.port, path, tuple(headers.items()), timeout)


def _tensor(json_: Any) -> Tensor:
    if json_["datatype"] not in _DTYPES:
        raise ValueError(f"unknown datatype {json_['datatype']!r}")
    return Tensor(str(json_["name"]), json_["datatype"], tuple(int(d) for d in json_["shape"]))


def _answer(outputs: list[Tensor], output: str | None, given: Given) -> tuple[Tensor, str]:
    chosen = [t for t in outputs if output is None or t.name == output]
    numbers = [t for t in chosen if t.datatype.startswith("FP")]
    if len(numbers) > 1:
        numbers = [t for t in numbers if "prob" in t.name.lower()] or numbers
    texts = [t for t in chosen if t.datatype == "BYTES"]
    chosen = texts if given.kind == "labels" else numbers or (texts if given.kind is None else [])
    if len(chosen) != 1:
        raise InputError(
            f"the model answers {listed(t.name for t in outputs)}; say which it is: remote(..., output='...')"
        )
    tensor = chosen[0]
    if given.kind is not None:
        return tensor, given.kind
    if tensor.datatype == "BYTES":
        return tensor, "labels"
    if given.levels is not None:
        return tensor, "quantiles"
    if tensor.width is None and given.classes is None:
        raise InputError(f"output {tensor.name!r} has no fixed width; say what it is: kind='...'")
    return tensor, "values" if tensor.width == 1 and given.classes is None else "probabilities"


def _columns(inputs: tuple[Tensor, ...], given: Given) -> tuple[tuple[Column, ...], bool]:
    columns, first = given.column_list(), inputs[0]
    if len(inputs) == 1 and first.width != 1 and len(first.shape) == 2:
        if columns and first.width is not None and len(columns) != first.width:
            raise InputError(f"{len(columns)} columns were given; the model reads {first.width}")
        if not columns and first.datatype == "BYTES":
            raise InputError(f"input {first.name!r} is a matrix of texts: name its columns with columns=...")
        return (columns, True) if columns else (read.numbered(first.width or 0), False)
    if columns and len(columns) != len(inputs):
        raise InputError(f"{len(columns)} columns were given; the model has {len(inputs)} inputs")
    return columns or tuple(_column(t) for t in inputs), True


def _column(tensor: Tensor) -> Column:
    if tensor.width == 1:
        return Column(tensor.name, "category" if tensor.datatype == "BYTES" else "number")
    if tensor.width is None:
        raise InputError(f"input {tensor.name!r} has free axes besides its rows; give columns=[Column(...)]")
    return Column(tensor.name, "tensor", tensor.shape[1:])


def _as(array: Array, tensor: Tensor) -> Array:
    dtype = np.dtype(_DTYPES[tensor.datatype])
    if dtype.kind in "iu" and array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ColumnError(f"input {tensor.name!r} takes integers, so its column may not have missing values")
    return array.astype(dtype, copy=False)


def _folded(array: Array, tensor: Tensor) -> Array:
    return array.reshape(len(array), *tensor.shape[1:]) if tensor.width is not None else array


def _json(array: Array) -> list[Any]:
    """Flat, in row-major order; null where a number is missing, because JSON has no NaN."""
    flat = array.ravel().tolist()
    if array.dtype.kind != "f":
        return flat
    return [v if math.isfinite(v) else None for v in flat]


def _message(raw: bytes) -> str:
    try:
        return str(json.loads(raw)["error"])[:300]
    except (ValueError, KeyError, TypeError):
        return raw[:300].decode(errors="replace").strip() or "no message"
