"""Any member teaches any learner of tables."""

from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("lightgbm")

import conjoin
from conjoin.contracts import Card
from conjoin.errors import ColumnError, InputError, MemberError, TruthError
from conjoin.members import wrap
from conjoin.members.portable import Portable
from conjoin.outputs import Labels, Probabilities, Values
from conjoin.transfer.distil import distil, students

QUICK = {"factor": 1, "time_limit": None, "threads": 1}


def chance(batch):
    """The true probabilities of the table below."""
    x = np.nan_to_num(np.asarray(batch["x"], float))
    z = 2 * np.sin(2 * x) + np.where(np.asarray(batch["job"]) == "cook", 1.5, -0.5)
    return 1 / (1 + np.exp(-z))


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch):
    monkeypatch.setattr(students, "ROUNDS", (20, 40))


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    n = 400
    batch = {
        "x": np.where(rng.random(n) < 0.05, np.nan, rng.normal(size=n) * 1.5),
        "job": np.array(["cook", "judge", None], dtype=object)[rng.integers(0, 3, n)],
        "noise": rng.integers(0, 50, n),
    }
    said = np.where(rng.random(n) < chance(batch), "yes", "no").astype(object)
    return {**batch, "status": said}


@pytest.fixture(scope="module")
def teacher():
    def answer(batch):
        p = chance(batch)
        return np.stack([p, 1 - p], axis=1)

    return wrap(answer, name="oracle", classes=["yes", "no"])


def numbers(name="oracle"):
    return wrap(lambda batch: chance(batch) * 10, name=name, kind="values")


@pytest.mark.parametrize("name", ["lightgbm", "linear", "tree", "random_forest"])
def test_every_student_learns_probabilities(table, teacher, name, tmp_path):
    done = distil(teacher, name, table, target="status", **QUICK)
    report = done.report
    assert isinstance(done.student, Portable)
    assert done.student.card.classes == ("yes", "no")
    assert report.distilled.value < 0.75
    assert report.rows["held_out"] == 80
    assert report.rows["made"] == 320
    conjoin.save(done.student, tmp_path / "s.conjoin")
    again = conjoin.load(tmp_path / "s.conjoin")
    np.testing.assert_array_equal(again.predict(table).values, done.student.predict(table).values)
    assert again.card.provenance["distillation"]["learner"] == name


def test_a_network(table, teacher):
    cut = {k: v[:150] for k, v in table.items()}
    student = distil(teacher, "mlp", cut, target="status", holdout=0, **QUICK | {"factor": 0}).student
    assert np.abs(student.predict(table).values - teacher.predict(table).values).mean() < 0.35


def test_a_teacher_that_knows_closes_the_gap(table, teacher):
    report = distil(teacher, "lightgbm", table, target="status", **QUICK | {"factor": 5}).report
    assert report.kept == "distilled"
    assert report.distilled.value < report.alone.value
    assert report.gap.size > 0
    assert report.metric == "log_loss"
    assert any("may have learned" in text for text in report.notes)


def test_numbers(table):
    batch = {k: table[k] for k in ("x", "job", "noise")}
    truth = chance(batch) * 10 + np.random.default_rng(1).normal(size=len(batch["x"])) * 3
    done = distil(numbers(), "lightgbm", batch, truth=truth, **QUICK)
    assert done.student.card.kind == "values"
    assert done.report.metric == "rmse"
    assert done.report.distilled.value < done.report.alone.value
    assert done.report.agreement > 0.8


@pytest.mark.parametrize("name", ["lightgbm", "linear"])
def test_quantiles(table, name):
    batch = {k: table[k] for k in ("x", "job", "noise")}
    spread = np.array([-3.0, 0.0, 3.0])
    teacher = wrap(lambda b: chance(b)[:, None] * 10 + spread, levels=[0.1, 0.5, 0.9], kind="quantiles")
    truth = chance(batch) * 10 + np.random.default_rng(1).normal(size=len(batch["x"])) * 2.3
    done = distil(teacher, name, batch, truth=truth, hard=0.2, **QUICK)
    assert done.student.card.levels == (0.1, 0.5, 0.9)
    said = done.student.predict(batch).values
    assert (np.diff(said, axis=1) >= 0).all()
    assert done.report.metric == "pinball"
    assert done.report.distilled.value < (1.7 if name == "linear" else 1.3) * done.report.teacher.value


def test_same_seed_same_bytes(table, teacher):
    batch = {k: table[k] for k in ("x", "job")}
    a, b = (distil(teacher, "lightgbm", batch, seed=3, **QUICK).student for _ in range(2))
    packed = [part.model.pack()[0] for part in (a, b)]
    assert all(np.array_equal(packed[0][k], packed[1][k]) for k in packed[0])


