"""Modules learn from members and modules: answers, features, several teachers, themselves."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from conjoin.contracts import Card, Column  # noqa: E402
from conjoin.errors import InputError, OutputsError  # noqa: E402
from conjoin.outputs import Embeddings, Labels, Probabilities, Values  # noqa: E402
from conjoin.transfer.distil.modules import Feature, distil_module  # noqa: E402
from conjoin.transfer.loop import Settings  # noqa: E402

nn = torch.nn
QUICK = Settings(epochs=30, batch_size=32, rate=1e-2, patience=None)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def net(*widths, seed=0):
    torch.manual_seed(seed)
    layers = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def world(n=240, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    codes = (x[:, 0] > 0).astype(int) + 2 * (x[:, 1] * x[:, 2] > 0)
    return {"x": x}, Labels(codes, ("a", "b", "c", "d"))


def agreement(one, two, batch):
    x = torch.from_numpy(batch["x"])
    with torch.no_grad():
        return float((one(x).argmax(-1) == two(x).argmax(-1)).float().mean())


@pytest.fixture(scope="module")
def teacher():
    batch, truth = world()
    return distil_module(None, net(4, 32, 4), batch, truth, born_again=1, settings=QUICK).module


@pytest.mark.parametrize("loss", ["kd", "kd_standardised", "dkd", "dist", "mse"])
def test_a_student_comes_to_answer_like_its_teacher(loss, teacher):
    batch, _ = world(seed=1)
    student = net(4, 16, 4, seed=5)
    before = {n: p.clone() for n, p in student.state_dict().items()}
    made = distil_module(teacher, student, batch, loss=loss, settings=QUICK)
    held, _ = world(seed=2)
    assert agreement(made.module, teacher, held) > 0.7 > agreement(student, teacher, held)
    assert all(torch.equal(before[n], p) for n, p in student.state_dict().items())


@pytest.mark.parametrize("loss", ["hidden", "attention", "rkd", "crd"])
def test_features_come_nearer(loss):
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3))
    student = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    batch = {"image": np.random.default_rng(0).normal(size=(60, 1, 6, 6)).astype(np.float32)}
    feature = Feature("0", "0", loss, weight=1.0)
    settings = Settings(epochs=8, batch_size=16, rate=1e-2)
    made = distil_module(teacher, student, batch, features=[feature], settings=settings)
    history = made.generations[0].history
    assert history[-1].loss < history[0].loss
    assert sorted(n for n, _ in made.module.named_parameters()) == [
        "0.bias",
        "0.weight",
        "3.bias",
        "3.weight",
    ]


def test_same_seed_same_bytes_and_resume(tmp_path, teacher):
    batch, truth = world(80)
    settings = Settings(epochs=3, batch_size=16)
    feature = [Feature("0", "0", "crd", weight=0.1)]
    runs = [
        distil_module(teacher, net(4, 8, 4), batch, truth, features=feature, settings=settings, checkpoints=p)
        for p in (None, tmp_path / "one")
    ]
    again = distil_module(
        teacher, net(4, 8, 4), batch, truth, features=feature, settings=settings,
        checkpoints=tmp_path / "one", resume=True,
    )  # fmt: skip
    for other in (runs[1], again):
        for a, b in zip(runs[0].module.parameters(), other.module.parameters(), strict=True):
            assert torch.equal(a, b)


class Sure:
    """A member that knows one class, and skips some rows."""

    card = Card("sure", "probabilities", (Column("x", "tensor", (4,)),), classes=("d", "b", "a", "c"))

    def predict(self, batch):
        n = len(batch["x"])
        answered = np.arange(n) % 3 > 0
        values = np.tile([0.97, 0.01, 0.01, 0.01], (n, 1))
        values[~answered] = np.nan
        return Probabilities(values, self.card.classes, answered)


def test_classes_are_matched_by_name_and_silence_is_left_to_the_truth():
    batch, _ = world(120)
    truth = Labels(np.full(120, 2), ("a", "b", "c", "d"))
    taught = distil_module(
        Sure(), net(4, 8, 4), batch, truth, classes=("a", "b", "c", "d"), mix=1.0, settings=QUICK
    ).module
    with torch.no_grad():
        assert set(taught(torch.from_numpy(batch["x"])).argmax(-1).tolist()) == {3}
    mixed = distil_module(
        Sure(), net(4, 8, 4), batch, truth, classes=("a", "b", "c", "d"), mix=0.0, settings=QUICK
    ).module
    with torch.no_grad():
        assert set(mixed(torch.from_numpy(batch["x"])).argmax(-1).tolist()) == {2}


def test_several_teachers_are_pooled(teacher):
    batch, _ = world(120)
    names = ("a", "b", "c", "d")
    both = {"net": teacher, "sure": Sure()}
    alone = distil_module(
        both, net(4, 8, 4), batch, classes=names, weights={"net": 1, "sure": 0}, settings=QUICK
    )
    lone = distil_module(teacher, net(4, 8, 4), batch, classes=names, settings=QUICK)
    assert agreement(alone.module, lone.module, batch) > 0.97
    swayed = distil_module(
        both, net(4, 8, 4), batch, classes=names, weights={"net": 0, "sure": 1}, settings=QUICK
    )
    with torch.no_grad():
        assert set(swayed.module(torch.from_numpy(batch["x"])).argmax(-1).tolist()) == {3}


def test_numbers_and_vectors():
    rng = np.random.default_rng(0)
    batch = {"u": rng.normal(size=100), "v": rng.normal(size=100)}
    truth = Values(batch["u"] * 2 - batch["v"])
    student = distil_module(None, net(2, 16, 1), batch, truth, born_again=1, mix=0.5, settings=QUICK).module
    with torch.no_grad():
        said = student(torch.from_numpy(np.stack([batch["u"], batch["v"]], 1).astype(np.float32)))
    assert np.corrcoef(said[:, 0].numpy(), truth.values)[0, 1] > 0.95
    vectors = Embeddings(np.stack([batch["u"], -batch["v"]], 1))
    made = distil_module(net(2, 8, 2), net(2, 4, 2), batch, vectors, settings=QUICK)
    assert made.module(torch.zeros(1, 2)).shape == (1, 2)


def test_one_logit_of_two_classes_is_enough(teacher):
    batch, _ = world(100)
    truth = Labels((batch["x"][:, 0] > 0).astype(int), ("no", "yes"))
    made = distil_module(net(4, 16, 2, seed=1), net(4, 8, 1), batch, truth, mix=0.3, settings=QUICK)
    with torch.no_grad():
        said = made.module(torch.from_numpy(batch["x"]))[:, 0] > 0
    assert float((said.numpy() == truth.codes).mean()) > 0.8


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"loss": "kdd"}, "did you mean 'kd'"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"mix": 2}, "mix must lie"),
        ({"features": [Feature("9", "0")]}, "the student has no layer '9'"),
        ({"features": [Feature("0", "0", "hiden")]}, "did you mean 'hidden'"),
        ({"features": [Feature("0", "0", of="other")]}, "no teacher 'other'"),
        ({"classes": ("a", "b", "c")}, "4 classes"),
        ({"batch": {"x": np.zeros((0, 4), np.float32)}}, "no rows"),
        ({"student": net(4, 3)}, "give the student a head of that size"),
        ({"truth": Labels(np.zeros(5, int), ("a",))}, "240 rows and the truth 5"),
        ({"teacher": None}, "born_again"),
        ({"teacher": "model"}, "a str"),
    ],
)
def test_what_cannot_be_learned_is_told(change, told, teacher):
    batch, _ = world()
    given = {"teacher": teacher, "student": net(4, 4), "batch": batch, "truth": None, **change}
    with pytest.raises((InputError, OutputsError), match=told):
        distil_module(
            given.pop("teacher"), given.pop("student"), given.pop("batch"), given.pop("truth"),
            settings=Settings(epochs=1), **given,
        )  # fmt: skip


def test_a_class_that_the_teacher_does_not_know():
    batch, _ = world(60)
    truth = Labels(np.arange(60) % 5, ("a", "b", "c", "d", "e"))
    with pytest.raises(InputError, match="class 'e', which the teacher does not know"):
        distil_module(Sure(), net(4, 4), batch, truth, settings=Settings(epochs=1))
    names = ("a", "b", "c", "d", "e")
    made = distil_module(Sure(), net(4, 5), batch, truth, classes=names, settings=Settings(epochs=1))
    assert made.module(torch.zeros(1, 4)).shape == (1, 5)
