"""Dynamic selection: formulas worked by hand, the laws, bad input, and rows that lie nowhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conjoin.checks import FITTED_LAWS, FUSER_LAWS, FittedCase, FuserCase
from conjoin.errors import BundleError, ColumnError, InputError, OutputsError, TruthError
from conjoin.fusion import fit_mean
from conjoin.fusion.dynamic import FIT_FUSERS, DynamicSelection, fit_dynamic, fit_knora_e, fit_meta_des
from conjoin.fusion.dynamic.competence import COMPETENCE, Around, Known
from conjoin.fusion.dynamic.options import RULES, Options
from conjoin.fusion.dynamic.region import nearest_of_each_class, nearest_rows
from conjoin.fusion.dynamic.selection import hardness, unpruned, weigh
from conjoin.fusion.single import Single
from conjoin.outputs import Labels, Probabilities, Values
from conjoin.scores import SCORES

from .world import CLASSES, world

COMPLETE = [n for n in FIT_FUSERS if n != "meta_des"]


def around(rule: str, votes: list, codes: list, at: list, asked: list, **options: object) -> Around:
    """A region of hand-made votes (rows fitted to x members)."""
    known = Known(np.array([*codes, -1]), np.array([*votes, [-1] * len(votes[0])]))
    places = np.array(at)
    far = np.arange(1.0, places.shape[1] + 1)[None].repeat(len(places), axis=0)
    made = Options.of({"rule": rule, "k": places.shape[1], **options})
    return Around(known, places, far, np.array(asked), 2, made)


VOTES = [[0, 0, 1], [1, 0, 1], [1, 1, 0], [0, 0, 0]]
CODES = [0, 1, 1, 0]  # right: [1 1 0] [1 0 1] [1 1 0] [1 1 1]


def test_competences_by_hand() -> None:
    at, asked = [[0, 1, 2]], [[1, 0, 1]]
    expected = {
        "knora_e": [3, 1, 0],
        "rank": [3, 1, 0],
        "knora_u": [3, 2, 1],
        "ola": [1, 2 / 3, 1 / 3],
        "lca": [1, 1, 1 / 2],  # neighbours of class 1: rows 1 and 2; of class 0: row 0
        "mla": [1, 1, (1 / 2) / (1 / 2 + 1 / 3)],
    }
    for rule, numbers in expected.items():
        assert COMPETENCE[rule](around(rule, VOTES, CODES, at, asked))[0] == pytest.approx(numbers), rule
    alike = around("mcb", VOTES, CODES, at, asked, similarity_threshold=0.7)  # only row 1 votes 1 0 1
    assert COMPETENCE["mcb"](alike)[0].tolist() == [1, 0, 1]
    nothing = around("mcb", VOTES, CODES, [[0, 2, 3]], [[1, 0, 0]], similarity_threshold=0.9)
    assert COMPETENCE["mcb"](nothing)[0] == pytest.approx([1, 1, 1 / 3])


def test_a_row_that_a_member_skipped() -> None:
    votes = [[0, -1, 1], *VOTES[1:]]
    some = around("ola", votes, CODES, [[0, 1, 2, -1]], [[1, 0, 1]])
    assert COMPETENCE["ola"](some)[0] == pytest.approx([1, 1 / 2, 1 / 3])
    assert COMPETENCE["knora_e"](some)[0].tolist() == [3, 0, 0]


def test_selection_by_hand() -> None:
    present = np.ones((1, 3), bool)

    def weights(rule: str, competence: list, there: np.ndarray = present, **options: object) -> list:
        region = around(rule, VOTES, CODES, [[0, 1, 2]], [[1, 0, 1]], **options)
        return weigh(region, np.array([competence], float), there)[0].tolist()

    assert weights("knora_e", [2, 2, 1]) == [1, 1, 0]
    assert weights("knora_e", [2, 2, 1], np.array([[False, False, True]])) == [0, 0, 1]
    assert weights("knora_u", [0, 2, 1], mode="weighting") == [0, 2, 1]
    assert weights("knora_u", [0, 0, 0], mode="weighting") == [1, 1, 1]
    assert weights("des_p", [0.5, 0.6, 0.7]) == [0, 1, 1]
    assert weights("meta_des", [0.4, 0.6, 0.7], mode="hybrid") == [0, 0.6, 0.7]
    assert weights("ola", [0.7, 0.7, 0.1]) == [1, 0, 0]
    assert weights("ola", [0.7, 0.7, 0.1], selection="all") == [1, 1, 0]
    assert weights("mcb", [0.7, 0.65, 0.1], selection="diff") == [1, 1, 0]
    # of the two most accurate the more diverse: both wrong on no neighbour beats
    assert sum(weights("des_knn", [1, 2 / 3, 1 / 3], pct_accuracy=0.7, pct_diversity=0.3)) == 1


def test_pruning_and_hardness_by_hand() -> None:
    region = around("knora_e", VOTES, CODES, [[0, 1, 2], [0, 3, -1]], [[1, 0, 1], [0, 1, 1]], dfp=True)
    # member 2 is right on row 1 alone, so in one class; the second region is of one class: safe
    assert unpruned(region).tolist() == [[True, True, False], [True, True, True]]
    hard, shares = hardness(region)
    assert hard == pytest.approx([1 / 3, 0])
    assert shares == pytest.approx(np.array([[1 / 3, 2 / 3], [1, 0]]))


def test_diversity_of_pairs() -> None:
    from conjoin.fusion.dynamic.competence import diversity

    at, asked = [[0, 1, 2]], [[1, 0, 1]]
    assert diversity(around("des_knn", VOTES, CODES, at, asked))[0] == pytest.approx([0, 0, 0])
    bad = [[1, 1, 1], [0, 0, 1], [1, 0, 0], [0, 0, 0]]  # right: 000 001 100
    found = diversity(around("des_knn", bad, CODES, at, asked))[0]
    assert found == pytest.approx([-(2 + 1) / 3, -(2 + 2) / 3, -(1 + 2) / 3])
    for metric in ("Q", "ratio"):
        assert diversity(around("des_knn", bad, CODES, at, asked, metric=metric)).shape == (1, 3)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 6), st.integers(1, 9), st.booleans())
@settings(max_examples=40, deadline=None)
def test_nearest_rows_are_the_nearest(seed: int, n: int, d: int, k: int, own: bool) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 3, (n, d)).astype(float)  # many ties
    queries = rows if own else rng.integers(0, 3, (5, d)).astype(float)
    apart = np.arange(n) if own else None
    at, far = nearest_rows(queries, rows, k, apart)
    distances = np.sqrt(((queries[:, None] - rows) ** 2).sum(axis=2))
    if own:
        distances[np.arange(n), np.arange(n)] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, : min(k, n - own)]
    assert (np.take_along_axis(distances, at, 1) == np.take_along_axis(distances, order, 1)).all()
    assert far == pytest.approx(np.take_along_axis(distances, order, 1))
    assert (at == order).all()


@pytest.mark.parametrize("size", [1e-30, 1e25, 1e120])
def test_nearest_rows_of_any_size(size: float) -> None:
    rng = np.random.default_rng(0)
    rows, queries = rng.normal(size=(200, 3)), rng.normal(size=(50, 3))
    at, far = nearest_rows(queries, rows, 5)
    scaled, distances = nearest_rows(queries * size, rows * size, 5)
    assert (at == scaled).all()
    assert distances == pytest.approx(far * size, rel=1e-12, abs=0.0)


def test_equal_numbers_of_each_class() -> None:
    rows = np.array([[0.0], [1], [2], [3], [10], [11]])
    codes = np.array([0, 0, 0, 0, 1, 1])
    at, _ = nearest_of_each_class(np.zeros((1, 1)), rows, codes, 5)
    assert at.tolist() == [[0, 1, 4, 5, 2]]
    at, _ = nearest_of_each_class(rows, rows, codes, 3, np.arange(6))
    assert not (at == np.arange(6)[:, None]).any()


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_uses_the_place(rule: str) -> None:
    rng = np.random.default_rng(0)
    outputs, truth, batch = world(rng, 400)
    asked, answer, later = world(np.random.default_rng(1), 300)
    fuser = FIT_FUSERS[rule](outputs, truth, batch=batch)
    assert isinstance(fuser, DynamicSelection)
    score = SCORES["accuracy"]
    best = max(score.value(o, answer) for o in asked.values())
    gain = 0.0 if rule == "knop" else 0.05
    assert score.value(fuser(asked, batch=later), answer) > best + gain
    again = DynamicSelection.unpack(*fuser.pack(), {})
    a, b = fuser(asked, batch=later), again(asked, batch=later)
    assert (a.values == b.values).all() or np.array_equal(a.values, b.values, equal_nan=True)
    half = {n: o.take(slice(0, 7)) for n, o in asked.items()}
    some = fuser(half, batch={n: v[:7] for n, v in later.items()})
    assert np.array_equal(some.values, a.values[:7], equal_nan=True)


@pytest.mark.parametrize("law", [*FUSER_LAWS, *FITTED_LAWS])
@pytest.mark.parametrize("rule", RULES)
def test_laws(rule: str, law: str) -> None:
    outputs, truth, _ = world(np.random.default_rng(3), 60)
    case = FittedCase(FIT_FUSERS[rule], outputs, truth, SCORES["log_loss"])
    if law in FITTED_LAWS:
        FITTED_LAWS[law](case)
    else:
        if law == "one member is that member":
            outputs = {n: o.align(outputs["both"].classes) for n, o in outputs.items()}
        FUSER_LAWS[law](FuserCase(case.fuser, outputs))


def test_members_and_rows_may_be_missing() -> None:
    outputs, truth, batch = world(np.random.default_rng(0), 200)
    fuser = fit_meta_des(outputs, truth, batch=batch, guard=False)
    some = fuser({"left": outputs["left"], "both": outputs["both"]}, batch=batch)
    assert some.answered.tolist() == (outputs["left"].answered | outputs["both"].answered).tolist()
    assert np.isfinite(some.values[some.answered]).all()
    alone = fuser({"left": outputs["left"]}, batch=batch)
    at = outputs["left"].answered
    assert alone.values[at] == pytest.approx(outputs["left"].align(alone.classes).values[at])
    nobody = {n: Probabilities(o.values[:0], o.classes) for n, o in outputs.items()}
    assert len(fuser(nobody, batch={"x": np.zeros(0), "noise free": np.zeros(0)})) == 0


def test_given_neighbours_are_the_ones_found() -> None:
    outputs, truth, batch = world(np.random.default_rng(0), 150, skipped=False)
    asked, _, later = world(np.random.default_rng(1), 40, skipped=False)
    points, ours = batch["x"][:, None], later["x"][:, None]
    found = fit_dynamic(outputs, truth, rule="mla", batch={"x": batch["x"]}, standardise=False, guard=False)
    at, far = nearest_rows(points, points, 8)
    given_batch = {"near": at, "far": far}
    fuser = fit_dynamic(
        outputs, truth, rule="mla", batch=given_batch, neighbours="near", distances="far", guard=False
    )
    at, far = nearest_rows(ours, points, 8)
    a = found(asked, batch={"x": later["x"]})
    b = fuser(asked, batch={"near": at, "far": far})
    assert a.values == pytest.approx(b.values)
    assert fuser.points.shape == (150, 0)
    padded = np.where(np.arange(8) < 3, at, -1)
    assert np.isfinite(fuser(asked, batch={"near": padded, "far": far}).values).all()


def test_easy_rows_take_the_class_of_their_neighbours() -> None:
    outputs, _, batch = world(np.random.default_rng(0), 100, skipped=False)
    sure = Labels(np.zeros(100, int), CLASSES)
    fuser = fit_dynamic(outputs, sure, rule="knora_e", batch=batch, with_ih=True, guard=False)
    votes = np.array([o.align(CLASSES).values.argmax(1) for o in outputs.values()])
    apart = (votes != votes[0]).any(axis=0)
    assert (fuser(outputs, batch=batch).values[apart, fuser.classes.index("no")] == 1).all()


def test_where_it_helps_nothing_the_best_member_is_taken() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, 200)
    good = 0.85 * np.eye(2)[codes] + 0.075
    flip = 0.98 * np.eye(2)[rng.integers(0, 2, 200)] + 0.01
    outputs = {"good": Probabilities(good, "ab"), "bad": Probabilities(flip, "ab")}
    fuser = fit_knora_e(outputs, Labels(codes, "ab"), batch={"x": rng.normal(size=200)}, k=1)
    assert isinstance(fuser, Single)
    assert fuser.needs == ("good",)
    assert isinstance(fit_knora_e({"good": outputs["good"]}, Labels(codes, "ab")), Single)


def test_hard_votes_and_labels() -> None:
    outputs, truth, batch = world(np.random.default_rng(0), 120)
    labels = {n: Labels(o.values.argmax(1), o.classes, o.answered) for n, o in outputs.items()}
    fuser = fit_dynamic(labels, truth, rule="knora_u", batch=batch, voting="hard", guard=False)
    fused = fuser(labels, batch=batch)
    assert fused.values[fused.answered].sum(axis=1) == pytest.approx(1)
    assert SCORES["accuracy"].value(fused, truth) > 0.6


def test_bad_input_is_told() -> None:
    outputs, truth, batch = world(np.random.default_rng(0), 50)
    fuser = fit_knora_e(outputs, truth, batch={"x": batch["x"]}, guard=False)
    for error, told, call in [
        (InputError, "did you mean 'voting'", lambda: fit_knora_e(outputs, truth, votin="soft")),
        (InputError, "did you mean 'knora_e'", lambda: fit_dynamic(outputs, truth, rule="knora-e")),
        (InputError, "k must be a whole number", lambda: fit_knora_e(outputs, truth, k=0)),
        (InputError, "ih_rate must lie from 0 to 0.5", lambda: fit_knora_e(outputs, truth, ih_rate=0.9)),
        (InputError, "safe_k must be at most", lambda: fit_knora_e(outputs, truth, safe_k=9)),
        (ColumnError, "did you mean 'X'", lambda: fuser(outputs, batch={"X": batch["x"]})),
        (ColumnError, "give batch=", lambda: fuser(outputs)),
        (ColumnError, "has 3 rows", lambda: fuser(outputs, batch={"x": np.zeros(3)})),
        (
            ColumnError,
            "must hold numbers",
            lambda: fit_knora_e(outputs, truth, batch=batch, columns=["text"]),
        ),
        (ColumnError, "no column of numbers", lambda: fit_knora_e(outputs, truth, batch={})),
        (OutputsError, "was not fitted to", lambda: fuser({"who": outputs["left"]}, batch=batch)),
        (OutputsError, "probabilities or labels", lambda: fit_knora_e({"v": Values(np.ones(50))}, truth)),
        (TruthError, "truth of labels", lambda: fit_knora_e(outputs, Values(np.ones(50)))),
    ]:
        with pytest.raises(error, match=told):
            call()
    with pytest.raises(ColumnError, match="infinities"):
        fuser(outputs, batch={"x": np.full(50, np.inf)})
    with pytest.raises(ColumnError, match="names rows from"):
        fit_knora_e(outputs, truth, batch={"n": np.full((50, 2), 99)}, neighbours="n")
    broken = Probabilities(np.full((50, 3), np.nan), CLASSES)
    with pytest.raises(OutputsError, match="NaN"):
        fuser({"left": broken}, batch=batch)


def test_numbers_may_be_missing_in_the_batch() -> None:
    outputs, truth, batch = world(np.random.default_rng(0), 80)
    holes = np.where(np.arange(80) % 5, batch["x"], np.nan)
    fuser = fit_knora_e(outputs, truth, batch={"x": holes, "image": np.ones((80, 2, 2))}, guard=False)
    fused = fuser(outputs, batch={"x": holes, "image": np.ones((80, 2, 2))})
    assert np.isfinite(fused.values[fused.answered]).all()


def test_damaged_files_are_refused() -> None:
    outputs, truth, batch = world(np.random.default_rng(0), 50)
    arrays, meta = fit_knora_e(outputs, truth, batch=batch, guard=False).pack()
    for change in (
        {"codes": np.full(50, 7)},
        {"where": np.full(50, 50)},
        {"scales": np.zeros(2)},
        {"answers": np.full((50, 3, 3), np.nan)},
        {"points": np.zeros((3, 2))},
    ):
        with pytest.raises(BundleError):
            DynamicSelection.unpack({**arrays, **change}, meta, {})
    for change in ({"options": {"rule": "no"}}, {"options": 3}, {"members": ["a"]}, {"columns": []}):
        with pytest.raises(BundleError):
            DynamicSelection.unpack(arrays, {**meta, **change}, {})


TABLE = Path(__file__).resolve().parents[4] / "shared" / "data" / "tables" / "phoneme.csv"


def test_on_a_real_table_it_beats_the_mean_and_the_best_member() -> None:
    """Small trees on real sounds: KNORA-U, DES-P and META-DES by held-out log-loss and accuracy."""
    pandas = pytest.importorskip("pandas")
    if not TABLE.is_file():
        pytest.skip(f"no real table at {TABLE}")
    from sklearn.ensemble import BaggingClassifier
    from sklearn.tree import DecisionTreeClassifier

    frame = pandas.read_csv(TABLE).sample(n=3600, random_state=0)
    codes, classes = pandas.factorize(frame.pop("target"), sort=True)
    X, names = frame.to_numpy(float), [str(c) for c in classes]
    train, known, new = slice(0, 1200), slice(1200, 2400), slice(2400, 3600)
    tree = DecisionTreeClassifier(max_depth=4, random_state=0)
    pool = BaggingClassifier(tree, 20, max_samples=0.15, random_state=0).fit(X[train], codes[train])

    def outputs(at: slice) -> dict[str, Probabilities]:
        return {f"tree {i}": Probabilities(m.predict_proba(X[at]), names) for i, m in enumerate(pool)}

    given, asked, answer = outputs(known), outputs(new), Labels(codes[new], names)
    mean = fit_mean(given, Labels(codes[known], names))(asked)
    for rule in ("knora_u", "des_p", "meta_des"):
        fuser = FIT_FUSERS[rule](given, Labels(codes[known], names), batch={"x": X[known]})
        fused = fuser(asked, batch={"x": X[new]})
        for score in (SCORES["log_loss"], SCORES["accuracy"]):
            best = min(score.loss(o, answer) for o in asked.values())
            assert score.loss(fused, answer) < min(best, score.loss(mean, answer)), rule
