import numpy as np
import pytest

from conjoin import checks, fusion
from conjoin.checks import LawBroken, first_difference
from conjoin.contracts import Card, Column
from conjoin.errors import ConjoinError, InputError
from conjoin.members import wrap
from conjoin.outputs import Labels, Probabilities, Ranking, Values
from conjoin.scores import SCORES

BATCH = {"x": np.linspace(0.1, 0.9, 8)}
P = Probabilities(np.stack([1 - BATCH["x"], BATCH["x"]], axis=1), ["no", "yes"])


class Odd:
    def __init__(self, answer, **card):
        self.card = Card("odd", **{"kind": "values", **card})
        self.answer = answer

    def predict(self, batch, /):
        return self.answer(batch)


def state():
    calls = iter(range(1000))
    return lambda b: Values(b["x"] + next(calls))


def known(batch):
    return P.take(slice(0, len(batch["x"])))


def spoils(batch):
    batch["x"][:] = 0
    return Values(batch["x"])


@pytest.mark.parametrize(
    ("member", "law", "row"),
    [
        (Odd(lambda b: Values(b["x"][:1])), "answers every row", None),
        (Odd(lambda b: Values(np.append(b["x"], 1)), rowwise=True), "answers every row", None),
        (Odd(lambda b: Labels.of(["a"] * len(b["x"]))), "keeps its card", None),
        (Odd(lambda b: Values(np.where(b["x"] > 0.5, np.nan, b["x"]))), "keeps its card", 4),
        (Odd(known, kind="probabilities", classes=("a", "b")), "keeps its card", None),
        (Odd(state()), "same batch, same answer", 0),
        (Odd(lambda b: Values(np.arange(len(b["x"])))), "rows are independent", 0),
        (Odd(lambda b: Values(b["x"] / len(b["x"]))), "rows are independent", 0),
        (Odd(spoils, deterministic=True), "leaves the batch alone", None),
        (
            Odd(lambda b: Values(next(iter(b.values())) * 1.0), columns=(Column("x", "number"),)),
            "reads columns by name",
            0,
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_members_that_break_a_law(member, law, row):
    with pytest.raises(LawBroken) as caught:
        checks.check_member(member, {n: a.copy() for n, a in BATCH.items()})
    assert (caught.value.law, caught.value.row) == (law, row)
    assert caught.value.subject == "member 'odd'"
    assert isinstance(caught.value, AssertionError)
    assert isinstance(caught.value, ConjoinError)


def test_laws_can_be_left_out():
    member = Odd(lambda b: Values(np.arange(len(b["x"]))))
    checks.check_member(member, BATCH, skip=["rows are independent"])
    with pytest.raises(InputError, match=r"no law nonsense; the laws are answers every row"):
        checks.check_member(member, BATCH, skip=["nonsense"])


def test_saving_is_checked_with_a_codec():
    member = wrap(lambda b: b["x"], kind="values")
    checks.check_member(member, BATCH, codec=lambda m: m)
    with pytest.raises(LawBroken, match="its card came back different"):
        checks.check_member(member, BATCH, codec=lambda m: m.named("other"))
    with pytest.raises(LawBroken, match="loaded, it differs"):
        checks.check_member(member, BATCH, codec=lambda m: wrap(lambda b: b["x"] + 1, kind="values"))


class Means:
    """A learner of the mean, with a fault to choose."""

    def __init__(self, fault=None):
        self.fault = fault

    def fit(self, batch, truth, /, *, seed):
        if self.fault == "spoils":
            batch["x"][:] = 0
        level = float(truth.values.mean()) + (np.random.default_rng().normal() if self.fault == "seed" else 0)
        if self.fault == "kind":
            return wrap(lambda b: np.ones((len(b["x"]), 2)) / 2, classes=["a", "b"])
        return 3 if self.fault == "nothing" else wrap(lambda b: np.full(len(b["x"]), level), kind="values")


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        ("nothing", "makes a member"),
        ("kind", "makes a member"),
        ("seed", "same seed, same member"),
        ("spoils", "changes nothing"),
    ],
)
def test_learners_that_break_a_law(fault, law):
    batch, truth = {"x": BATCH["x"].copy()}, Values(BATCH["x"])
    with pytest.raises(LawBroken, match=f"learner 'Means' breaks the law '{law}'"):
        checks.check_learner(Means(fault), batch, truth)


def test_a_learner_that_keeps_them():
    checks.check_learner(Means(), BATCH, Values(BATCH["x"]))


OUTPUTS = {"a": Values([1.0, 2, 3, 4]), "b": Values([2.0, 2, 2, 2]), "c": Values([0.0, 1, 0, 1])}


def first(outputs, /, *, batch=None):
    return next(iter(outputs.values()))


def shifted(outputs, /, *, batch=None):
    return Values(fusion.mean(outputs).values + 1)


def counted(outputs, /, *, weights=None, batch=None):
    return Values(sum(o.values for o in outputs.values()) / len(outputs))


def invented(outputs, /, *, batch=None):
    return Values(np.nan_to_num(fusion.mean(outputs).values))


def centred(outputs, /, *, batch=None):
    if len(outputs) == 1:
        return first(outputs)
    mean = fusion.mean(outputs)
    return Values(mean.values - np.nanmean(mean.values), mean.answered)


def spoiled(outputs, /, *, batch=None):
    outputs["a"].values[0] += 1
    return first(outputs)


@pytest.mark.parametrize(
    ("fuser", "law"),
    [
        (lambda outputs: 3, "one answer per row"),
        (spoiled, "one answer per row"),
        (first, "order does not matter"),
        (shifted, "one member is that member"),
        (counted, "weight 0 is absent"),
        (invented, "unanswered stays unanswered"),
        (centred, "unanswered stays unanswered|chunks are the whole"),
    ],
)
def test_fusers_that_break_a_law(fuser, law):
    outputs = {n: Values(o.values.copy()) for n, o in OUTPUTS.items()}
    with pytest.raises(LawBroken, match=law):
        checks.check_fuser(fuser, outputs)


def test_a_fuser_that_keeps_them():
    checks.check_fuser(fusion.mean, OUTPUTS)
    with pytest.raises(InputError, match="at least two members, not 1"):
        checks.check_fuser(fusion.mean, {"a": OUTPUTS["a"]})


def test_fitted_fusers():
    truth = Values([1.0, 2, 3, 5])
    checks.check_fitted_fuser(fusion.fit_linear_pool, OUTPUTS, truth, SCORES["rmse"])
    with pytest.raises(LawBroken, match=r"fit_mean.*never worse than the best.*the best member has"):
        checks.check_fitted_fuser(fusion.fit_mean, OUTPUTS, truth, SCORES["rmse"])
    with pytest.raises(LawBroken, match="cannot be packed"):
        checks.check_fitted_fuser(lambda o, t: lambda out: out["a"], OUTPUTS, truth, SCORES["rmse"])


def test_first_difference():
    a = Values([1.0, np.nan, 3.0], [True, False, True])
    assert first_difference(a, a) is None
    assert first_difference(a, Values([1.0, 2.0, 3.0])) == 1
    assert first_difference(a, Values([1.0, np.nan, 3.0 + 1e-9], [True, False, True])) == 2
    assert first_difference(a, Values([1.0, np.nan, 3.0 + 1e-9], [True, False, True]), 1e-6) is None
    assert first_difference(a, a.take([0, 1])) == 2
    assert first_difference(a, Labels([0, 0, 0], ["a"])) == 0
    lists = Ranking([1, 2, 3], [0.9, 0.8, 0.7], [0, 2, 2, 3])
    assert first_difference(lists, lists) is None
    assert first_difference(lists, Ranking([1, 2, 3], [0.9, 0.8, 0.6], [0, 2, 2, 3])) == 2