def test_without_a_truth(table, teacher):
    batch = {k: table[k] for k in ("x", "job", "noise")}
    done = distil(teacher, "linear", batch, **QUICK)
    assert done.report.teacher is None is done.report.gap
    assert np.abs(done.student.predict(batch).values - teacher.predict(batch).values).mean() < 0.3


def test_unlabelled_rows_and_rows_without_a_truth(table, teacher):
    status = table["status"].copy()
    status[:100] = None
    more = {k: np.concatenate([table[k], table[k]]) for k in ("x", "job", "noise")}
    more["job"][:5] = "never seen"
    report = distil(
        teacher, "linear", {**table, "status": status}, target="status", unlabelled=more, **QUICK
    ).report
    assert report.rows["unlabelled"] == 800
    assert report.rows["held_out"] == 60


def test_a_table_held_out(table, teacher):
    cut = {k: v[:100] for k, v in table.items()}
    report = distil(teacher, "linear", table, target="status", holdout=cut, **QUICK).report
    assert report.rows["held_out"] == 100
    assert report.rows["table"] == 400
    assert not any("learned" in text for text in report.notes)
    with pytest.raises(TruthError, match="needs the target column 'status'"):
        distil(teacher, "linear", table, target="status", holdout={"x": cut["x"]}, **QUICK)


def test_temperature(table, teacher):
    plain, soft = (
        distil(
            teacher, "linear", table, target="status", temperature=t, hard=0.0, **QUICK
        ).report.distilled.value
        for t in (1.0, 3.0)
    )
    assert soft == pytest.approx(plain, rel=0.05)
    with pytest.raises(InputError, match="has no scores"):
        distil(teacher, "tree", table, target="status", temperature=2.0, **QUICK)
    with pytest.raises(InputError, match="softens probabilities"):
        distil(numbers(), "linear", table, temperature=2.0, **QUICK)


def test_a_teacher_that_fails_on_some_rows(table):
    def answer(batch):
        if (np.asarray(batch["noise"]) == 7).any():
            raise ValueError("seven")
        p = chance(batch)
        return np.stack([p, 1 - p], axis=1)

    batch = {k: v[:120] for k, v in table.items()}
    report = distil(
        wrap(answer, classes=["yes", "no"]),
        "linear",
        batch,
        target="status",
        augment="none",
        holdout=0,
        **QUICK,
    ).report
    assert report.rows["not_answered"] == int((batch["noise"] == 7).sum()) > 0
    assert any("seven" in text for text in report.notes)


def test_a_teacher_that_always_fails(table):
    def answer(batch):
        raise ValueError("no")

    with pytest.raises(MemberError, match="answered none of"):
        distil(wrap(answer, classes=["yes", "no"]), "linear", table, target="status", **QUICK)


def test_a_teacher_that_marks_rows(table):
    class Shy:
        card = Card("shy", "probabilities", classes=("no", "yes"))

        def predict(self, batch):
            p = chance(batch)
            return Probabilities(np.stack([1 - p, p], axis=1), ("no", "yes"), ~np.isnan(batch["x"]))

    report = distil(Shy(), "linear", table, target="status", augment="none", **QUICK).report
    assert report.rows["not_answered"] > 0


def test_a_teacher_of_labels(table, teacher):
    shy = wrap(lambda b: np.where(chance(b) > 0.5, "yes", "no"), kind="labels", classes=["no", "yes"])
    student = distil(shy, "tree", table, target="status", **QUICK).student
    assert student.card.kind == "probabilities"
    assert (student.predict(table).labels().names() == shy.predict(table).names()).mean() > 0.8


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"learner": "lightgmb"}, InputError, "did you mean 'lightgbm'"),
        ({"augment": "mung"}, InputError, "did you mean 'munge'"),
        ({"hard": 2}, InputError, "hard is a share"),
        ({"temperature": 0}, InputError, "temperature must be above 0"),
        ({"time_limit": 0}, InputError, "time_limit"),
        ({"holdout": 1.5}, InputError, "holdout is a share"),
        ({"target": "statsu"}, TruthError, "did you mean 'status'"),
        ({"factor": -1}, InputError, "factor"),
    ],
)
def test_bad_arguments(table, teacher, change, error, message):
    given = {"learner": "linear", "target": "status", **QUICK, **change}
    with pytest.raises(error, match=message):
        distil(teacher, given.pop("learner"), table, **given)


def test_classes_that_the_teacher_does_not_know(table, teacher):
    status = table["status"].copy()
    status[:40] = "perhaps"
    with pytest.raises(TruthError, match="perhaps"):
        distil(teacher, "linear", {**table, "status": status}, target="status", **QUICK)


