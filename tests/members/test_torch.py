import numpy as np
import pytest

from conjoin.contracts import Column
from conjoin.errors import ColumnError, InputError, MemberError, NotExportableError
from conjoin.graph.builder import Graph
from conjoin.members import wrap
from conjoin.members.compiled import export_model

torch = pytest.importorskip("torch")
CLASSES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    layers = torch.nn.Linear(2, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)
    return torch.nn.Sequential(*layers)


def test_columns_of_numbers_are_stacked(net, people):
    member = wrap(net, classes=CLASSES, softmax=True, columns=["income", "age"], name="net")
    answer = member.predict(people.filled)
    with torch.inference_mode():
        x = torch.tensor(people.numbers[["income", "age"]].to_numpy().copy(), dtype=torch.float32)
        expected = torch.softmax(net.eval()(x), dim=1).numpy()
    assert np.allclose(answer.values, expected, atol=1e-6)


def test_the_module_is_left_in_its_mode_and_the_member_does_not_follow_it(net, people):
    net.train()
    member = wrap(net, classes=CLASSES, softmax=True, columns=["age", "income"])
    assert net.training
    before = member.predict(people.filled).values
    first = net[0].weight.detach().clone()
    with torch.no_grad():
        net[0].weight.add_(1.0)
    assert np.array_equal(member.predict(people.filled).values, before)
    with torch.no_grad():
        net[0].weight.copy_(first)


def test_a_column_of_tensors():
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 1))
    member = wrap(module, kind="values", rows=3)
    batch = {"id": np.arange(7), "image": np.random.default_rng(0).normal(size=(7, 1, 4, 4))}
    assert member.predict({"image": batch["image"]}).values.shape == (7,)
    assert np.array_equal(member.predict(batch).values, member.predict({"image": batch["image"]}).values)


def test_one_logit_is_two_classes(people):
    module = torch.nn.Linear(2, 1)
    answer = wrap(module, classes=["no", "yes"], softmax=True, columns=["age", "income"]).predict(
        people.filled
    )
    assert answer.values.shape == (200, 2)
    assert np.allclose(answer.values.sum(axis=1), 1)


def test_logits_are_no_probabilities(net, people):
    with pytest.raises(MemberError, match="outside 0 to 1"):
        wrap(net, classes=CLASSES, columns=["age", "income"]).predict(people.filled)


def test_refused(net, people):
    with pytest.raises(InputError, match="say what the module answers"):
        wrap(net)
    with pytest.raises(InputError, match="names of their columns"):
        wrap(net, kind="probabilities")
    with pytest.raises(InputError, match="answers numbers, not texts"):
        wrap(net, kind="texts")
    with pytest.raises(ColumnError, match="'height' missing"):
        wrap(net, classes=CLASSES, columns=["age", "height"]).predict(people.filled)
    with pytest.raises(ColumnError, match="no columns of numbers"):
        wrap(net, classes=CLASSES).predict({"city": people.batch["city"]})


@pytest.mark.parametrize("softmax", [True, False])
def test_onnx_form(net, people, softmax):
    module = net if softmax else torch.nn.Sequential(net, torch.nn.Softmax(dim=1))
    member = wrap(module, classes=CLASSES, softmax=softmax, columns=["age", "income"])
    exported = wrap(export_model(member))
    assert exported.card.classes == ("a", "b", "c")
    a, b = member.predict(people.filled).values, exported.predict(people.filled).values
    assert np.abs(a - b).max() < 1e-6


def test_onnx_form_of_a_tensor_column():
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 1))
    member = wrap(module, kind="values", columns=[Column("image", "tensor", (1, 4, 4))])
    batch = {"image": np.random.default_rng(0).normal(size=(5, 1, 4, 4))}
    exported = wrap(export_model(member))
    assert np.allclose(exported.predict(batch).values, member.predict(batch).values, atol=1e-6)


def test_no_onnx_form_without_columns(net):
    with pytest.raises(NotExportableError, match="name its columns"):
        wrap(net, classes=CLASSES).emit(Graph())
