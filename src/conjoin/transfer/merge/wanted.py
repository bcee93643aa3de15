"""What a recipe says of tokens.

tokenizer:
  source: union                     # base, union or a model; tokenizer_source: union says the same
  pad_to_multiple_of: 64
  tokens:
    <|im_start|>: {source: chat}    # the row of this model
    <extra>: {source: {kind: zero}}
    <|im_end|>: {source: {kind: model_token, model: base, token: </s>}, force: true}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

BASE, UNION = "base", "union"


@dataclass(frozen=True, slots=True)
class Row:
    """Where the row of a token comes from in models that lack it; with `force`, in all.

    model: whose row. kind: `token`, the row that this token has there; `other`, that of `token` or `number`
    there; `zero`; `usual`, as if the recipe said nothing.
    """

    kind: Literal["token", "other", "zero", "usual"]
    model: str = ""
    token: str | None = None
    number: int | None = None
    force: bool = False
    line: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """The vocabulary that a recipe wants. source: base, union or a model."""

    source: str
    rows: Mapping[str, Row] = field(default_factory=dict)
    multiple: int | None = None
    line: int = 0


def read_wanted(reader: Any, keys: Mapping[str, Any]) -> Wanted | None:
    """What `tokenizer_source` or `tokenizer` of a recipe say. reader: of recipes."""
    if "tokenizer" in keys and "tokenizer_source" in keys:
        reader.refuse(keys["tokenizer"], "give tokenizer or tokenizer_source, not both")
    if "tokenizer_source" in keys:
        node = keys["tokenizer_source"]
        return Wanted(_model(reader, node), line=_line(node))
    if "tokenizer" not in keys:
        return None
    node = keys["tokenizer"]
    found = reader.mapping(node, ("source", "tokens", "pad_to_multiple_of"), "tokenizer")
    source = _model(reader, found["source"]) if "source" in found else UNION
    rows = dict(_row(reader, *pair) for pair in reader.pairs(found["tokens"])) if "tokens" in found else {}
    multiple = None
    if "pad_to_multiple_of" in found:
        multiple = reader.scalar(found["pad_to_multiple_of"])
        if type(multiple) is not int or not 1 <= multiple <= 1 << 20:
            reader.refuse(
                found["pad_to_multiple_of"],
                f"pad_to_multiple_of must be 1 to {1 << 20}, not {multiple!r:.40}",
            )
    return Wanted(source, rows, multiple, _line(node))


def _model(reader: Any, node: Any) -> str:
    plain = getattr(node, "value", None)
    return str(plain) if plain in (BASE, UNION) else str(reader.model(node))


def _row(reader: Any, token: str, node: Any) -> tuple[str, Row]:
    found = reader.mapping(node, ("source", "force"), f"the token {token!r}")
    force = reader.scalar(found["force"]) if "force" in found else False
    if not isinstance(force, bool):
        reader.refuse(found["force"], f"force must be true or false, not {force!r:.40}")
    if "source" not in found:
        if force:
            reader.refuse(node, f"the token {token!r} is forced, so it needs a source")
        return token, Row("usual", line=_line(node))
    return token, _source(reader, found["source"], force)


def _source(reader: Any, node: Any, force: bool) -> Row:
    line = _line(node)
    pairs = dict(reader.pairs(node)) if isinstance(node.value, list) else {}
    if "kind" not in pairs:
        return Row("token", reader.model(node), force=force, line=line)
    kind = reader.text(pairs["kind"], "kind")
    if kind == "zero":
        reader.mapping(node, ("kind",), "a source of zeros")
        return Row("zero", force=force, line=line)
    if kind != "model_token":
        reader.refuse(pairs["kind"], f"kind must be zero or model_token, not {kind!r:.40}")
    keys = reader.mapping(node, ("kind", "model", "token", "token_id"), "a source")
    if "model" not in keys or ("token" in keys) == ("token_id" in keys):
        reader.refuse(node, "model_token needs a model, and either token or token_id")
    number = reader.scalar(keys["token_id"]) if "token_id" in keys else None
    if number is not None and (type(number) is not int or number < 0):
        reader.refuse(keys["token_id"], f"token_id must be a whole number from 0, not {number!r:.40}")
    token = reader.text(keys["token"], "token") if "token" in keys else None
    return Row("other", reader.model(keys["model"]), token, number, force, line)


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1