def test_a_student_that_cannot_say_quantiles(table):
    teacher = wrap(lambda b: chance(b)[:, None] + np.array([0.0, 1.0]), levels=[0.1, 0.9], kind="quantiles")
    batch = {k: table[k] for k in ("x", "job", "noise")}
    with pytest.raises(InputError, match="a student 'tree' cannot learn quantiles"):
        distil(teacher, "tree", batch, **QUICK)


@pytest.mark.parametrize("rows", [0, 1, 8])
def test_too_few_rows(table, teacher, rows):
    with pytest.raises(InputError, match="at least 12 rows"):
        distil(teacher, "linear", {k: v[:rows] for k, v in table.items()}, target="status", **QUICK)


def test_one_class(table, teacher):
    with pytest.raises(TruthError, match="one class only"):
        distil(
            teacher, "linear", {**table, "status": np.array(["yes"] * 400, object)}, target="status", **QUICK
        )


def test_a_missing_column(table, teacher):
    strict = wrap(
        lambda b: np.stack([chance(b), 1 - chance(b)], axis=1),
        classes=["yes", "no"],
        columns={"x": "number", "job": "category"},
    )
    batch = {k: v for k, v in table.items() if k != "job"}
    with pytest.raises(ColumnError, match="job"):
        distil(strict, "linear", batch, target="status", **QUICK)


def test_a_teacher_of_another_kind(table):
    teacher = wrap(lambda b: np.zeros((len(b["x"]), 3)), kind="embeddings")
    with pytest.raises(InputError, match="answers embeddings"):
        distil(teacher, "linear", table, **QUICK)


@dataclass(frozen=True)
class Mean:
    """A learner of the user's own: it answers the mean of what it learned from."""

    classes: tuple[str, ...] | None = None

    def fit(self, batch, truth, /, *, seed):
        if isinstance(truth, Values):
            value = float(truth.values.mean())
            return wrap(lambda b: np.full(len(b["x"]), value), kind="values")
        q = truth.one_hot() if isinstance(truth, Labels) else truth.values
        p = q.mean(axis=0)
        classes = self.classes or truth.classes
        return wrap(lambda b: np.tile(p[: len(classes)], (len(b["x"]), 1)), classes=classes)


def test_a_learner_of_the_users_own(table, teacher):
    done = distil(teacher, Mean(), table, target="status", **QUICK)
    assert done.report.learner == "Mean"
    assert done.student.predict(table).classes == ("yes", "no")


def test_a_classifier_cannot_be_taught_numbers(table):
    class Classifier:
        def fit(self, batch, truth, /, *, seed):
            return wrap(lambda b: np.full((len(b["x"]), 2), 0.5), name="cls", classes=["a", "b"])

    batch = {k: table[k] for k in ("x", "job", "noise")}
    with pytest.raises(InputError, match="answers probabilities, the teacher 'oracle' answers values"):
        distil(numbers(), Classifier(), batch, **QUICK)


def test_a_student_that_lacks_classes(table):
    teacher = wrap(lambda b: np.full((len(b["x"]), 3), 1 / 3), classes=["yes", "no", "maybe"])
    with pytest.raises(InputError, match="cannot express the classes maybe"):
        distil(teacher, Mean(("yes", "no")), {k: table[k] for k in ("x", "job")}, **QUICK)


def test_answers_from_before(table, teacher):
    soft = teacher.predict(table)
    report = distil(teacher, "linear", table, target="status", soft=soft, **QUICK).report
    assert report.distilled.value < 0.7
    with pytest.raises(InputError, match="soft: 10 answers"):
        distil(teacher, "linear", table, target="status", soft=soft.take(slice(10)), **QUICK)


def test_several_classes(table):
    def answer(batch):
        p = chance(batch)
        return np.stack([p / 2, 1 - p, p / 2], axis=1)

    teacher = wrap(answer, classes=["b", "no", "a"])
    batch = {k: table[k] for k in ("x", "job", "noise")}
    rng = np.random.default_rng(0)
    p = answer(batch)
    truth = [("b", "no", "a")[rng.choice(3, p=row)] for row in p]
    done = distil(teacher, "lightgbm", batch, truth=np.array(truth, dtype=object), **QUICK)
    assert np.abs(done.student.predict(batch).values - p).mean() < 0.15


def test_hardly_any_time(table, teacher):
    done = distil(teacher, "lightgbm", table, target="status", time_limit=0.01, threads=1)
    assert any("too short" in text for text in done.report.notes)
    assert done.report.distilled.value < 0.75
    with pytest.raises(InputError, match="raise the time limit"):
        distil(teacher, "linear", table, target="status", time_limit=0.01, threads=1)
