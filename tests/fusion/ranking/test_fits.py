"""Fitted weights, the probabilistic family, and what they are worth on real runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from conjoin.errors import BundleError, OutputsError, TruthError
from conjoin.formats import format_of
from conjoin.fusion.applied import Applied
from conjoin.fusion.ranking import (
    FIT_FUSERS,
    FUSERS,
    PlattSum,
    Positions,
    fit_platt,
    fit_rrf,
    fit_weights,
    from_dict,
    from_dicts,
)
from conjoin.fusion.ranking.judged import judged
from conjoin.fusion.ranking.platt import logistic
from conjoin.fusion.ranking.positions import (
    by_position,
    in_doubling_parts,
    in_equal_parts,
    log_odds,
    precisions,
)
from conjoin.fusion.ranking.weights import GRIDS, TABLES
from conjoin.fusion.single import Single, fit_single
from conjoin.outputs import Ranking, Values
from conjoin.scores import score_of

DATA = Path(__file__).parents[4] / "shared" / "data" / "outputs"


@pytest.fixture(scope="module")
def made():
    """Three systems of which two are good at different queries, and judgements."""
    rng = np.random.default_rng(3)
    gains = (rng.random((80, 30)) < 0.1) * rng.integers(1, 3, (80, 30))
    gains[np.arange(80), rng.integers(0, 30, 80)] = 2
    skill = np.array([1.5, 1.2, 0.0])
    runs = {
        name: {
            f"q{r}": dict(
                zip([f"d{i}" for i in range(30)], (s * gains[r] + rng.normal(size=30)).tolist(), strict=True)
            )
            for r in range(80)
        }
        for name, s in zip(("good", "other good", "noise"), skill, strict=True)
    }
    truth = {f"q{r}": {f"d{i}": float(g) for i, g in enumerate(gains[r]) if g} for r in range(80)}
    queries = list(truth)
    return from_dicts(runs, queries), from_dict(truth, queries)


@pytest.mark.parametrize("score", ["ndcg@10", "mrr", "map", "recall@5", "hits@1", "precision@3", "f1@5"])
@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_fitted_weights_beat_every_member_in_any_measure(made, score, temperature):
    outputs, truth = made
    told = score_of(score, "ranking")
    fuser = FIT_FUSERS["weighted_sum"](outputs, truth, score=told, temperature=temperature)
    assert isinstance(fuser, Applied)
    best = max(told.value(o, truth) for o in outputs.values())
    assert told.value(fuser(outputs), truth) > best
    assert fuser.weights["noise"] < min(fuser.weights["good"], fuser.weights["other good"])
    assert sum(fuser.weights.values()) == pytest.approx(1)


def test_the_best_vector_is_at_least_as_good_as_a_grid(made):
    outputs, truth = made
    told = score_of("ndcg@10", "ranking")
    fuser = FIT_FUSERS["weighted_sum"](outputs, truth, temperature=0.0)
    steps = [(a / 10, b / 10, (10 - a - b) / 10) for a in range(11) for b in range(11 - a)]
    values = [told.value(FUSERS["weighted_sum"](outputs, weights=w), truth) for w in steps]
    assert told.value(fuser(outputs), truth) >= max(values) - 1e-12


@pytest.mark.parametrize("name", TABLES)
def test_tables_score_as_their_operators_do(made, name):
    outputs, truth = made
    some = {n: o.take(np.arange(10)) for n, o in outputs.items()}
    laid = judged(some, truth.take(np.arange(10))).pool
    weights = np.array([0.5, 0.25, 0.25])
    for options in GRIDS[name]:
        scores = TABLES[name](laid, **options) @ weights
        mine = laid.ranking(scores)
        real = FUSERS[name](some, weights=dict(zip(laid.names, weights, strict=True)), **options)
        assert mine.ids.tolist() == real.ids.tolist()


def test_weights_of_rows_and_silent_truth_rows(made):
    outputs, truth = made
    half = np.arange(80) < 40
    silent = Ranking(
        truth.ids[: truth.offsets[40]], truth.scores[: truth.offsets[40]],
        np.minimum(truth.offsets, truth.offsets[40]), half,
    )  # fmt: skip
    by_weight = fit_rrf(outputs, truth, weights=half.astype(float))
    by_silence = fit_rrf(outputs, silent)
    assert by_weight.weights == pytest.approx(by_silence.weights)
    assert fit_rrf(outputs, truth, seed=5).weights != by_weight.weights


def test_what_cannot_be_fitted_is_told(made):
    outputs, truth = made
    nothing = Ranking([], [], np.zeros(81, int))
    with pytest.raises(TruthError, match="no relevant item"):
        fit_rrf(outputs, nothing)
    with pytest.raises(TruthError, match="80 rows, the truth has 2"):
        fit_rrf(outputs, truth.take([0, 1]))
    with pytest.raises(OutputsError, match="not values"):
        fit_rrf(outputs, Values(np.zeros(80)))
    with pytest.raises(OutputsError, match="temperature"):
        fit_rrf(outputs, truth, temperature=-1.0)
    with pytest.raises(OutputsError, match="fitted to one of"):
        fit_rrf(outputs, truth, score=score_of("chrf", "texts"))
    with pytest.raises(OutputsError, match="alike"):
        fit_rrf(outputs, Ranking(np.zeros(80, int), np.ones(80), np.arange(81)))
    with pytest.raises(OutputsError, match="segments"):
        FIT_FUSERS["probfuse"](outputs, truth, segments=0)


def test_one_member_and_members_of_no_worth(made):
    outputs, truth = made
    alone = fit_weights("weighted_sum", {"good": outputs["good"]}, truth)
    np.testing.assert_array_equal(alone({"good": outputs["good"]}).ids, outputs["good"].ids)
    both = {"good": outputs["good"], "copy": outputs["good"]}
    assert isinstance(fit_weights("borda", both, truth), Applied | Single)


def test_chances_by_hand():
    runs = from_dicts({"m": {"p": {"a": 3, "b": 2, "c": 1}, "q": {"a": 2, "c": 1}}})
    truth = from_dict({"p": {"a": 1, "c": 1, "other": 1}, "q": {"c": 2}})
    task = judged(runs, truth)
    np.testing.assert_allclose(by_position(task)["m"], [1 / 2, 1 / 2, 1])
    np.testing.assert_allclose(precisions(task)["m"], [((1 + 2 / 3) / 3 + 1 / 2) / 2])
    np.testing.assert_allclose(in_equal_parts(task, 2)["m"], [(1 / 2 + 0) / 2, (1 + 1) / 2])
    np.testing.assert_allclose(in_doubling_parts(task)["m"][:2], [3 / 10, 0])
    odds = log_odds(task)["m"]
    np.testing.assert_allclose(odds[[0, 4, 5]], [np.log(0.3 / 0.7), np.log(0.3 / 0.7), np.log(0.001 / 0.999)])


def test_fusers_by_position_by_hand():
    runs = from_dicts({"m": {"q": {"a": 4, "b": 3, "c": 2, "d": 1}}})
    numbers = np.array([0.8, 0.4, 0.2])

    def scores(method, given=numbers, **options):
        return Positions(method, {"m": given}, **options)(runs).scores

    np.testing.assert_allclose(scores("posfuse"), [0.8, 0.4, 0.2, 0])
    np.testing.assert_allclose(scores("slidefuse", window=1), [1.2 / 2, 1.4 / 3, 0.6 / 3, 0.2 / 2])
    np.testing.assert_allclose(scores("mapfuse", [0.6]), [0.6, 0.3, 0.2, 0.15])
    np.testing.assert_allclose(scores("probfuse", [0.8, 0.4]), [0.8, 0.8, 0.2, 0.2])
    np.testing.assert_allclose(scores("segfuse", np.full(10, 0.5), norm=None), [2.5, 2, 1.5, 1])
    beyond = Positions("bayesfuse", {"m": np.array([1.0]), "n": np.array([2.0])})
    got = beyond(from_dicts({"m": {"q": {"a": 2, "b": 1}}, "n": {"q": {"b": 2}}}))
    least = np.log(0.001 / 0.999)
    assert got.ids.tolist() == ["a", "b"] if 1 + least > least + 2 else ["b", "a"]
    np.testing.assert_allclose(got.scores, sorted([1 + least, least + 2], reverse=True))


def test_fusers_by_position_refuse_what_they_do_not_know(made):
    outputs, _ = made
    fuser = Positions("posfuse", {"good": np.ones(3)})
    with pytest.raises(OutputsError, match="not fitted to noise"):
        fuser({"noise": outputs["noise"]})
    for options in (
        {"method": "possfuse"},
        {"numbers": {"m": []}},
        {"numbers": {"m": [np.nan]}},
        {"window": -1},
    ):
        with pytest.raises(OutputsError):
            Positions(**{"method": "posfuse", "numbers": {"m": [1.0]}, **options})


def test_packed_positions_are_read_without_trust():
    fuser = Positions("slidefuse", {"a b": np.array([0.5, 0.25]), "ц": np.array([1.0])}, 3)
    arrays, meta = fuser.pack()
    again = Positions.unpack(arrays, json.loads(json.dumps(meta)), {})
    assert (again.method, again.window, again.members) == ("slidefuse", 3, ("a b", "ц"))
    bad = [
        ({**arrays, "ends": np.array([2, 9])}, meta),
        ({**arrays, "ends": np.array([2, 1])}, meta),
        ({**arrays, "numbers": np.array([np.nan, 1, 1])}, meta),
        ({"ends": arrays["ends"]}, meta),
        (arrays, {**meta, "method": "eval"}),
        (arrays, {**meta, "window": "3"}),
        (arrays, {**meta, "members": "ab"}),
    ]
    for a, m in bad:
        with pytest.raises(BundleError):
            Positions.unpack(a, m, {})


@pytest.mark.skipif(not DATA.is_dir(), reason="real runs are not at ../shared/data/outputs")
@pytest.mark.parametrize(
    ("folder", "score", "method"), [("kg_link_prediction", "mrr", "rrf"), ("ranking", "ndcg@10", "comb_mnz")]
)
def test_real_runs_held_out(folder, score, method):
    here = DATA / folder / "dev"
    files = {p.name.split(".")[0]: p for p in sorted(here.glob("*.run.gz"))}
    found = format_of("ranking").read(files, here / "qrels.txt")
    told = score_of(score, "ranking")
    gains = []
    for seed in range(3):
        at = np.random.default_rng(seed).permutation(len(found.rows))
        one, two = np.sort(at[: len(at) // 2]), np.sort(at[len(at) // 2 :])
        fitted = {n: o.take(one) for n, o in found.outputs.items()}
        held = {n: o.take(two) for n, o in found.outputs.items()}
        truth, answers = found.truth.take(one), found.truth.take(two)
        single = fit_single(fitted, truth, score=told)
        fuser = FIT_FUSERS[method](fitted, truth, score=told)
        gains.append(told.value(fuser(held), answers) - told.value(single(held), answers))
    assert np.mean(gains) > (0.01 if folder.startswith("kg") else -0.005)


def relations():
    """Two systems, each good at one of two relations, with scores that are comparable over queries."""
    rng = np.random.default_rng(5)
    relation = np.array(["born in", "είναι"], dtype=object)[rng.integers(0, 2, 120)]
    runs = {"first": {}, "second": {}}
    truth = {}
    for r, name in enumerate(relation):
        gain = np.zeros(20)
        gain[rng.integers(20)] = 1
        for m, run in enumerate(runs):
            skill = 3.0 if (name == "born in") == (m == 0) else 0.0
            runs[run][r] = dict(enumerate((skill * gain + rng.normal(size=20) + 10 * m).tolist()))
        truth[r] = {int(gain.argmax()): 1.0}
    return from_dicts(runs), from_dict(truth), {"relation": relation}


def test_platt_scaling_by_relation():
    outputs, truth, batch = relations()
    told = score_of("mrr", "ranking")
    plain = fit_platt(outputs, truth, score=told)
    by_group = fit_platt(outputs, truth, score=told, batch=batch, column="relation")
    assert isinstance(by_group, PlattSum)
    assert told.value(by_group(outputs, batch=batch), truth) > told.value(plain(outputs), truth) + 0.02
    unknown = {"relation": np.array(["other"] * 120, dtype=object)}
    np.testing.assert_array_equal(by_group(outputs, batch=unknown).ids, by_group(outputs).ids)
    again = PlattSum.unpack(*by_group.pack(), {})
    np.testing.assert_array_equal(again(outputs, batch=batch).scores, by_group(outputs, batch=batch).scores)
    with pytest.raises(OutputsError, match="no column 'relation'"):
        by_group(outputs, batch={"relations": batch["relation"]})
    with pytest.raises(OutputsError, match="2 rows"):
        by_group(outputs, batch={"relation": batch["relation"][:2]})
    with pytest.raises(OutputsError, match="need a batch"):
        fit_platt(outputs, truth, column="relation")
    arrays, meta = by_group.pack()
    for bad in ({"lines": arrays["lines"][:, :1]}, {"lines": -arrays["lines"]}):
        with pytest.raises(BundleError):
            PlattSum.unpack(bad, meta, {})


def test_the_line_of_platt_is_the_likeliest():
    rng = np.random.default_rng(0)
    x = rng.normal(size=4000)
    y = (rng.random(4000) < 1 / (1 + np.exp(-(2 * x - 1)))).astype(float)
    line = logistic(x, y, np.ones(4000), np.zeros(2), 0.0)
    p = 1 / (1 + np.exp(-(line[0] * x + line[1])))
    assert line == pytest.approx([2, -1], abs=0.2)
    assert abs((p - y).sum()) < 1e-3
    assert abs(((p - y) * x).sum()) < 1e-3
    held = logistic(x[:3], y[:3], np.ones(3), np.array([2.0, -1.0]), 1e6)
    assert held == pytest.approx([2, -1], abs=1e-3)
