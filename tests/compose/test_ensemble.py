import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from onnx import helper
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from conjoin import fusion
from conjoin.compose import Ensemble
from conjoin.contracts import Card, Column, Cost
from conjoin.errors import (
    BundleError,
    ColumnError,
    InputError,
    MemberError,
    NotExportableError,
    OutputsError,
)
from conjoin.graph.builder import Graph
from conjoin.members import wrap
from conjoin.members.compiled import export_model
from conjoin.members.onnx import onnx_form
from conjoin.outputs import Labels, Probabilities, Values

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3)).astype(np.float32).astype(np.float64)
Y = np.array(["a", "b", "c"])[np.clip(X[:, 0].round() + 1, 0, 2).astype(int)]
BATCH = {"u": X[:, 0], "v": X[:, 1], "w": X[:, 2]}


@pytest.fixture(scope="module")
def line():
    return wrap(LogisticRegression().fit(X, Y), columns=["u", "v", "w"], name="line")


@pytest.fixture(scope="module")
def bayes():
    """A member that knows only two of the three classes, in another order."""
    rows = Y != "a"
    member = wrap(GaussianNB().fit(X[rows], Y[rows]), columns=["u", "v", "w"], name="bayes")
    return Turned(member)


class Turned:
    """A member whose classes stand in reverse."""

    def __init__(self, member):
        self.member = member
        card = member.card
        self.card = Card(card.name, card.kind, columns=card.columns, classes=card.classes[::-1])

    def predict(self, batch, /):
        return self.member.predict(batch).align(self.card.classes)


class Odd:
    """A member that answers whatever it is told to."""

    def __init__(self, answer, kind="probabilities", classes=("a", "b", "c")):
        self.card = Card("odd", kind, classes=classes)
        self.answer = answer

    def predict(self, batch, /):
        return self.answer(batch)


def test_classes_are_aligned_by_name(line, bayes):
    both = Ensemble({"line": line, "bayes": bayes}, fusion.mean)
    assert bayes.card.classes == ("c", "b")
    assert both.card.classes == ("a", "b", "c")
    expected = line.predict(BATCH).values.copy()
    expected[:, 1:] += bayes.predict(BATCH).values[:, ::-1]
    assert np.allclose(both.predict(BATCH).values, expected / 2)
    turned = Ensemble({"bayes": bayes, "line": line}, fusion.mean)
    assert turned.card.classes == ("c", "b", "a")
    assert np.allclose(turned.predict(BATCH).values[:, ::-1], expected / 2)
    assert both.outputs(BATCH)["bayes"].classes == ("a", "b", "c")


def test_card_is_put_together():
    def member(name, column, cost, **more):
        card = Card(name, "values", columns=(Column(column, "number"),), cost=cost, **more)
        return type("M", (), {"card": card, "predict": lambda self, b, /: Values(b[column])})()

    a = member("a", "u", Cost(1e-6, 100, 0.5))
    b = member("b", "v", Cost(2e-6, 50, None), rowwise=False)
    both = Ensemble({"a": a, "b": b}, fusion.mean, name="pair")
    assert both.card.name == both.name == "pair"
    assert [c.name for c in both.card.columns] == ["u", "v"]
    assert both.card.cost == Cost(3e-6, 150, None)
    assert not both.card.rowwise
    assert both.card.deterministic
    assert both.named("other").card.name == "other"


def test_fit_makes_a_new_one(line, bayes):
    unfitted = Ensemble({"line": line, "bayes": bayes}, fusion.fit_linear_pool)
    assert not unfitted.fitted
    with pytest.raises(InputError, match=r"not fitted; call ensemble.fit\(batch, truth\)"):
        unfitted.predict(BATCH)
    fitted = unfitted.fit(BATCH, Y)
    assert fitted.fitted
    assert not unfitted.fitted
    assert fitted.fuser.weights["line"] > 0.5
    same = unfitted.fit(BATCH, Labels.of(Y.tolist()), weights=np.ones(120), seed=3)
    assert np.allclose(same.predict(BATCH).values, fitted.predict(BATCH).values)
    with pytest.raises(InputError, match="fitted already"):
        fitted.fit(BATCH, Y)


