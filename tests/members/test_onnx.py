import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from conjoin.contracts import Column
from conjoin.errors import BundleError, ColumnError, FileError, InputError, NotExportableError
from conjoin.graph.builder import Graph
from conjoin.members import wrap
from conjoin.members.compiled import compiled, export_model
from conjoin.members.onnx import OnnxMember

OPSET = {"": 21, "ai.onnx.ml": 3}


@pytest.fixture(scope="module")
def line(people):
    return LogisticRegression().fit(people.numbers, people.y)


@pytest.fixture(scope="module")
def model(line, people):
    x = people.numbers.to_numpy(dtype=np.float32)
    return to_onnx(line, x[:1], options={"zipmap": False}, target_opset=OPSET)


def graph_of(nodes, inputs, outputs, *, initializers=(), opset=21):
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializer=list(initializers))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def tensor(name, shape, element=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, element, shape)


def identity(out_shape, **kwargs):
    return graph_of(
        [helper.make_node("Identity", ["x"], ["y"])], [tensor("x", [None, 3])], [tensor("y", out_shape)]
    )


def test_converted_classifier(people, line, model, tmp_path):
    path = tmp_path / "line.onnx"
    path.write_bytes(model.SerializeToString())
    member = wrap(path)
    assert isinstance(member, OnnxMember)
    assert member.card.name == "line"
    assert member.card.classes == ("no", "yes")
    assert [c.name for c in member.card.columns] == ["x0", "x1"]
    expected = line.predict_proba(people.numbers)
    assert np.allclose(member.predict(people.filled).values, expected, atol=1e-5)
    named = wrap(str(path), columns=["age", "income"])
    swapped = dict(reversed(list(people.filled.items())))
    assert np.allclose(named.predict(swapped).values, expected, atol=1e-5)


def test_number_classes_and_given_ones(people):
    line = LogisticRegression().fit(people.numbers, (people.y == "yes") * 7)
    model = to_onnx(
        line, people.numbers.to_numpy(np.float32)[:1], options={"zipmap": False}, target_opset=OPSET
    )
    assert wrap(model).card.classes == ("0", "7")
    assert wrap(model, classes=["no", "yes"]).card.classes == ("no", "yes")
    with pytest.raises(InputError, match="3 classes were given"):
        wrap(model, classes=["a", "b", "c"])


def test_zipmap_is_refused_with_advice(people, line):
    model = to_onnx(line, people.numbers.to_numpy(np.float32)[:1], target_opset=OPSET)
    with pytest.raises(InputError, match=r"options=\{'zipmap': False\}"):
        wrap(model)


def test_converted_regressor(people):
    fitted = LinearRegression().fit(people.numbers, people.value)
    member = wrap(to_onnx(fitted, people.numbers.to_numpy()[:1], target_opset=OPSET))
    assert member.card.kind == "values"
    assert np.allclose(member.predict(people.filled).values, fitted.predict(people.numbers))


def test_text_input(people):
    frame = people.frame[["city"]].fillna("rome")
    fitted = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(frame, people.y)
    model = to_onnx(fitted, frame[:1], options={"zipmap": False}, target_opset=OPSET)
    member = wrap(model)
    assert member.card.columns == (Column("city", "category"),)
    answer = member.predict({"city": np.array(["oslo", "lima"], dtype=object)})
    assert np.allclose(
        answer.values[0], fitted.predict_proba(frame[frame["city"] == "oslo"][:1])[0], atol=1e-5
    )


@pytest.mark.parametrize(
    ("shape", "kind"), [([None, 1], "values"), ([None], "values"), ([None, 3], "probabilities")]
)
def test_kind_from_the_shape_of_the_answer(shape, kind):
    assert wrap(identity(shape)).card.kind == kind if shape[-1] == 3 else True
    nodes = [helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=len(shape) - 1)]
    axes = numpy_helper.from_array(np.array([1], dtype=np.int64), "axes")
    if kind == "values":
        made = graph_of(nodes, [tensor("x", [None, 3])], [tensor("y", shape)], initializers=[axes])
        assert wrap(made).card.kind == "values"
        assert wrap(made).predict({"x": np.arange(6.0).reshape(2, 3)}).values.tolist() == [1.0, 4.0]


def test_quantiles_and_logits():
    batch = {"q": np.array([[1.0, 2.0, 3.0]])}
    spread = wrap(identity([None, 3]), levels=[0.1, 0.5, 0.9])
    assert spread.predict(batch).levels == (0.1, 0.5, 0.9)
    soft = wrap(identity([None, 3]), softmax=True, classes=["a", "b", "c"])
    assert np.allclose(soft.predict(batch).values, np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum())
    assert soft.card.classes == ("a", "b", "c")


def test_one_probability_is_two_classes(people):
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=1),
        helper.make_node("Sigmoid", ["m"], ["y"]),
    ]
    axes = numpy_helper.from_array(np.array([1], dtype=np.int64), "axes")
    made = graph_of(nodes, [tensor("x", [None, 2])], [tensor("y", [None, 1])], initializers=[axes])
    member = wrap(made, kind="probabilities", classes=["no", "yes"], columns=["age", "income"])
    values = member.predict(people.filled).values
    assert np.allclose(values.sum(axis=1), 1)
    again = compiled({"m": member}).outputs(people.filled)["m"]
    assert np.allclose(again.values, values, atol=1e-7)


