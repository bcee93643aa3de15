"""A graph answers with the weights of another checkpoint: as torch exports it, transposed, and what is
refused.
"""

import warnings

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from conjoin.errors import InputError
from conjoin.members import wrap
from conjoin.members.onnx_weights import with_weights

RNG = np.random.default_rng(0)


def member(*matrices, names):
    """x @ first @ second ..., with weights of 0."""
    held = [numpy_helper.from_array(np.zeros(m, np.float32), n) for m, n in zip(matrices, names, strict=True)]
    ends = ["x", *(f"h{i}" for i in range(1, len(names))), "y"]
    nodes = [helper.make_node("MatMul", [ends[i], n], [ends[i + 1]]) for i, n in enumerate(names)]
    told = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes,
        "g",
        [told("x", TensorProto.FLOAT, ["n", matrices[0][0]])],
        [told("y", TensorProto.FLOAT, ["n", 1])],
        held,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return wrap(model.SerializeToString())


def answers(found, x):
    return found.predict({f"x{i}": x[:, i] for i in range(x.shape[1])}).values.reshape(-1)


def test_a_matrix_that_only_fits_transposed():
    given = {"fc.weight": RNG.standard_normal((1, 3)).astype(np.float32)}
    x = RNG.standard_normal((5, 3)).astype(np.float32)
    for names in (["fc.weight"], ["net.fc.weight"]):
        found = with_weights(member((3, 1), names=names), given)
        np.testing.assert_allclose(answers(found, x), (x @ given["fc.weight"].T)[:, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"a": np.ones((3, 3)), "b": np.ones((1, 3))}, "a is square"),
        ({"a": np.ones((3, 3)), "b": np.ones((3, 2))}, r"b has the shape \[3, 2\]; the graph's has \[3, 1\]"),
        ({"a": np.ones((3, 3)), "c": np.ones((3, 1))}, "no weights called c"),
        ({"a": np.ones((3, 3)), "n.a": np.ones((3, 3))}, "would both be 'a'"),
        ({"w": np.ones(3), "bn.weight": np.ones(3)}, "without folding"),
    ],
)
def test_what_does_not_fit_is_refused(tensors, told):
    with pytest.raises(InputError, match=told):
        with_weights(member((3, 3), (3, 1), names=["a", "b"]), tensors)


def test_what_torch_exports():
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)

    def made():
        return torch.nn.Sequential(
            torch.nn.Linear(4, 6),
            torch.nn.ReLU(),
            torch.nn.Linear(6, 6),
            torch.nn.ReLU(),
            torch.nn.Linear(6, 1),
        ).eval()

    first, second = made(), made()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            first,
            (torch.zeros(2, 4),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("n")},),
            verbose=False,
        )
    exported = wrap(program.model_proto.SerializeToString())
    x = RNG.standard_normal((7, 4)).astype(np.float32)
    state = {n: t.numpy() for n, t in second.state_dict().items()}
    with torch.no_grad():
        wanted = second(torch.from_numpy(x)).numpy()[:, 0]
    np.testing.assert_allclose(answers(with_weights(exported, state), x), wanted, rtol=1e-5, atol=1e-6)