def test_fit_of_parameters_and_of_answers_that_are_there(line, bayes):
    greedy = partial(fusion.fit_greedy_selection, picks=1)
    unfitted = Ensemble({"line": line, "bayes": bayes}, greedy)
    assert unfitted.fit(BATCH, Y).fuser.picks == ("line",)
    outputs = {"line": line.predict(BATCH), "bayes": bayes.predict(BATCH)}
    assert unfitted.fit_fuser(outputs, Y).fuser.picks == ("line",)
    plain = Ensemble({"line": line}, lambda outputs: outputs["line"])
    with pytest.raises(InputError, match="fitted already, or needs no fitting"):
        plain.fit(BATCH, Y)

    def fit_own(outputs, truth):
        return lambda answers: answers["line"]

    own = Ensemble({"line": line, "bayes": bayes}, fit_own).fit(BATCH, Y, seed=1)
    assert np.array_equal(own.predict(BATCH).values, line.predict(BATCH).values)
    with pytest.raises(InputError, match="fit_own takes no weights"):
        Ensemble({"line": line}, fit_own).fit(BATCH, Y, weights=np.ones(120))


def test_values_are_fitted_to_numbers():
    members = {n: wrap(lambda b, n=n: b[n], kind="values", name=n) for n in "uvw"}
    truth = 0.3 * X[:, 0] + 0.7 * X[:, 1]
    fitted = Ensemble(members, fusion.fit_linear_pool).fit(BATCH, truth.tolist())
    assert fitted.fuser.weights["v"] == pytest.approx(0.7, abs=1e-5)
    assert np.allclose(fitted.predict(BATCH).values, truth, atol=1e-5)


def test_it_nests(line, bayes):
    inner = Ensemble({"line": line, "bayes": bayes}, fusion.mean, name="inner")
    outer = Ensemble({"inner": inner, "line": line}, fusion.mean)
    expected = (inner.predict(BATCH).values + line.predict(BATCH).values) / 2
    assert np.allclose(outer.predict(BATCH).values, expected)


def test_labels_fuse_to_probabilities():
    members = {
        n: wrap(lambda b, n=n: np.where(b[n] > 0, "yes", "no"), kind="labels", classes=["no", "yes"])
        for n in "uvw"
    }
    votes = Ensemble(members, fusion.vote)
    assert votes.card.kind == "probabilities"
    assert np.allclose(votes.predict(BATCH).values[:, 1], (X > 0).mean(axis=1))


def test_rows_that_some_or_all_skipped():
    known = wrap(Values([1.0, 2.0]), key="id", keys=[1, 2], name="known")
    other = wrap(Values([5.0, 6.0]), key="id", keys=[2, 3], name="other")
    answer = Ensemble({"known": known, "other": other}, fusion.mean).predict({"id": np.arange(1, 5)})
    assert answer.answered.tolist() == [True, True, True, False]
    assert answer.values[:3].tolist() == [1.0, 3.5, 6.0]


def test_members_without_weight_are_not_asked(line):
    def never(batch):
        raise AssertionError

    lazy = wrap(never, classes=["a", "b", "c"], name="lazy")
    both = Ensemble(
        {"line": line, "lazy": lazy}, fusion.LinearPool({"line": 1.0, "lazy": 0.0}, "probabilities")
    )
    assert np.array_equal(both.predict(BATCH).values, line.predict(BATCH).values)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda b: 1 / 0, "member 'odd' raised ZeroDivisionError"),
        (lambda b: np.ones((120, 3)) / 3, "member 'odd' answered a ndarray, not an Output"),
        (
            lambda b: Probabilities(np.ones((3, 3)) / 3, "abc"),
            "member 'odd' answered 3 rows for a batch of 120",
        ),
        (
            lambda b: Probabilities(np.full((120, 3), np.nan), "abc"),
            "'odd' answered a value that is not finite",
        ),
        (lambda b: Values(np.ones(120)), "'odd' answered values; its card says probabilities"),
    ],
)
def test_a_member_that_fails_is_named(line, answer, message):
    with pytest.raises(MemberError, match=message):
        Ensemble({"line": line, "odd": Odd(answer)}, fusion.mean).predict(BATCH)


