"""Members made of parts, alone and several in one graph."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime
import pytest

from conjoin.contracts import Card, Column, Cost, ExportableMember, Member, Storable
from conjoin.errors import BundleError, ColumnError, NotExportableError
from conjoin.graph.linear import Linear
from conjoin.graph.trees import Nodes, Trees
from conjoin.members import wrap
from conjoin.members.compiled import compiled, export_model
from conjoin.members.portable import Portable, bytes_of, card_from_json, card_to_json, portable
from conjoin.outputs import Probabilities, Quantiles, Values

COLUMNS = tuple(Column(f"x{j}", "number") for j in range(20))


@dataclass(frozen=True, eq=False)
class Plain:
    """The simplest encoder: numbers side by side."""

    columns: tuple[Column, ...] = COLUMNS

    def emit(self, graph) -> str:
        return graph.cast(graph.concat([graph.column(c) for c in self.columns]), 1)

    def children(self) -> Mapping[str, Storable]:
        return {}

    def pack(self):
        return {}, {}


@dataclass(frozen=True, eq=False)
class Doubled:
    """A view."""

    def emit(self, graph, x: str) -> str:
        return graph.op("Add", x, x)

    def children(self) -> Mapping[str, Storable]:
        return {}

    def pack(self):
        return {"two": np.array([2.0])}, {}


def trees(
    rng: np.random.Generator, count: int, *, depth: int = 5, outputs: int = 1, link: str = "sigmoid"
) -> Trees:
    """Balanced trees with random splits."""
    size = 2 ** (depth + 1) - 1
    node = np.arange(size)
    inner = node < 2**depth - 1
    base = np.repeat(np.arange(count) * size, size)
    n = count * size
    nodes = Nodes(
        left=np.where(np.tile(inner, count), np.tile(2 * node + 1, count) + base, -1),
        right=np.where(np.tile(inner, count), np.tile(2 * node + 2, count) + base, -1),
        roots=np.arange(count) * size,
        feature=rng.integers(0, 20, n),
        threshold=rng.normal(size=n),
        missing_left=rng.random(n) < 0.5,
        value=0.05 * rng.normal(size=n),
    )
    return Trees.of(
        nodes, n_features=20, link=link, base=np.zeros(outputs), target=np.arange(count) % outputs
    )  # type: ignore[arg-type]


def batch(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    found = {c.name: rng.normal(size=n) for c in COLUMNS}
    found["x3"] = np.where(rng.random(n) < 0.2, np.nan, found["x3"])
    return found


RNG = np.random.default_rng(0)
ENCODER = Plain()
BINARY = portable(Card("binary", "probabilities", classes=("no", "yes")), ENCODER, trees(RNG, 30))
CLASSES = portable(
    Card("classes", "probabilities", classes=("a", "b", "c")),
    ENCODER,
    trees(RNG, 30, outputs=3, link="softmax"),
)
WEIGHTS = RNG.normal(size=(20, 1)).astype(np.float32)
LINEAR = portable(
    Card("linear", "values"),
    ENCODER,
    Linear(WEIGHTS, np.zeros(1, np.float32), "values", 2.0, 1.0),
    view=Doubled(),
)
LEVELS = portable(
    Card("levels", "quantiles", levels=(0.1, 0.9)), ENCODER, trees(RNG, 10, outputs=2, link="rising")
)
MEMBERS = {m.card.name: m for m in (BINARY, CLASSES, LINEAR, LEVELS)}


@pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS.keys())
def test_answers_of_its_kind(member: Portable) -> None:
    assert isinstance(member, Member)
    assert isinstance(member, ExportableMember)
    assert isinstance(member, Storable)
    rows = batch(np.random.default_rng(1), 50)
    out = member.predict(rows)
    assert out.kind == member.card.kind
    assert out.answered.all()
    assert len(out) == 50
    for part in ([7], range(3, 9)):
        few = member.predict({k: v[list(part)] for k, v in rows.items()})
        np.testing.assert_allclose(few.values, out.values[list(part)], atol=1e-6)


@pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS.keys())
def test_no_rows(member: Portable) -> None:
    rows = {c.name: np.zeros(0) for c in COLUMNS}
    out = member.predict(rows)
    assert len(out) == 0
    assert out.kind == member.card.kind
    assert out.values.shape[1:] == member.predict(batch(RNG, 2)).values.shape[1:]
    with pytest.raises(ColumnError, match="x7"):
        member.predict({k: v for k, v in rows.items() if k != "x7"})


def test_the_view_and_the_last_step() -> None:
    rows = batch(np.random.default_rng(2), 9)
    rows["x3"] = np.nan_to_num(rows["x3"])
    x = np.stack([rows[c.name] for c in COLUMNS], axis=1)
    expected = (2 * x @ WEIGHTS)[:, 0] * 2 + 1
    np.testing.assert_allclose(LINEAR.predict(rows).values, expected, rtol=1e-5, atol=1e-5)


def test_several_members_in_one_graph_share_the_encoder() -> None:
    rows = batch(np.random.default_rng(3), 20)
    together = compiled(MEMBERS)
    for name, out in together.outputs(rows).items():
        np.testing.assert_allclose(out.values, MEMBERS[name].predict(rows).values, atol=1e-6)
    kinds = [type(o) for o in together.outputs(rows).values()]
    assert kinds == [Probabilities, Probabilities, Values, Quantiles]
    assert [o.name for o in together.model.graph.output] == [f"out:{name}" for name in MEMBERS]
    joins = [n for n in together.model.graph.node if n.op_type == "Concat" and len(n.input) == 20]
    assert len(joins) == 1
    assert together.columns == COLUMNS


def test_large_batches_are_cut_alike_on_any_number_of_threads() -> None:
    from conjoin.graph.builder import Graph
    from conjoin.graph.session import Session
    from conjoin.tables import conform

    graph = Graph()
    graph.output("y", LINEAR.emit(graph), 11)
    graph.limit_rows(300)
    feeds = conform(batch(np.random.default_rng(4), 2500), COLUMNS)
    one, two = (Session.of(graph, threads=t).run(feeds)[0] for t in (1, 2))
    np.testing.assert_array_equal(one, two)
    whole = Session(graph.build().SerializeToString(), threads=1, rows=9999).run(feeds)[0]
    np.testing.assert_allclose(one, whole, rtol=1e-6, atol=1e-6)


def test_exported_model_speaks_for_itself() -> None:
    rows = batch(np.random.default_rng(5), 30)
    feeds = {k: v[:, None] for k, v in rows.items()}
    for member in MEMBERS.values():
        model = export_model(member)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        names = [o.name for o in session.get_outputs()]
        found = dict(zip(names, session.run(None, feeds), strict=True))
        expected = member.predict(rows)
        values = expected.values if expected.values.ndim == 2 else expected.values[:, None]
        np.testing.assert_allclose(found[member.card.kind], values, atol=1e-6)
        said = {
            p.key: json.loads(p.value) if p.key not in ("name", "kind") else p.value
            for p in model.metadata_props
        }
        assert said["kind"] == member.card.kind
        assert said["classes"] == list(member.card.classes)
        assert said["levels"] == list(member.card.levels)
        assert [c["name"] for c in said["columns"]] == [c.name for c in COLUMNS]
        if member.card.classes:
            assert found["label"].tolist() == expected.labels().names().tolist()


def test_columns_named_like_outputs() -> None:
    columns = tuple(Column(n, "number") for n in ("label", "probabilities", "probabilities_"))
    model = Linear(RNG.normal(size=(3, 1)).astype(np.float32), np.zeros(1, np.float32), "sigmoid")
    member = portable(Card("m", "probabilities", classes=("no", "yes")), Plain(columns), model)
    exported = export_model(member)
    assert [o.name for o in exported.graph.output] == ["probabilities__", "label_"]
    rows = {c.name: RNG.normal(size=4) for c in columns}
    again = wrap(exported)
    assert again.card.classes == ("no", "yes")
    np.testing.assert_allclose(again.predict(rows).values, member.predict(rows).values, atol=1e-6)


def test_kinds_without_an_onnx_form() -> None:
    member = Portable(Card("texts", "texts"), ENCODER, None, LINEAR.model)
    with pytest.raises(NotExportableError, match="texts"):
        compiled({"texts": member})
    with pytest.raises(NotExportableError, match="texts"):
        export_model(member)


def test_the_card_tells_columns_and_size() -> None:
    assert BINARY.card.columns == COLUMNS
    assert BINARY.card.cost.bytes == bytes_of(BINARY.model)
    assert LINEAR.card.cost.bytes == bytes_of(LINEAR.model) + 8


def test_stored_and_read_again() -> None:
    rows = batch(np.random.default_rng(6), 10)
    again = Portable.unpack(*LINEAR.pack(), LINEAR.children())
    assert again.card == LINEAR.card
    np.testing.assert_array_equal(again.predict(rows).values, LINEAR.predict(rows).values)
    with pytest.raises(BundleError, match="model"):
        Portable.unpack(*LINEAR.pack(), {"encoder": ENCODER})
    with pytest.raises(BundleError, match="card"):
        Portable.unpack({}, {"card": {"name": "x"}}, LINEAR.children())
    card = Card("a", "values", COLUMNS[:1], cost=Cost(1e-6, 5), licence="MIT", provenance={"seed": 1})
    assert card_from_json(json.loads(json.dumps(card_to_json(card)))) == card


def test_a_member_in_use_can_be_copied() -> None:
    rows = batch(np.random.default_rng(7), 4)
    before = CLASSES.predict(rows).values
    again = copy.deepcopy(CLASSES)  # what other processes get
    np.testing.assert_array_equal(again.predict(rows).values, before)
    assert again.named("other").predict(rows).kind == "probabilities"


def test_one_row_is_fast() -> None:
    rng = np.random.default_rng(8)
    parts = [trees(rng, 300) for _ in range(5)]
    member = portable(Card("bag", "probabilities", classes=("no", "yes")), ENCODER, Trees.mean(parts))
    row = batch(rng, 1)
    member.predict(row)
    spent = []
    for _ in range(60):
        start = time.process_time()
        member.predict(row)
        spent.append(time.process_time() - start)
    assert np.median(spent) < 1e-3  # 0.15 ms where it was written
