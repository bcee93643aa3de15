"""scikit-learn's estimators against their own predict, and what is refused."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
from sklearn import ensemble, linear_model, naive_bayes, neighbors, neural_network, pipeline, svm, tree
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, PolynomialFeatures, StandardScaler
from threadpoolctl import threadpool_limits

from conjoin.contracts import Column
from conjoin.errors import BundleError, NotExportableError
from conjoin.graph.linear import Linear
from conjoin.graph.nearest import Nearest
from conjoin.graph.trees import Trees
from conjoin.members.columns import frame
from conjoin.members.convert import convert, convert_columns, forest_trees
from conjoin.members.convert.foreign import Chain, OnnxModel
from conjoin.members.convert.probes import verified
from conjoin.tables import conform

from .worlds import agree, rows, strange, truths

RNG = np.random.default_rng(1)
X = rows(RNG)
ODD = strange(RNG, X)
Y = truths(RNG, X)
FULL = np.nan_to_num(X, nan=0.25)
NEW = np.nan_to_num(ODD, nan=-0.25, posinf=2, neginf=-2).clip(-50, 50)
GAPS = np.where(np.isinf(ODD), np.float32(2), ODD)


@pytest.fixture(autouse=True)
def _one_thread():
    with threadpool_limits(1):
        yield


FORESTS = {
    "random": partial(ensemble.RandomForestClassifier, 12, random_state=0),
    "random, impure": partial(ensemble.RandomForestClassifier, 12, min_samples_leaf=5, random_state=0),
    "extra": partial(ensemble.ExtraTreesClassifier, 12, random_state=0),
    "tree": partial(tree.DecisionTreeClassifier, max_depth=6, random_state=0),
    "random tree": partial(tree.ExtraTreeClassifier, random_state=0),
    "random, values": partial(ensemble.RandomForestRegressor, 12, random_state=0),
    "extra, values": partial(ensemble.ExtraTreesRegressor, 12, random_state=0),
    "tree, values": partial(tree.DecisionTreeRegressor, max_depth=6, random_state=0),
}


@pytest.mark.parametrize("name", FORESTS)
def test_forests(name: str) -> None:
    for target in ["far"] if "values" in name else ["binary", "classes"]:
        model = FORESTS[name]().fit(X, Y[target])
        thresholds = (model.estimators_[0] if "tree" not in name else model).tree_.threshold
        thresholds = thresholds[np.isfinite(thresholds)]
        x = np.where(RNG.random(X.shape) < 0.2, RNG.choice(thresholds, X.shape).astype(np.float32), GAPS)
        native = model.predict_proba(x) if target != "far" else model.predict(x)
        agree(convert(model), native, x, shares=target != "far")


def test_forest_of_several_targets() -> None:
    both = np.stack([Y["value"], Y["far"]], axis=1)
    model = ensemble.RandomForestRegressor(8, random_state=0).fit(X, both)
    agree(convert(model), model.predict(GAPS), GAPS, shares=False)
    labels = np.stack([Y["binary"], Y["classes"]], axis=1)
    with pytest.raises(NotExportableError, match="several targets"):
        convert(ensemble.RandomForestClassifier(2).fit(X, labels))


def test_forest_that_saw_some_of_the_classes() -> None:
    seen = Y["classes"] != 1
    model = ensemble.ExtraTreesClassifier(6, random_state=0).fit(X[seen], Y["classes"][seen])
    expected = np.insert(model.predict_proba(GAPS), 1, 0.0, axis=1)
    agree(forest_trees(model, classes=3), expected, GAPS, shares=True)


@pytest.mark.parametrize("loss", ["log_loss", "squared_error", "quantile"])
def test_gradient_boosting(loss: str) -> None:
    kind = ensemble.GradientBoostingClassifier if loss == "log_loss" else ensemble.GradientBoostingRegressor
    for target in ["binary", "classes"] if loss == "log_loss" else ["far"]:
        model = kind(n_estimators=10, loss=loss, random_state=0).fit(FULL, Y[target])
        native = model.predict_proba(NEW) if loss == "log_loss" else model.predict(NEW)
        agree(convert(model), native, NEW, shares=loss == "log_loss")


def test_gradient_boosting_that_has_no_form() -> None:
    with pytest.raises(NotExportableError, match="exponential"):
        convert(
            ensemble.GradientBoostingClassifier(n_estimators=2, loss="exponential").fit(FULL, Y["binary"])
        )
    start = linear_model.Ridge()
    with pytest.raises(NotExportableError, match="another model"):
        convert(ensemble.GradientBoostingRegressor(n_estimators=2, init=start).fit(FULL, Y["value"]))


@pytest.mark.parametrize("categories", [None, [4, 5]], ids=["numbers", "categories"])
@pytest.mark.parametrize("target", ["binary", "classes", "far", "positive"])
def test_histogram_gradient_boosting(target: str, categories: list[int] | None) -> None:
    given = {"max_iter": 8, "categorical_features": categories, "random_state": 0, "early_stopping": False}
    x = X.copy()
    x[:, 5] *= 3  # categories need not be 0, 1, 2
    new = ODD.copy()
    if categories:
        new[:, 4:] = np.where(np.isfinite(new[:, 4:]), np.floor(new[:, 4:]), np.nan).clip(-5, 90)
    if target in ("binary", "classes"):
        model = ensemble.HistGradientBoostingClassifier(**given).fit(x, Y[target])
        native = model.predict_proba(new)
    else:
        loss = "poisson" if target == "positive" else "squared_error"
        model = ensemble.HistGradientBoostingRegressor(loss=loss, **given).fit(x, Y[target])
        native = model.predict(new)
    agree(convert(model), native, new, shares=target in ("binary", "classes"))
    agree(convert(model), native, new.astype(np.float64), shares=target in ("binary", "classes"))


def test_histogram_categories_that_are_no_codes() -> None:
    x = X.copy()
    x[:, 5] -= 2
    model = ensemble.HistGradientBoostingRegressor(max_iter=2, categorical_features=[5]).fit(x, Y["value"])
    with pytest.raises(NotExportableError, match="whole numbers from 0"):
        convert(model)


LINEAR = {
    "LogisticRegression": ("binary", linear_model.LogisticRegression()),
    "LogisticRegression, classes": ("classes", linear_model.LogisticRegression()),
    "SGDClassifier": ("binary", linear_model.SGDClassifier(loss="log_loss", random_state=0)),
    "SGDClassifier, classes": (
        "classes",
        linear_model.SGDClassifier(loss="log_loss", alpha=1, random_state=0),
    ),
    "LinearDiscriminantAnalysis": ("classes", LinearDiscriminantAnalysis()),
    "LinearRegression": ("far", linear_model.LinearRegression()),
    "Ridge": ("far", linear_model.Ridge()),
    "Lasso": ("far", linear_model.Lasso(0.01)),
    "ElasticNet": ("value", linear_model.ElasticNet(0.01)),
    "PoissonRegressor": ("positive", linear_model.PoissonRegressor()),
    "TweedieRegressor": ("value", linear_model.TweedieRegressor(power=0)),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear(name: str) -> None:
    target, model = LINEAR[name]
    x = StandardScaler().fit_transform(FULL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence
        model.fit(x, Y[target])
    part = convert(model)
    assert isinstance(part, Linear)
    shares = target in ("binary", "classes")
    native = model.predict_proba(x) if shares else model.predict(x)
    agree(part, native, x.astype(np.float64), shares=shares)
    agree(Linear.unpack(*part.pack(), {}), native, x.astype(np.float64), shares=shares)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("target", ["classes", "far", "both"])
def test_nearest_neighbours(weights: str, target: str) -> None:
    x, new = FULL[:, :3].astype(np.float64), NEW[:, :3].astype(np.float64)
    new[:20] = x[:20]  # at distance 0
    x += 1e-3 * RNG.normal(size=x.shape)
    new[:20] = x[:20]
    if target == "classes":
        model = neighbors.KNeighborsClassifier(7, weights=weights).fit(x, Y[target])
        agree(convert(model), model.predict_proba(new), new, shares=True)
    else:
        y = Y[target] if target == "far" else np.stack([Y["far"], Y["value"]], axis=1)
        model = neighbors.KNeighborsRegressor(7, weights=weights).fit(x, y)
        agree(convert(model), model.predict(new), new, shares=False)
        agree(Nearest.unpack(*convert(model).pack(), {}), model.predict(new), new, shares=False)


def test_nearest_neighbours_that_have_no_form() -> None:
    with pytest.raises(NotExportableError, match="manhattan"):
        convert(neighbors.KNeighborsRegressor(metric="manhattan").fit(FULL, Y["value"]))
    arrays, meta = convert(neighbors.KNeighborsRegressor().fit(FULL, Y["value"])).pack()
    with pytest.raises(BundleError, match="do not fit"):
        Nearest.unpack({**arrays, "codes": arrays["codes"] + 1}, meta, {})


SCALED = partial(pipeline.make_pipeline, StandardScaler())
PERCEPTRON = {"hidden_layer_sizes": (8,), "max_iter": 20, "random_state": 0}
FOREIGN = {
    "naive Bayes": ("classes", naive_bayes.GaussianNB(), OnnxModel),
    "support vectors": ("binary", svm.SVC(probability=True, random_state=0), OnnxModel),
    "perceptron": ("classes", neural_network.MLPClassifier(**PERCEPTRON), OnnxModel),
    "scaled logistic": ("classes", SCALED(linear_model.LogisticRegression()), Chain),
    "bagged trees": ("binary", ensemble.BaggingClassifier(n_estimators=3, random_state=0), OnnxModel),
    "polynomial": ("far", SCALED(PolynomialFeatures(), linear_model.Ridge()), Chain),
    "perceptron, values": ("value", neural_network.MLPRegressor(**PERCEPTRON), OnnxModel),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.filterwarnings("ignore")
def test_through_skl2onnx(name: str) -> None:
    target, model, kind = FOREIGN[name]
    x = FULL.astype(np.float64)
    model.fit(x, Y[target])
    part = convert(model)
    assert isinstance(part, kind)
    native = model.predict_proba(x) if target in ("binary", "classes") else model.predict(x)
    agree(part, native, x, shares=target in ("binary", "classes"))
    convert(model, probe=x[:50])


def test_search_and_short_pipelines_are_what_they_hold() -> None:
    search = GridSearchCV(tree.DecisionTreeRegressor(random_state=0), {"max_depth": [2, 3]}, cv=2)
    assert isinstance(convert(search.fit(FULL, Y["value"])), Trees)
    assert isinstance(convert(pipeline.make_pipeline(linear_model.Ridge()).fit(FULL, Y["value"])), Linear)


def test_what_has_no_form() -> None:
    with pytest.raises(NotExportableError, match="no probabilities"):
        convert(svm.LinearSVC().fit(FULL[:, :2], Y["binary"]))
    with pytest.raises(NotExportableError, match="neither a classifier"):
        convert(StandardScaler().fit(FULL))
    with pytest.raises(NotExportableError, match="no ONNX form here"):
        convert(object())


def test_conversion_that_answers_otherwise_is_refused() -> None:
    model = linear_model.Ridge().fit(FULL[:, :2], Y["value"])
    other = linear_model.Ridge().fit(FULL[:, :2], Y["value"] + FULL[:, 0])
    x = FULL[:, :2].astype(np.float64)
    feeds = {"x0": x[:, :1], "x1": x[:, 1:]}

    def emit(graph):
        return convert(other).emit(graph, graph.concat([graph.column(Column(n, "number")) for n in feeds]))

    with pytest.raises(NotExportableError, match=r"answers otherwise than Ridge: up to .* probe rows"):
        verified(emit, model.predict(x), feeds, name="Ridge", shares=False)


COLUMNS = (
    Column("age x", "number"),
    Column("inc é", "number"),
    Column("city", "category"),
    Column("job", "category"),
)


def people(n: int = 300) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {
        "age x": np.where(rng.random(n) < 0.1, np.nan, rng.integers(18, 90, n)),
        "inc é": rng.lognormal(8, 1, n),
        "city": rng.choice(np.array(["a", "b b", "c"], dtype=object), n),
        "job": rng.choice(np.array(["x", "y", "é"], dtype=object), n),
    }


@pytest.mark.parametrize("last", ["logistic", "forest", "histograms", "support vectors"])
def test_pipeline_over_a_dataframe(last: str) -> None:
    numbers = pipeline.make_pipeline(SimpleImputer(), StandardScaler())
    words = (
        OrdinalEncoder() if last == "forest" else OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    )
    before = ColumnTransformer([("n", numbers, ["age x", "inc é"]), ("w", words, ["city", "job"])])
    models = {
        "logistic": linear_model.LogisticRegression(),
        "forest": ensemble.RandomForestClassifier(10, random_state=0),
        "histograms": ensemble.HistGradientBoostingClassifier(max_iter=5),
        "support vectors": svm.SVC(probability=True, random_state=0),
    }
    batch = people()
    shown = partial(frame, names=[c.name for c in COLUMNS])
    labels = np.where(batch["city"] == "a", "no", "yes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = pipeline.make_pipeline(before, models[last]).fit(shown(batch), labels)
    part = convert_columns(model, COLUMNS, frame=shown)
    native = model.predict_proba(shown(batch))
    verified(part.emit, native, conform(batch, COLUMNS), name="the pipeline", shares=True)


def test_text_that_onnx_cannot_split() -> None:
    batch = {"text": np.array(["red blue", "green", "blue"] * 10, dtype=object), "n": np.arange(30.0)}
    columns = (Column("n", "number"), Column("text", "text"))
    shown = partial(frame, names=["n", "text"])
    before = ColumnTransformer([("n", StandardScaler(), ["n"]), ("t", TfidfVectorizer(), "text")])
    model = pipeline.make_pipeline(before, linear_model.Ridge()).fit(shown(batch), np.arange(30.0))
    with pytest.raises(NotExportableError, match=r"com\.microsoft"):
        convert_columns(model, columns, frame=shown)
