"""Dawid-Skene: against numbers worked by hand and by crowd-kit, and its properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conjoin.errors import BundleError, OutputsError
from conjoin.fusion.labels import (
    Triples,
    WorkerModel,
    dawid_skene,
    extended,
    fast_dawid_skene,
    fit_dawid_skene,
    fit_workers,
    ibcc,
    majority_vote,
    one_coin_dawid_skene,
)
from conjoin.fusion.labels.em import Options
from conjoin.outputs import Labels

YES_NO = ("no", "yes")
SAID = {
    "w1": ["no", "yes", "yes", "yes", "yes"],
    "w2": ["yes", "yes", "no", "yes", "no"],
    "w3": [None, "yes", "no", "yes", "no"],
    "w4": ["yes", "no", "yes", "yes", "no"],
    "w5": ["no", "no", "no", "yes", "no"],
}


def five() -> dict[str, Labels]:
    return {w: Labels.of(s, YES_NO) for w, s in SAID.items()}


def crowd(n=400, members=20, width=4, answers=5, seed=0):
    """Triples of workers of different confusions, and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, width, n)
    confusion = 0.45 * np.eye(width) + 0.55 * rng.dirichlet(np.ones(width), (members, width))
    workers = np.concatenate([rng.choice(members, answers, replace=False) for _ in range(n)])
    tasks = np.repeat(np.arange(n), answers)
    rows = confusion[workers, truth[tasks]].cumsum(axis=1)
    labels = np.minimum((rng.random(len(tasks))[:, None] > rows).sum(axis=1), width - 1)
    names = tuple(f"w{i:02d}" for i in range(members))
    return Triples(tasks, workers, labels, n, names, tuple("abcd"[:width])), truth, confusion


def plain_numpy(triples, steps):
    """Dawid and Skene's EM, written out on dense arrays."""
    n, m, k = triples.rows, len(triples.members), len(triples.classes)
    said = np.zeros((n, m, k))
    said[triples.tasks, triples.workers, triples.labels] = 1
    post = said.sum(axis=1) / said.sum(axis=(1, 2))[:, None]
    for _ in range(steps):
        counts = np.einsum("nml,nc->mcl", said, post)
        seen = said.sum(axis=0)[:, None, :] > 0
        cells = np.where(seen, np.maximum(counts, 1e-10), 0.0)
        error = cells / cells.sum(axis=2, keepdims=True)
        logs = np.log(post.mean(axis=0)) + np.einsum("nml,mcl->nc", said, np.log(np.where(seen, error, 1.0)))
        post = np.exp(logs - logs.max(axis=1, keepdims=True))
        post /= post.sum(axis=1, keepdims=True)
    return post


@pytest.mark.parametrize("steps", [0, 1, 5, 40])
def test_the_loop_is_the_formula(steps: int) -> None:
    triples, _, _ = crowd()
    found = dawid_skene(triples, n_iter=steps, tol=-1)
    assert np.abs(found.values - plain_numpy(triples, steps)).max() < 1e-9


def test_two_steps_by_hand() -> None:
    assert dawid_skene(five(), n_iter=0).values[:, 0] == pytest.approx([0.5, 0.4, 0.6, 0.0, 0.8])
    model, fused, _ = fit_workers(five(), options=Options(n_iter=1))
    assert fused.values[:, 0] == pytest.approx([0.35, 0.26, 0.87, 0.0, 0.95], abs=0.005)
    assert model.confusion("w4") == pytest.approx(np.array([[0.5, 0.5], [0.31, 0.69]]), abs=0.005)
    assert model.prior == pytest.approx([0.49, 0.51], abs=0.005)


def test_the_likelihood_never_falls() -> None:
    triples, _, _ = crowd(seed=3)
    for options in (Options(50, -1), Options(50, -1, variant="one_coin"), Options(50, -1, "hard")):
        history = fit_workers(triples, options=options)[2]
        if options.method != "hard":
            assert np.diff(history).min() > -1e-9


def test_it_finds_the_confusions() -> None:
    triples, truth, confusion = crowd(n=4000, members=10, answers=6)
    model, fused, _ = fit_workers(triples)
    assert (fused.labels().codes == truth).mean() > (majority_vote(triples).labels().codes == truth).mean()
    assert np.abs(model.confusions - confusion).mean() < 0.03
    assert max(model.skill, key=model.skill.get) == triples.members[np.einsum("mcc->m", confusion).argmax()]