def test_several_inputs_by_name():
    nodes = [helper.make_node("Cast", ["k"], ["f"], to=1), helper.make_node("Add", ["a", "f"], ["y"])]
    made = graph_of(
        nodes, [tensor("a", [None, 1]), tensor("k", [None, 1], TensorProto.INT64)], [tensor("y", [None, 1])]
    )
    member = wrap(made)
    assert [c.name for c in member.card.columns] == ["a", "k"]
    assert member.predict({"k": np.array([1, 2]), "a": np.array([0.5, 1.5])}).values.tolist() == [1.5, 3.5]
    with pytest.raises(ColumnError, match="'k' takes integers"):
        member.predict({"k": np.array([1, np.nan]), "a": np.zeros(2)})
    with pytest.raises(ColumnError, match="'k' is missing"):
        member.predict({"a": np.zeros(2)})


def test_what_conjoin_exported_says_itself(people, model):
    exported = export_model(wrap(model, columns=["age", "income"], name="line"))
    again = wrap(exported.SerializeToString())
    assert (again.card.name, again.card.kind, again.card.classes) == ("line", "probabilities", ("no", "yes"))
    assert [c.name for c in again.card.columns] == ["age", "income"]
    a = wrap(model).predict(people.filled).values
    assert np.allclose(again.predict(people.filled).values, a, atol=1e-6)


def test_emit_of_an_older_opset(people, line):
    old = to_onnx(
        line, people.numbers.to_numpy(np.float32)[:1], options={"zipmap": False},
        target_opset={"": 12, "ai.onnx.ml": 1},
    )  # fmt: skip
    member = wrap(old, columns=["age", "income"])
    both = compiled({"a": member, "b": wrap(old, columns=["age", "income"])})
    answer = both.outputs(people.filled)
    assert np.allclose(answer["a"].values, member.predict(people.filled).values, atol=1e-6)
    assert np.array_equal(answer["a"].values, answer["b"].values)


def test_pack_and_unpack(people, model):
    member = wrap(model, columns=["age", "income"])
    again = OnnxMember.unpack(*member.pack(), {})
    assert again.card == member.card
    assert np.array_equal(again.predict(people.filled).values, member.predict(people.filled).values)
    arrays, meta = member.pack()
    with pytest.raises(BundleError, match="lacks a part"):
        OnnxMember.unpack(arrays, {k: v for k, v in meta.items() if k != "output"}, {})


def test_onnx_form_of_any_number_of_columns():
    made = identity([None, 3])
    made.graph.input[0].type.tensor_type.shape.dim[1].Clear()
    member = wrap(made, kind="values")
    assert member.predict({"a": np.zeros(2), "b": np.ones(2), "c": np.ones(2)}).values.shape == (2, 3)
    with pytest.raises(NotExportableError, match="any number of columns"):
        member.emit(Graph())


def other_domain():
    made = identity([None, 3])
    made.graph.node[0].domain = "com.evil"
    made.opset_import.append(helper.make_opsetid("com.evil", 1))
    return made


def outside_data():
    made = identity([None, 3])
    weights = numpy_helper.from_array(np.zeros(3, dtype=np.float32), "w")
    onnx.external_data_helper.set_external_data(weights, "/etc/passwd")
    weights.ClearField("raw_data")
    made.graph.initializer.append(weights)
    return made


def unknown_operator():
    made = identity([None, 3])
    made.graph.node[0].op_type = "Nope"
    return made


def one_row():
    made = identity([1, 3])
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return made


def in_a_branch():
    inner = helper.make_graph(
        [helper.make_node("Steal", ["x"], ["z"], domain="com.evil")], "b", [], [tensor("z", None)]
    )
    made = identity([None, 3])
    node = helper.make_node("If", ["c"], ["y2"], then_branch=inner, else_branch=inner)
    made.graph.node.append(node)
    return made


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: b"\x00garbage" * 9, BundleError, "not an ONNX file"),
        (lambda: b"", BundleError, "holds no graph"),
        (other_domain, BundleError, "'com.evil' is not allowed"),
        (in_a_branch, BundleError, "'com.evil' is not allowed"),
        (outside_data, BundleError, "lies in another file"),
        (unknown_operator, BundleError, "onnxruntime refuses"),
        (one_row, InputError, "exactly 1 rows"),
        (lambda: "no_such_file.onnx", FileError, "cannot read no_such_file.onnx"),
    ],
)  # fmt: skip
def test_refused(make, error, message):
    with pytest.raises(error, match=message):
        wrap(make())


def test_several_answers_need_a_name():
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    made = graph_of(nodes, [tensor("x", [None, 3])], [tensor("y", [None, 3]), tensor("z", [None, 3])])
    with pytest.raises(InputError, match=r"outputs y, z; say which"):
        wrap(made)
    assert wrap(made, output="z", kind="values").predict({"x": np.ones((1, 3))}).values.tolist() == [
        [-1, -1, -1]
    ]
    with pytest.raises(InputError, match="no output 'w'; it has y, z"):
        wrap(made, output="w")