def test_a_missing_column_is_the_callers_fault(line):
    with pytest.raises(ColumnError, match=r"member 'line': column 'w' missing"):
        Ensemble({"line": line}, fusion.mean).predict({"u": X[:, 0], "v": X[:, 1]})


def test_a_fuser_that_answers_nonsense(line):
    with pytest.raises(OutputsError, match="the fuser answered a int, not an Output"):
        Ensemble({"line": line}, lambda outputs: 3).predict(BATCH)
    with pytest.raises(MemberError, match="'ensemble' answered 2 rows"):
        Ensemble({"line": line}, lambda outputs: outputs["line"].take([0, 1])).predict(BATCH)


def test_fusers_may_look_at_the_batch(line, bayes):
    def switch(outputs, /, *, batch=None):
        rows = batch["u"][:, None] > 0
        return Probabilities(
            np.where(rows, outputs["line"].values, outputs["bayes"].values), outputs["line"].classes
        )

    answer = Ensemble({"line": line, "bayes": bayes}, switch).predict(BATCH)
    assert np.array_equal(answer.values[X[:, 0] > 0], line.predict(BATCH).values[X[:, 0] > 0])


@pytest.mark.parametrize(
    ("members", "error", "message"),
    [
        ({}, InputError, "at least one member"),
        ({"a": LogisticRegression()}, InputError, r"not a member; wrap it: conjoin.wrap"),
        ({1: Odd(None)}, InputError, "named by texts, not by 1"),
        ({"a": Odd(None), "b": Odd(None, "values", ())}, OutputsError, "a: probabilities, b: values"),
        (
            {"a": Odd(None), "b": Odd(None, classes=("0", "1", "2"))},
            OutputsError,
            "'a' has the classes a, b, c, the others 0, 1, 2: none in common",
        ),
    ],
)
def test_members_that_do_not_fit(members, error, message):
    with pytest.raises(error, match=message):
        Ensemble(members, fusion.mean)


def test_other_levels_and_column_types():
    def quantiles(*levels):
        return wrap(lambda b: np.stack([b["u"]] * len(levels), 1), kind="quantiles", levels=levels)

    with pytest.raises(OutputsError, match="the same quantile levels"):
        Ensemble({"a": quantiles(0.1, 0.9), "b": quantiles(0.2, 0.8)}, fusion.mean)
    number = wrap(lambda b: b["u"], kind="values", columns=["u"])
    category = wrap(lambda b: b["u"], kind="values", columns={"u": "category"})
    with pytest.raises(InputError, match="'u' is a category to member 'b' and a number to another"):
        Ensemble({"a": number, "b": category}, fusion.mean)


def test_a_fuser_must_be_callable(line):
    with pytest.raises(InputError, match="must be callable, not a str"):
        Ensemble({"line": line}, "mean")


def test_native_members_answer_natively_and_graphs_in_one_pass(line, bayes):
    native = Ensemble({"line": line, "bayes": bayes.member}, fusion.log_pool)
    assert not native.in_graph
    stored = Ensemble({n: onnx_form(m) for n, m in native.members.items()}, fusion.log_pool)
    assert stored.in_graph
    expected = native.predict(BATCH).values
    assert np.abs(stored.predict(BATCH).values - expected).max() < 1e-5
    for name, output in stored.outputs(BATCH).items():
        assert output.classes == ("a", "b", "c")
        assert np.abs(output.values - native.outputs(BATCH)[name].values).max() < 1e-5
    exported = wrap(export_model(native))
    assert np.abs(exported.predict(BATCH).values - expected).max() < 1e-5
    outer = Ensemble({"inner": stored, "line": onnx_form(line)}, fusion.mean)
    assert outer.in_graph
    both = (expected + line.predict(BATCH).values) / 2
    assert np.abs(outer.predict(BATCH).values - both).max() < 1e-5