@pytest.mark.parametrize("fuser", [dawid_skene, one_coin_dawid_skene, fast_dawid_skene])
def test_known_answers_are_held_and_teach(fuser) -> None:
    """Three of five workers always lie: only known answers tell who is right."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200)
    outputs = {
        f"w{i}": Labels(np.where(rng.random(200) < 0.9, truth if i < 2 else 1 - truth, 0), YES_NO)
        for i in range(5)
    }
    known = Labels(np.where(np.arange(200) < 40, truth, -1), YES_NO)
    assert (fuser(outputs).labels().codes == truth).mean() < 0.3
    found = fuser(outputs, known=known, smoothing=0.1)
    assert (found.labels().codes == truth).mean() > 0.95
    assert np.array_equal(found.values[np.arange(40), truth[:40]], np.ones(40))


def test_a_known_class_that_nobody_said() -> None:
    known = Labels.of(["maybe", None, None, None, None])
    found = dawid_skene(five(), known=known)
    assert found.classes == ("no", "yes", "maybe")
    assert found.values[0].tolist() == [0, 0, 1]


def test_weight_2_is_the_same_answers_twice() -> None:
    triples, _, _ = crowd(n=60, members=6)
    weights = dict(zip(triples.members, (1, 2, 1, 3, 1, 1), strict=True))
    times = np.array([weights[m] for m in triples.members])[triples.workers]
    more = Triples(
        np.repeat(triples.tasks, times),
        np.repeat(triples.workers, times),
        np.repeat(triples.labels, times),
        triples.rows,
        triples.members,
        triples.classes,
    )
    for fuser in (dawid_skene, one_coin_dawid_skene):
        a, b = fuser(triples, weights=weights, n_iter=9, tol=-1), fuser(more, n_iter=9, tol=-1)
        assert np.abs(a.values - b.values).max() < 1e-8


def test_thirty_thousand_answers_to_one_task() -> None:
    said = np.where((np.arange(30_000)[:, None] - np.arange(3)) % 3, 1, 0)
    tasks = np.tile(np.arange(3), 30_000)
    names = tuple(map(str, range(30_000)))
    found = dawid_skene(Triples(tasks, np.repeat(np.arange(30_000), 3), said.ravel(), 3, names, YES_NO))
    assert found.values == pytest.approx(np.array([[1 / 3, 2 / 3]] * 3), abs=0.005)


def test_certain_workers_who_contradict_each_other() -> None:
    """Fifty answers rule one class out, fifty more the other: neither product may vanish for good."""
    width, n = 2, 400
    truth = np.arange(n) % 2
    said = np.where(np.arange(100)[:, None] < 50, truth, 1 - truth)
    said[:, 0] = np.where(np.arange(100) < 51, 0, 1)
    outputs = {f"w{i:03d}": Labels(row, YES_NO) for i, row in enumerate(said)}
    for fuser in (dawid_skene, ibcc, one_coin_dawid_skene):
        found = fuser(outputs)
        assert np.isfinite(found.values).all()
        assert np.allclose(found.values.sum(axis=1), 1)
    confusion = np.array([[[1, 0], [0, 1]]] * 60 + [[[0, 1], [1, 0]]] * 59, dtype=float)
    names = tuple(f"w{i:03d}" for i in range(119))
    model = WorkerModel(names, YES_NO, np.full(width, 0.5), confusion, confusion, np.ones(119))
    assert model({w: Labels([0], YES_NO) for w in names}).values[0, 0] > 1 - 1e-9


def test_the_variational_form_resists_few_answers() -> None:
    gains = []
    for seed in range(5):
        triples, truth, _ = crowd(n=150, members=60, answers=4, seed=seed)
        right = [(f.labels().codes == truth).mean() for f in (ibcc(triples), dawid_skene(triples))]
        gains.append(right[0] - right[1])
    assert np.mean(gains) > 0.02


def test_a_fitted_model_answers_new_rows_as_the_fit_did() -> None:
    triples, _, _ = crowd()
    model, fused, _ = fit_workers(triples, options=Options(300, 1e-13))
    assert np.abs(model(triples).values - fused.values).max() < 1e-4
    half = {n: o.take(slice(0, 100)) for n, o in triples.outputs().items()}
    assert np.array_equal(model(half).values, model(triples).values[:100])
    again = WorkerModel.unpack(*model.pack(), {})
    assert np.array_equal(again(half).values, model(half).values)
    assert again.skill == model.skill


def test_a_warm_start_needs_fewer_steps() -> None:
    triples, _, _ = crowd(n=3000)
    model, fused, cold = fit_workers(triples, options=Options(500, 1e-9))
    _, again, warm = fit_workers(triples, initial=model, options=Options(500, 1e-9))
    assert len(warm) < len(cold) / 3
    assert np.abs(again.values - fused.values).max() < 0.01


def test_new_answers_are_added_to_a_model() -> None:
    triples, truth, _ = crowd(n=3000, seed=5)
    first = triples.tasks < 2000
    old = fit_workers(triples.kept(first))[0]
    rest = np.flatnonzero(~first)
    later = Triples(
        triples.tasks[rest] - 2000,
        triples.workers[rest],
        triples.labels[rest],
        1000,
        triples.members,
        triples.classes,
    )
    new = extended(old, later)
    whole = fit_workers(triples)[0]
    assert new.answers.sum() == pytest.approx(len(triples))
    assert new.tasks == 3000
    assert np.abs(new.confusions - whole.confusions).mean() < 0.02
    assert (new(later).labels().codes == truth[2000:]).mean() > 0.8
    with pytest.raises(OutputsError, match="labels maybe were not there"):
        extended(old, {"w00": Labels.of(["maybe"])})


def test_what_a_worker_said_before_counts_where_it_says_less_now() -> None:
    good = np.array([[[90, 10], [10, 90]]] * 3, dtype=float)
    names = ("a", "b", "c")
    old = WorkerModel(names, YES_NO, np.full(2, 0.5), good / 100, good, np.ones(3), 200.0)
    new = extended(old, {"a": Labels.of(["yes"] * 4, YES_NO)})
    assert new.confusion("a")[0] == pytest.approx([0.9, 0.1], abs=0.02)
    assert new.confusion("b") == pytest.approx(good[1] / 100, abs=1e-3)
    assert new.answers.sum() == pytest.approx(604)


@pytest.mark.parametrize("strategy", ["assign", "addition", "evidence"])
def test_an_initial_model_can_turn_the_answer(strategy) -> None:
    liar = np.array([[[0.01, 0.99], [0.99, 0.01]]] * 5)
    ones = np.ones(5)
    initial = WorkerModel(tuple(SAID), YES_NO, np.full(2, 0.5), liar, 100 * liar, ones, 100.0)
    turned = dawid_skene(five(), initial=initial, initial_error_strategy=strategy)
    assert turned.labels().names()[3] == "no"
    assert dawid_skene(five()).labels().names()[3] == "yes"


def test_fit_holds_truth_and_learns_from_the_rest() -> None:
    triples, truth, _ = crowd(n=300, seed=8)
    outputs = triples.outputs()
    some = Labels(np.where(np.arange(300) < 100, truth, -1), triples.classes)
    model = fit_dawid_skene(outputs, some)
    later, true, _ = crowd(n=300, seed=8)
    assert (model(later).labels().codes == true).mean() > 0.75
    weighted = fit_dawid_skene(outputs, some, weights=(np.arange(300) < 100).astype(float))
    only = fit_dawid_skene({n: o.take(slice(0, 100)) for n, o in outputs.items()}, some.take(slice(0, 100)))
    assert np.abs(weighted.confusions - only.confusions).max() < 1e-9


def test_bad_options_and_packs() -> None:
    with pytest.raises(OutputsError, match="method must be one of em, vb, hard"):
        fit_dawid_skene(five(), method="EM")
    with pytest.raises(OutputsError, match="smoothing above 0"):
        ibcc(five(), smoothing=0)
    with pytest.raises(OutputsError, match="initial_error_strategy must be one of"):
        dawid_skene(five(), initial_error_strategy="add")
    with pytest.raises(OutputsError, match="must not be negative"):
        dawid_skene(five(), n_iter=-1)
    with pytest.raises(
        OutputsError, match="known answers must be labels of the 5 tasks, not 1 rows of labels"
    ):
        dawid_skene(five(), known=Labels.of(["no"]))
    model = fit_dawid_skene(five())
    with pytest.raises(OutputsError, match="not fitted to w9"):
        model({"w9": five()["w1"]})
    with pytest.raises(OutputsError, match="no worker 'w11'"):
        model.confusion("w11")
    arrays, meta = model.pack()
    with pytest.raises(BundleError):
        WorkerModel.unpack({**arrays, "prior": arrays["prior"][:1]}, meta, {})
    with pytest.raises(BundleError, match="negative"):
        WorkerModel.unpack({**arrays, "weights": -arrays["weights"]}, meta, {})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=40),
    st.sampled_from([dawid_skene, ibcc, fast_dawid_skene, one_coin_dawid_skene]),
)
def test_any_answers_give_probabilities(answers, fuser) -> None:
    tasks, workers, labels = (np.array(a) for a in zip(*answers, strict=True))
    triples = Triples(tasks, workers, labels, 8, ("a", "b", "c", "d"), ("x", "y", "z"))
    found = fuser(triples)
    assert np.array_equal(found.answered, np.bincount(tasks, minlength=8) > 0)
    assert np.allclose(found.values[found.answered].sum(axis=1), 1)
    assert (found.values[found.answered] >= 0).all()
    assert np.isnan(found.values[~found.answered]).all()
