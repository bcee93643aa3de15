"""Fitted fusers: laws, optima, storage, ONNX, sample weights, missing members, bad input."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from conjoin.errors import BundleError, NotExportableError, OutputsError, TruthError
from conjoin.fusion import (
    FIT_FUSERS,
    PARTS,
    LinearPool,
    fit_class_weights,
    fit_gate,
    fit_greedy_selection,
    fit_inverse_error,
    fit_linear_pool,
    fit_log_pool,
    fit_network_fuser,
    fit_nnls,
    fit_stacking,
    problems,
)
from conjoin.outputs import Labels, Probabilities, Quantiles, Values
from conjoin.scores import SCORES, default_score

from .worlds import KINDS, numbers, single_precision, through_onnx, world

FITS = {
    **FIT_FUSERS,
    "stacking": partial(fit_stacking, penalty=30.0),
    "class_weights": partial(fit_class_weights, penalty=100.0),
}
ONLY_CLASSES = ("log_pool",)
CASES = [
    (name, kind)
    for name in FITS
    for kind in KINDS
    if not (name in ONLY_CLASSES and kind in ("values", "quantiles"))
    and (name, kind) != ("nnls", "quantiles")
]


def stored_and_loaded(part):
    arrays, meta = part.pack()
    children = {name: stored_and_loaded(child) for name, child in part.children().items()}
    return PARTS[type(part).__name__].unpack(arrays, meta, children)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_graph_storage_and_laws(name: str, kind: str) -> None:
    outputs, truth = world(kind, n=120)
    outputs = single_precision(outputs)
    fuser = FITS[name](outputs, truth)
    fused = numbers(fuser(outputs))
    assert np.isfinite(fused).all()
    assert through_onnx(fuser, outputs).reshape(fused.shape) == pytest.approx(fused, abs=1e-6, rel=1e-6)
    assert (numbers(stored_and_loaded(fuser)(outputs)) == fused).all()
    assert (numbers(fuser(dict(reversed(outputs.items())))) == fused).all()
    halves = [
        numbers(fuser({n: o.take(s) for n, o in outputs.items()})) for s in (slice(0, 50), slice(50, 120))
    ]
    assert np.concatenate(halves) == pytest.approx(fused, abs=1e-5 if name == "network" else 1e-12)
    again = FITS[name](dict(reversed(outputs.items())), truth)
    assert numbers(again(outputs)) == pytest.approx(fused, abs=1e-9)
    assert set(fuser.needs) <= set(fuser.members) == set(outputs)
    none = fuser({n: o.take(slice(0, 0)) for n, o in outputs.items()})
    assert len(none) == 0


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_fewer_members_and_skipped_rows(name: str, kind: str) -> None:
    outputs, truth = world(kind, n=120)
    fuser = FITS[name](outputs, truth)
    first = fuser.needs[0]
    less = fuser({n: o for n, o in outputs.items() if n != first}) if len(outputs) > 1 else None
    assert less is not None
    assert len(less) == 120
    from dataclasses import replace

    mark = np.ones(120, dtype=bool)
    mark[:2] = False
    holes = {n: replace(o, answered=mark) for n, o in outputs.items()}
    holes[first] = replace(outputs[first], answered=np.arange(120) > 5)
    fused = fuser(holes)
    assert fused.answered.tolist() == [False, False] + [bool(a) for a in fused.answered[2:]]
    assert np.isfinite(numbers(fused)[6:]).all()
    assert np.isnan(numbers(fused)[:2]).all()
    with pytest.raises(OutputsError, match="fitted"):
        fuser({**outputs, "stranger": outputs[first]})
    refitted = FITS[name](holes, truth)
    assert np.isfinite(numbers(refitted(outputs))).all()


@pytest.mark.parametrize(("name", "kind"), [c for c in CASES if c[0] != "network"])
def test_weights_of_rows_count_as_repeats(name: str, kind: str) -> None:
    outputs, truth = world(kind, n=90)
    counts = np.random.default_rng(0).integers(0, 3, 90)
    rows = np.repeat(np.arange(90), counts)
    light = {  # the penalty knows the effective number of rows, which weights and repeats count differently
        "log_pool": partial(fit_log_pool, shrink=1e-6, least_share=0.0),
        "stacking": partial(fit_stacking, penalty=1e9),
        "class_weights": partial(fit_class_weights, penalty=1e9),
        "gate": partial(fit_gate, penalty=1e9),
    }
    fit = light["log_pool"] if name == "log_pool" else FITS[name]
    if kind in ("values", "quantiles"):
        fit = light.get(name, fit)
    elif name in light and name != "log_pool":
        pytest.skip("drawn to a log pool, which is tested")
    repeated = fit({n: o.take(rows) for n, o in outputs.items()}, truth.take(rows))
    weighted = fit(outputs, truth, weights=counts)
    assert numbers(weighted(outputs)) == pytest.approx(numbers(repeated(outputs)), rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["linear_pool", "greedy_selection", "nnls"])
def test_never_worse_than_the_best_member_on_the_fitting_rows(name: str, kind: str) -> None:
    if (name, kind) == ("nnls", "quantiles"):
        pytest.skip("nnls is not for quantiles")
    outputs, truth = world(kind, n=150)
    score = default_score(outputs["ash"])
    if name == "nnls" and kind != "values":
        score = SCORES["brier"]
    best = min(score.loss(o, truth) for o in outputs.values())
    slack = 0.02 if (name, kind) == ("nnls", "multiclass") else 1e-6  # scaling to sum 1 comes after the fit
    assert score.loss(FITS[name](outputs, truth)(outputs), truth) <= best + slack * best


def test_linear_pool_says_its_gap_and_its_loss() -> None:
    outputs, truth = world("multiclass")
    pool = fit_linear_pool(outputs, truth)
    assert pool.gap is not None
    assert pool.gap <= 1e-7
    assert pool.loss == pytest.approx(SCORES["log_loss"].loss(pool(outputs), truth), abs=1e-7)
    assert "gap<=" in repr(pool)
    greedy = SCORES["log_loss"].loss(fit_greedy_selection(outputs, truth)(outputs), truth)
    assert pool.loss <= greedy + 1e-7


@pytest.mark.parametrize("kind", KINDS)
def test_linear_pool_without_small_weights_knows_its_distance_from_the_optimum(kind: str) -> None:
    outputs, truth = world(kind)
    full = fit_linear_pool(outputs, truth)
    few = fit_linear_pool(outputs, truth, least_share=0.3)
    assert len(few.needs) < len(full.needs)
    assert all(w == 0 or w >= 0.3 for w in few.weights.values())
    assert few.loss - few.gap <= full.loss + 1e-9
    assert full.loss <= few.loss + 1e-9


def test_linear_pool_of_values_takes_the_absolute_error_where_it_is_asked() -> None:
    outputs, truth = world("values")
    for name in ("mae", "mape"):
        pool = fit_linear_pool(outputs, truth, score=SCORES[name])
        assert pool.loss == pytest.approx(SCORES[name].loss(pool(outputs), truth))
        square = fit_linear_pool(outputs, truth)
        assert pool.loss <= SCORES[name].loss(square(outputs), truth) + 1e-6
        assert pool.gap <= 1e-3 * pool.loss


@pytest.mark.parametrize("score", ["log_loss", "brier", "accuracy", "auc"])
def test_greedy_is_the_plain_algorithm(score: str) -> None:
    outputs, truth = world("binary" if score == "auc" else "multiclass", n=80)
    asked = SCORES[score]
    picked: list[str] = []
    best, kept = np.inf, []
    for _ in range(8):
        losses = {}
        for name in outputs:
            values = np.mean([outputs[m].values for m in [*picked, name]], axis=0, dtype=np.float64)
            p = Probabilities(values, outputs[name].classes)
            losses[name] = round(asked.loss(p, truth), 6)
        ties = [n for n in sorted(losses) if losses[n] == min(losses.values())]
        again = [n for n in ties if n in picked] or ties
        picked.append(again[0])
        if losses[again[0]] < best:
            best, kept = losses[again[0]], list(picked)
    found = fit_greedy_selection(outputs, truth, score=asked, picks=8)
    assert asked.loss(found(outputs), truth) == pytest.approx(best, abs=2e-6)
    if score in ("log_loss", "brier"):  # without ties the picks are the same
        assert list(found.picks) == kept


def test_greedy_selection_of_numbers_uses_the_score() -> None:
    outputs, truth = world("values", n=100)
    for name in ("rmse", "mse", "r2", "mae"):
        pool = fit_greedy_selection(outputs, truth, score=SCORES[name], picks=10)
        assert pool.loss == pytest.approx(SCORES[name].loss(pool(outputs), truth), abs=2e-6)
    twins = {"a": outputs["ash"], "b": outputs["ash"]}
    assert fit_greedy_selection(twins, truth).picks == ("a",)


def test_a_large_penalty_gives_the_pool_back() -> None:
    outputs, truth = world("multiclass")
    pool = numbers(fit_log_pool(outputs, truth)(outputs))
    for fit in (fit_stacking, fit_class_weights, fit_gate):
        assert numbers(fit(outputs, truth, penalty=1e9)(outputs)) == pytest.approx(pool, abs=1e-4)
    outputs, truth = world("values")
    pool = numbers(fit_linear_pool(outputs, truth)(outputs))
    for fit in (fit_stacking, fit_gate):
        assert numbers(fit(outputs, truth, penalty=1e9)(outputs)) == pytest.approx(pool, abs=1e-4)


def test_log_pool_sharpens_independent_members() -> None:
    outputs, truth = world("multiclass", n=600)
    pool = fit_log_pool(outputs, truth)
    assert sum(pool.weights.values()) > 1.2
    assert SCORES["log_loss"].loss(pool(outputs), truth) < 0.8 * fit_linear_pool(outputs, truth).loss
    assert "loss=" in repr(pool)
    with pytest.raises(OutputsError, match="floor"):
        fit_log_pool(outputs, truth, floor=0.0)


def test_stacking_mends_a_member_that_is_shifted() -> None:
    outputs, truth = world("values", n=400)
    shifted = {n: Values(0.5 * o.values + 30) for n, o in outputs.items()}
    fuser = fit_stacking(shifted, truth)
    assert SCORES["rmse"].loss(fuser(shifted), truth) < 0.7 * SCORES["rmse"].loss(shifted["ash"], truth)
    exact = fit_nnls(shifted, truth)
    assert SCORES["rmse"].loss(exact(shifted), truth) < SCORES["rmse"].loss(outputs["ash"], truth)


def test_inverse_error_weights() -> None:
    truth = Values(np.zeros(4))
    outputs = {"a": Values([1.0, -1, 1, -1]), "b": Values([2.0, 2, -2, -2])}
    assert fit_inverse_error(outputs, truth).weights == pytest.approx({"a": 0.8, "b": 0.2})
    same = fit_inverse_error({"a": truth, "b": truth}, truth)
    assert same.weights == {"a": 0.5, "b": 0.5}


def test_gate_learns_whom_to_trust() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random(800), rng.normal(size=800)
    left, right = np.where(x < 0.5, 0.1, 2.0), np.where(x < 0.5, 2.0, 0.1)
    outputs = {
        "left": Values(y + left * rng.normal(size=800)),
        "right": Values(y + right * rng.normal(size=800)),
    }
    batch = {"x": x, "name": np.array(["?"] * 800, dtype=object)}
    gate = fit_gate(outputs, Values(y), batch=batch, penalty=1.0)
    pool = fit_linear_pool(outputs, Values(y))
    loss = SCORES["rmse"].loss
    assert loss(gate(outputs, batch=batch), Values(y)) < 0.7 * loss(pool(outputs), Values(y))
    assert gate.columns == ("x",)
    holes = {"x": np.where(np.arange(800) < 5, np.nan, x)}
    assert np.isfinite(numbers(gate(outputs, batch=holes))).all()
    with pytest.raises(OutputsError, match="needs the batch"):
        gate(outputs)
    with pytest.raises(OutputsError, match="lacks the columns"):
        gate(outputs, batch={"z": x})
    with pytest.raises(NotExportableError, match="columns"):
        through_onnx(gate, outputs)


def test_network_learns_what_no_weights_can_say() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(1500), rng.random(1500)
    y = (a > 0.5) ^ (b > 0.5)
    outputs = {n: Probabilities(np.stack([1 - p, p], axis=1), ("no", "yes")) for n, p in (("a", a), ("b", b))}
    truth = Labels(y.astype(int), ("no", "yes"))
    fuser = fit_network_fuser(outputs, truth, seed=1)
    assert SCORES["accuracy"].value(fuser(outputs), truth) > 0.9
    assert fuser.share == 1.0
    twice = fit_network_fuser(outputs, truth, seed=1)
    assert (numbers(twice(outputs)) == numbers(fuser(outputs))).all()
    with pytest.raises(OutputsError, match="at least 10 rows"):
        fit_network_fuser({n: o.take(slice(0, 5)) for n, o in outputs.items()}, truth.take(slice(0, 5)))


def test_one_member_one_class_one_row() -> None:
    one = {"a": Probabilities([[1.0], [1.0]], ["only"])}
    truth = Labels([0, 0], ["only"])
    for name in ("linear_pool", "log_pool", "greedy_selection", "stacking", "class_weights", "gate"):
        assert numbers(FITS[name](one, truth)(one)) == pytest.approx(np.ones((2, 1)))
    outputs, truth = world("binary", n=1)
    for name in ("linear_pool", "log_pool", "greedy_selection", "inverse_error", "nnls", "best_single"):
        assert np.isfinite(numbers(FITS[name](outputs, truth)(outputs))).all()
    outputs, truth = world("values", n=1)
    for name in ("linear_pool", "greedy_selection", "stacking", "gate", "nnls"):
        assert np.isfinite(numbers(FITS[name](outputs, truth)(outputs))).all()


def test_identical_members_and_constant_truth() -> None:
    outputs, truth = world("values", n=50)
    twins = dict.fromkeys(("a", "b", "c"), outputs["ash"])
    for name in ("linear_pool", "nnls", "stacking", "gate", "class_weights"):
        fused = numbers(FITS[name](twins, truth)(twins))
        assert np.abs(fused[:, 0] - outputs["ash"].values).max() < 10
    flat = Values(np.full(50, 3.0))
    for name in ("linear_pool", "nnls", "stacking", "gate"):
        assert np.isfinite(numbers(FITS[name]({"a": flat, "b": flat}, flat)({"a": flat, "b": flat}))).all()


def test_truth_with_a_class_that_nobody_knows() -> None:
    outputs, truth = world("binary")
    wider = Labels(np.where(np.arange(200) < 3, 2, truth.codes), ("no", "yes", "perhaps"))
    for name in ("linear_pool", "log_pool", "greedy_selection", "stacking", "class_weights"):
        fused = FITS[name](outputs, wider)(outputs)
        assert fused.classes == ("no", "yes", "perhaps")
        assert np.isfinite(fused.values).all()


@pytest.mark.parametrize(
    ("truth", "error", "words"),
    [
        (Values(np.zeros(200)), TruthError, "truth of labels"),
        (Labels(np.zeros(3, int), ("no", "yes")), TruthError, "200 rows, the truth has 3"),
        (Labels(np.full(200, -1), ("no", "yes")), TruthError, "nothing to fit to"),
    ],
)
def test_truth_that_does_not_fit(truth, error, words: str) -> None:
    with pytest.raises(error, match=words):
        fit_linear_pool(world("binary")[0], truth)


def test_more_numbers_than_fit_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "MOST_CELLS", 900)
    for kind, name in (("multiclass", "log_pool"), ("values", "stacking")):
        outputs, truth = world(kind)
        step = 4 if kind == "multiclass" else 1
        rows = problems.problem(outputs, truth).thinned()
        assert rows.stack.rows == 200 // step
        assert rows.shares.sum() == pytest.approx(1.0)
        assert np.isfinite(numbers(FITS[name](outputs, truth)(outputs))).all()


def test_other_misfits() -> None:
    outputs, truth = world("values")
    with pytest.raises(OutputsError, match="not values"):
        fit_log_pool(outputs, Labels(np.zeros(200, int), "a"))
    with pytest.raises(OutputsError, match="not quantiles"):
        fit_linear_pool(world("quantiles")[0], Labels(np.zeros(200, int), "a"))
    with pytest.raises(OutputsError, match="not for quantiles"):
        fit_nnls(*world("quantiles"))
    with pytest.raises(TruthError, match="infinities"):
        fit_linear_pool(outputs, Values(np.where(np.arange(200) == 3, np.inf, truth.values)))
    bad = {**outputs, "elm": Values(np.where(np.arange(200) == 3, np.nan, outputs["elm"].values))}
    for fit in (fit_linear_pool, fit_stacking, fit_greedy_selection, fit_gate):
        with pytest.raises(OutputsError, match="elm"):
            fit(bad, truth)
    with pytest.raises(TruthError, match="targets"):
        fit_linear_pool(outputs, Values(np.zeros((200, 2))))
    with pytest.raises(TruthError, match="one number a row"):
        fit_linear_pool(world("quantiles")[0], Values(np.zeros((200, 2))))


def test_several_targets() -> None:
    outputs, truth = world("values")
    wide = {n: Values(np.stack([o.values, -o.values], axis=1)) for n, o in outputs.items()}
    both = Values(np.stack([truth.values, -truth.values], axis=1))
    assert fit_linear_pool(wide, both).weights == pytest.approx(
        fit_linear_pool(outputs, truth).weights, abs=1e-6
    )
    for name in ("greedy_selection", "stacking", "class_weights", "gate", "nnls"):
        assert FITS[name](wide, both)(wide).values.shape == (200, 2)


def test_quantiles_do_not_cross() -> None:
    outputs, truth = world("quantiles")
    for name in ("stacking", "class_weights", "gate", "network"):
        assert (np.diff(FITS[name](outputs, truth)(outputs).values, axis=1) >= 0).all()
    assert isinstance(fit_linear_pool(outputs, truth)(outputs), Quantiles)


def test_damaged_records_are_refused() -> None:
    for name in ("linear_pool", "log_pool", "stacking", "class_weights", "gate", "network"):
        outputs, truth = world("binary", n=60)
        part = FITS[name](outputs, truth)
        arrays, meta = part.pack()
        kind = type(part)
        for broken in ({}, {k: v[:-1] for k, v in arrays.items()}):
            with pytest.raises(BundleError):
                kind.unpack(broken, meta, {})
        with pytest.raises(BundleError):
            kind.unpack(arrays, {**meta, "members": ["x", "x"]}, dict(part.children()))
    with pytest.raises(BundleError):
        LinearPool.unpack({"weights": np.zeros(1)}, {"members": ["a"], "classes": [], "kind": "values"}, {})