def test_a_graph_that_takes_columns_by_position():
    graph = helper.make_graph(
        [helper.make_node("Softmax", ["x"], ["y"], axis=1)],
        "soft",
        [helper.make_tensor_value_info("x", 1, [None, 3])],
        [helper.make_tensor_value_info("y", 1, [None, 3])],
    )
    soft = wrap(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    joined = Ensemble({"a": soft, "b": soft}, fusion.mean)
    assert not joined.in_graph
    assert np.allclose(joined.predict(BATCH).values, soft.predict(BATCH).values)
    assert Ensemble({"a": wrap(soft.model, columns=["u", "v", "w"])}, fusion.mean).in_graph


def test_a_graph_that_cannot_be_built_is_run_member_by_member(line):
    number = onnx_form(line)
    text = replace(number, card=replace(number.card, columns=(Column("u", "text"), *number.card.columns[1:])))
    joined = Ensemble({"a": text}, fusion.mean)
    assert joined.in_graph
    assert joined._compiled is None
    with pytest.raises(NotExportableError, match="column 'u' is text"):
        joined.emit(Graph())


def test_graph_of_a_dataframe_and_of_no_rows(line):
    pd = pytest.importorskip("pandas")
    stored = Ensemble({"line": onnx_form(line)}, fusion.mean)
    frame = pd.DataFrame(BATCH)
    assert np.array_equal(stored.predict(frame).values, stored.predict(BATCH).values)
    assert len(stored.predict(frame.iloc[:0])) == 0


def test_plain_fusers_become_records(line, bayes):
    weighted = partial(fusion.linear_pool, weights={"line": 1, "bayes": 3})
    both = Ensemble({"line": line, "bayes": bayes}, weighted)
    assert isinstance(both.fuser, fusion.Plain)
    expected = weighted(both.outputs(BATCH))
    assert np.allclose(both.predict(BATCH).values, expected.values)
    assert both.fuser.kind == "probabilities"


def test_no_graph_where_a_part_has_none(line):
    own = Ensemble({"line": line}, lambda outputs: outputs["line"])
    with pytest.raises(NotExportableError, match="fuser of 'ensemble' has no ONNX form"):
        own.emit(Graph())
    with pytest.raises(NotExportableError, match="not fitted"):
        Ensemble({"line": line}, fusion.fit_mean).emit(Graph())
    with pytest.raises(NotExportableError, match="'odd', a Odd, has no ONNX form"):
        Ensemble({"odd": Odd(None)}, fusion.mean).emit(Graph())


def test_pack_and_unpack(line):
    stored = Ensemble({"line": onnx_form(line)}, fusion.mean, name="kept")
    again = Ensemble.unpack(*stored.pack(), stored.children())
    assert again.card == stored.card
    assert np.array_equal(again.predict(BATCH).values, stored.predict(BATCH).values)
    arrays, meta = stored.pack()
    with pytest.raises(BundleError, match="does not make sense"):
        Ensemble.unpack(arrays, meta, {"fuser": stored.fuser})


def test_it_is_frozen_and_can_be_pickled(line, bayes):
    both = Ensemble({"line": line, "bayes": bayes}, fusion.mean)
    with pytest.raises(TypeError):
        both.members["new"] = line
    with pytest.raises(AttributeError):
        both.name = "other"
    stored = Ensemble({"line": onnx_form(line)}, fusion.mean)
    stored.predict(BATCH)
    again = pickle.loads(pickle.dumps(stored))
    assert np.array_equal(again.predict(BATCH).values, stored.predict(BATCH).values)
