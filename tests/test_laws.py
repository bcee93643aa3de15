"""Everything in the tables keeps the laws, but for the exceptions below, which must be true ones."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import conjoin
from conjoin import fusion
from conjoin.checks import (
    FITTED_LAWS,
    FUSER_LAWS,
    LEARNER_LAWS,
    MEMBER_LAWS,
    OUTPUT_LAWS,
    FittedCase,
    FuserCase,
    LawBroken,
    LearnerCase,
    MemberCase,
)
from conjoin.errors import NotExportableError
from conjoin.members.onnx import onnx_form
from conjoin.outputs import (
    KINDS,
    Boxes,
    Embeddings,
    Labels,
    Masks,
    Probabilities,
    Quantiles,
    Ranking,
    Spans,
    Texts,
    Values,
)
from conjoin.scores import default_score
from conjoin.train.learners import LEARNERS

WORLDS = ("binary", "multiclass", "values", "quantiles")
CLASSES = WORLDS[:2]
LEARNED = "what it learned of a member it also does to that member alone"
FIXED = "its weights do not come from this loss"
EXCEPTIONS = {
    ("vote", "one member is that member"): ("one member's shares of votes are 0 and 1", CLASSES),
    ("fit log_pool", "one member is that member"): (LEARNED, CLASSES),
    ("fit class_weights", "one member is that member"): (LEARNED, CLASSES),
    ("fit stacking", "one member is that member"): (LEARNED, WORLDS),
    ("fit nnls", "one member is that member"): (LEARNED, ("values",)),
    ("fit gate", "one member is that member"): (LEARNED, CLASSES),
    ("fit network", "one member is that member"): (LEARNED, WORLDS),
    ("fit equal_weights", "never worse than the best"): (FIXED, WORLDS),
    ("fit inverse_error", "never worse than the best"): (FIXED, ("binary", "multiclass", "quantiles")),
    ("function", "survives saving"): ("code cannot be saved", ("member",)),
    ("labels", "survives saving"): ("labels have no ONNX form yet", ("member",)),
}
"""(thing, law) -> why it is not kept, and in which worlds. There it is run, and must be broken."""

NOT_FOR = {
    "vote": ("values", "quantiles"),
    "log_pool": ("values", "quantiles"),
    "product": ("values", "quantiles"),
    "nnls": ("quantiles",),
}
"""Kinds of worlds that a fuser refuses."""


def world(kind, n=120):
    """Outputs of four members of falling skill, and the truth."""
    rng = np.random.default_rng(1)
    skill = dict(zip("dbca", (2.0, 1.2, 0.7, 0.4), strict=True))
    if kind in ("binary", "multiclass"):
        classes = ("no", "yes") if kind == "binary" else ("x", "y", "z")
        truth = rng.integers(0, len(classes), n)
        outputs = {}
        for name, s in skill.items():
            z = 2 * rng.normal(size=(n, len(classes))) + s * 2 * np.eye(len(classes))[truth]
            outputs[name] = Probabilities(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), classes)
        return outputs, Labels(truth, classes)
    y = rng.normal(size=n)
    if kind == "values":
        return {m: Values(y + rng.normal(size=n) / s) for m, s in skill.items()}, Values(y)
    at = np.array([-1.28, 0, 1.28])
    made = {
        m: Quantiles(0.7 * y[:, None] + (rng.normal(size=(n, 1)) * 0.4 + at) / s, (0.1, 0.5, 0.9))
        for m, s in skill.items()
    }
    return made, Values(y)


def hold(name, kind, law, check, case):
    """The law holds, or is broken as EXCEPTIONS says."""
    if kind in EXCEPTIONS.get((name, law), ("", ()))[1]:
        with pytest.raises((LawBroken, NotExportableError)):
            check(case)
    else:
        check(case)


def pairs(table):
    return [(n, w) for n in table for w in WORLDS if w not in NOT_FOR.get(n, ())]


@pytest.mark.parametrize("law", FUSER_LAWS)
@pytest.mark.parametrize(("name", "kind"), pairs(fusion.FUSERS))
def test_fusers(name, kind, law):
    hold(name, kind, law, FUSER_LAWS[law], FuserCase(fusion.FUSERS[name], world(kind)[0]))


@pytest.fixture(scope="module")
def fitted():
    """(name, kind) -> the case of a fit function, fitted once."""
    made = {}

    def case(name, kind):
        if (name, kind) not in made:
            outputs, truth = world(kind)
            score = default_score(outputs["a"])
            made[name, kind] = FittedCase(fusion.FIT_FUSERS[name], outputs, truth, score)
        return made[name, kind]

    return case


@pytest.mark.parametrize("law", [*FITTED_LAWS, *FUSER_LAWS])
@pytest.mark.parametrize(("name", "kind"), pairs(fusion.FIT_FUSERS))
def test_fitted_fusers(fitted, name, kind, law):
    case = fitted(name, kind)
    if law in FITTED_LAWS:
        hold(f"fit {name}", kind, law, FITTED_LAWS[law], case)
    else:
        hold(f"fit {name}", kind, law, FUSER_LAWS[law], FuserCase(case.fuser, case.outputs))


RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(RNG.normal(size=(60, 2)).astype(np.float32).astype(float), columns=["u", "v"])
BATCH = {n: FRAME[n].to_numpy() for n in FRAME} | {"id": np.arange(60)}
Y = np.where(FRAME["u"] + 0.5 * RNG.normal(size=60) > 0, "yes", "no")
NUMBER = FRAME["u"].to_numpy() * 2 + FRAME["v"].to_numpy()


def lightgbm():
    module = pytest.importorskip("lightgbm")
    return conjoin.wrap(module.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1).fit(FRAME, Y))


def xgboost():
    module = pytest.importorskip("xgboost")
    return conjoin.wrap(module.XGBRegressor(n_estimators=5, n_jobs=1).fit(FRAME, NUMBER))


def catboost():
    module = pytest.importorskip("catboost")
    model = module.CatBoostRegressor(
        iterations=5,
        verbose=0,
        allow_writing_files=False,
        thread_count=1,
        loss_function="MultiQuantile:alpha=0.2,0.8",
    )
    return conjoin.wrap(model.fit(FRAME, NUMBER))


def torch():
    module = pytest.importorskip("torch")
    return conjoin.wrap(module.nn.Linear(2, 3), classes="abc", softmax=True, columns=["u", "v"])


def line():
    return conjoin.wrap(LogisticRegression().fit(FRAME, Y), name="line")


def forest():
    return conjoin.wrap(RandomForestClassifier(5, random_state=0).fit(FRAME, Y), name="forest")


MEMBERS = {
    "sklearn": line,
    "pipeline": lambda: conjoin.wrap(make_pipeline(StandardScaler(), LogisticRegression()).fit(FRAME, Y)),
    "array": lambda: conjoin.wrap(
        HistGradientBoostingRegressor(max_iter=5).fit(FRAME.to_numpy(), NUMBER), columns=["u", "v"]
    ),
    "labels": lambda: conjoin.wrap(RidgeClassifier().fit(FRAME, Y)),
    "lightgbm": lightgbm,
    "xgboost": xgboost,
    "catboost": catboost,
    "torch": torch,
    "onnx": lambda: onnx_form(line()),
    "function": lambda: conjoin.wrap(lambda b: 1 / (1 + np.exp(-b["u"])), classes=["no", "yes"]),
    "predictions": lambda: conjoin.wrap(Values(NUMBER[:40]), key="id", keys=range(40)),
    "position": lambda: conjoin.wrap(Values(NUMBER)),
    "ensemble": lambda: conjoin.Ensemble({"line": line(), "forest": forest()}, fusion.log_pool),
    "graph": lambda: conjoin.Ensemble({"a": onnx_form(line()), "b": onnx_form(forest())}, fusion.median),
    "fitted": lambda: conjoin.Ensemble({"a": line(), "b": forest()}, fusion.fit_log_pool).fit(BATCH, Y),
}


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    """Saves a member as a bundle and loads it."""
    folder = tmp_path_factory.mktemp("bundles")

    def through(member):
        conjoin.save(member, folder / "kept.conjoin", force=True)
        return conjoin.load(folder / "kept.conjoin")

    return through


@pytest.fixture(scope="module")
def member_case(codec):
    made = {}

    def case(name):
        if name not in made:
            made[name] = MemberCase(MEMBERS[name](), BATCH, codec)
        return made[name]

    return case


@pytest.mark.parametrize("law", MEMBER_LAWS)
@pytest.mark.parametrize("name", MEMBERS)
def test_members(member_case, name, law):
    hold(name, "member", law, MEMBER_LAWS[law], member_case(name))


class FitOne:
    """`conjoin.fit` with a single learner of the portfolio."""

    def __init__(self, name):
        self.name = name

    def fit(self, batch, truth, /, *, seed):
        column = truth.names() if isinstance(truth, Labels) else truth.values
        return conjoin.fit(
            {**batch, "target": column},
            target="target",
            members=(self.name,),
            folds=2,
            time_limit=60,
            seed=seed,
        )


@pytest.mark.parametrize("name", LEARNERS)
def test_learners(name, codec):
    pytest.importorskip(LEARNERS[name].module)
    batch = {n: BATCH[n] for n in "uv"}
    truth = Values(NUMBER) if name in ("linear", "lightgbm") else Labels.of(Y.tolist())
    case = LearnerCase(FitOne(name), batch, truth)
    for law in LEARNER_LAWS.values():
        law(case)
    for law in MEMBER_LAWS.values():
        law(MemberCase(case.member, batch, codec))


ANSWERED = np.array([True, False, True])
OUTPUTS = {
    "probabilities": Probabilities(np.array([[0.1, 0.9], [0.5, 0.5], [1, 0]]), ("a", "b"), ANSWERED),
    "values": Values(np.array([1.0, 2, 3]), ANSWERED),
    "quantiles": Quantiles(np.array([[1.0, 2], [2, 3], [3, 4]]), (0.1, 0.9), ANSWERED),
    "labels": Labels([0, -1, 1], ("a", "b")),
    "embeddings": Embeddings(np.ones((3, 4)), ANSWERED),
    "masks": Masks(np.ones((3, 2, 2)), answered=ANSWERED),
    "texts": Texts(["a", "", "é"], answered=ANSWERED),
    "ranking": Ranking(["x", "y", "z"], [0.9, 0.8, 0.7], [0, 2, 2, 3], ANSWERED),
    "boxes": Boxes(np.ones((3, 4)), [0.9, 0.8, 0.7], [0, 1, 0], [0, 2, 2, 3], ("a", "b"), ANSWERED),
    "spans": Spans([0, 1, 2], [1, 2, 3], [0.9, 0.8, 0.7], [0, 1, 0], [0, 2, 2, 3], ("a", "b"), ANSWERED),
}


@pytest.mark.parametrize("law", OUTPUT_LAWS)
@pytest.mark.parametrize("kind", KINDS)
def test_outputs(kind, law):
    hold(kind, "output", law, OUTPUT_LAWS[law], OUTPUTS[kind])


def test_every_exception_names_a_thing_and_a_law():
    laws = {**MEMBER_LAWS, **LEARNER_LAWS, **FUSER_LAWS, **FITTED_LAWS, **OUTPUT_LAWS}
    things = {*MEMBERS, *KINDS, *fusion.FUSERS, *(f"fit {n}" for n in fusion.FIT_FUSERS)}
    for (thing, law), (reason, worlds) in EXCEPTIONS.items():
        assert thing in things
        assert law in laws
        assert reason
        assert worlds
