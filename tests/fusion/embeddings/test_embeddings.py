"""Fusers of embeddings: formulas, common spaces, fitted similarities, real encoders, hostile input."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from conjoin.errors import BundleError, OutputsError, TruthError
from conjoin.fusion.applied import Applied
from conjoin.fusion.embeddings import (
    FIT_FUSERS,
    FUSERS,
    Projected,
    RankMean,
    concat,
    fit_concat,
    fit_gcca,
    fit_pca,
    fit_procrustes,
    fit_rank_mean,
    fit_similarity,
    gcca,
    mean,
    pca,
    procrustes,
    rank_mean,
    similarity,
)
from conjoin.fusion.single import Single, fit_single
from conjoin.outputs import Embeddings, Labels, Values
from conjoin.scores import score_of
from conjoin.scores.embeddings import similarities

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "outputs" / "sentence_embeddings" / "dev"
SPEARMAN = score_of("spearman", "embeddings")


def world(seed=0, rows=60):
    path = Path(__file__).parent / "world.py"
    spec = importlib.util.spec_from_file_location("world_of_embeddings_here", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.world(np.random.default_rng(seed), rows)


def complete(outputs, seed=1):
    """The same members, none of which skips a row."""
    rng = np.random.default_rng(seed)
    noise = {n: rng.normal(size=o.values.shape) for n, o in outputs.items()}
    return {n: Embeddings(np.where(np.isnan(o.values), noise[n], o.values)) for n, o in outputs.items()}


def cosines(output):
    return similarities(output)


# Plain


def test_the_cosine_of_a_concatenation_is_the_mean_of_cosines():
    outputs, _ = world()
    weights = {"é 384": 1.0, "use": 3.0, "static": 0.5, "tf idf": 0.0}
    fused = concat(outputs, weights=weights)
    assert fused.values.shape == (60, 2, 19)
    some = {n: np.nan_to_num(cosines(o)) for n, o in outputs.items()}
    mass = {n: weights[n] * o.answered for n, o in outputs.items()}
    right = sum(mass[n] * some[n] for n in outputs) / sum(mass.values())
    np.testing.assert_allclose(cosines(fused), right, atol=1e-12)
    np.testing.assert_allclose(similarity(outputs, weights=weights).values, right, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(fused.values, axis=-1), 1, atol=1e-12)


def test_means_of_vectors_of_different_length():
    a, b = Embeddings([[0.0, 2.0], [1.0, 0.0]]), Embeddings([[3.0, 0.0, 4.0], [0.0, 0.0, 1.0]])
    fused = mean({"a": a, "b": b}, weights=[1, 3])
    np.testing.assert_allclose(fused.values, [[0.45, 0.25, 0.6], [0.25, 0.0, 0.75]])


def test_ranks_are_those_of_scipy():
    outputs, _ = world()
    full = {n: Embeddings(np.nan_to_num(o.values)) for n, o in outputs.items()}
    right = np.mean([(rankdata(cosines(o)) - 0.5) / 60 for o in full.values()], axis=0)
    np.testing.assert_allclose(rank_mean(full).values, right, atol=1e-12)


def test_single_precision_stays_and_half_becomes_single():
    x = np.random.default_rng(0).normal(size=(4, 3))
    assert concat({"a": Embeddings(x.astype(np.float16))}).values.dtype == np.float32
    assert mean({"a": Embeddings(x.astype(np.float16)), "b": Embeddings(x)}).values.dtype == np.float64
    assert mean({"a": Embeddings(np.eye(3, dtype=int))}).values.tolist() == np.eye(3).tolist()


@settings(deadline=None, max_examples=30)
@given(st.floats(1e-300, 1e300), st.integers(0, 1000))
def test_the_length_of_vectors_does_not_matter(scale, seed):
    x = np.random.default_rng(seed).normal(size=(5, 4))
    y = np.random.default_rng(seed + 1).normal(size=(5, 3))
    for fuser in (concat, mean):
        one = fuser({"a": Embeddings(x), "b": Embeddings(y)})
        two = fuser({"a": Embeddings(x * scale), "b": Embeddings(y)})
        np.testing.assert_allclose(one.values, two.values, atol=1e-9)


# Common spaces


def rotations(rng, n=50, width=6, members=3):
    base = rng.normal(size=(n, width))
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    turns = [np.linalg.qr(rng.normal(size=(width, width)))[0] for _ in range(members)]
    return base, {f"m{k}": Embeddings(base @ t) for k, t in enumerate(turns)}


def test_procrustes_undoes_rotations():
    base, outputs = rotations(np.random.default_rng(0))
    fuser = fit_procrustes(outputs)
    fused = fuser(outputs).values
    np.testing.assert_allclose(fused @ fused.T, base @ base.T, atol=1e-9)
    for matrix in fuser.matrices.values():
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(6), atol=1e-9)
    np.testing.assert_allclose(fuser({"m1": outputs["m1"]}).values, fused, atol=1e-9)
    assert np.linalg.norm(mean(outputs).values - fused) > 1


def test_procrustes_does_no_worse_with_more_rounds():
    rng = np.random.default_rng(0)
    _, outputs = rotations(rng)
    outputs = {n: Embeddings(o.values + 0.5 * rng.normal(size=o.values.shape)) for n, o in outputs.items()}
    lengths = [np.linalg.norm(procrustes(outputs, rounds=r).values) for r in (1, 2, 5, 20)]
    assert lengths == sorted(lengths)


def test_fewer_rows_than_axes_leave_cosines_within_a_member_alone():
    rng = np.random.default_rng(0)
    few = {n: Embeddings(rng.normal(size=(3, d))) for n, d in (("a", 20), ("b", 15), ("c", 9))}
    new = {n: Embeddings(rng.normal(size=(8, 2, o.values.shape[1]))) for n, o in few.items()}
    fuser = fit_procrustes(few)
    for name in new:
        np.testing.assert_allclose(cosines(fuser({name: new[name]})), cosines(new[name]), atol=1e-8)


def test_pca_keeps_the_cosines_about_the_mean_where_all_axes_are_kept():
    outputs, _ = world()
    full = {n: Embeddings(np.nan_to_num(o.values)[np.arange(60) > 5]) for n, o in outputs.items()}
    fuser = fit_pca(full, dim=28)
    joined = concat(full).values.reshape(-1, 28)
    centred = (joined - joined.mean(axis=0)).reshape(-1, 2, 28)
    np.testing.assert_allclose(cosines(fuser(full)), cosines(Embeddings(centred)), atol=1e-9)
    values = np.linalg.eigvalsh(np.cov(joined.T))[::-1]
    spread = fuser(full).values.reshape(-1, 28).var(axis=0, ddof=1)
    np.testing.assert_allclose(spread, values, atol=1e-9)
    assert fit_pca(full).width == 9


def test_pca_by_rows_is_pca_by_axes():
    rng = np.random.default_rng(0)
    outputs = {"a": Embeddings(rng.normal(size=(7, 30))), "b": Embeddings(rng.normal(size=(7, 20)))}
    joined = concat(outputs).values
    left, values, _ = np.linalg.svd(joined - joined.mean(axis=0))
    right = left[:, :3] * values[:3]
    fused = pca(outputs, dim=3).values
    np.testing.assert_allclose(np.abs(fused), np.abs(right), atol=1e-9)
    assert pca(outputs).values.shape == (7, 6)


def test_gcca_is_the_largest_sum_of_squared_correlations():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(200, 2))
    outputs = {
        n: Embeddings(np.hstack([common, rng.normal(size=(200, d))]) @ rng.normal(size=(d + 2, d + 2)))
        for n, d in (("a", 3), ("b", 5), ("c", 4))
    }
    fuser = fit_gcca(outputs, dim=2, shrink=1e-9)
    parts = [o.values / np.linalg.norm(o.values, axis=1, keepdims=True) for o in outputs.values()]
    parts = [p - p.mean(axis=0) for p in parts]
    hats = sum(p @ np.linalg.pinv(p) for p in parts) / 3
    values, vectors = np.linalg.eigh(hats)
    best = vectors[:, ::-1][:, :2]
    for name, part in zip(outputs, parts, strict=True):
        mine = part @ fuser.matrices[name]
        hat = part @ np.linalg.pinv(part)
        np.testing.assert_allclose(
            np.abs(mine), np.abs(hat @ best * np.sqrt(200 * values[::-1][:2])), atol=1e-4
        )
    fused = gcca(outputs, dim=2, shrink=1e-9).values
    found = np.linalg.lstsq(np.c_[fused, np.ones(200)], common, rcond=None)[1] / (200 * common.var(axis=0))
    assert (found < 0.35).all()


def test_a_missing_member_or_row_is_left_out():
    outputs, _ = world()
    fuser = fit_pca(outputs, dim=4)
    some = {n: o for n, o in outputs.items() if n != "use"}
    assert fuser(some).values.shape == (60, 2, 4)
    assert fuser(outputs).answered.all()
    gone = {n: Embeddings(o.values, np.arange(60) > 0) for n, o in complete(outputs).items()}
    assert not fuser(gone).answered[0]
    with pytest.raises(OutputsError, match="was not fitted to new"):
        fuser({"new": outputs["use"]})
    with pytest.raises(OutputsError, match="of length 7; it was fitted to 5"):
        fuser({"use": outputs["static"]})


def test_members_of_weight_0_and_rows_of_weight_0_teach_nothing():
    outputs, _ = world()
    for fit in (fit_procrustes, fit_pca, fit_gcca):
        some = {n: o for n, o in outputs.items() if n != "tf idf"}
        heavy = {"é 384": 1.0, "use": 2.0, "static": 1.0}
        one = fit(outputs, member_weights=heavy | {"tf idf": 0.0})
        two = fit(some, member_weights=heavy)
        np.testing.assert_array_equal(one(some).values, two(some).values)
        rows = np.arange(60) < 30
        one = fit(outputs, weights=rows.astype(float))
        two = fit({n: o.take(rows) for n, o in outputs.items()})
        np.testing.assert_allclose(one(outputs).values, two(outputs).values, atol=1e-9)


# Fits


def test_weights_are_the_constrained_least_squares():
    outputs, gold = world(rows=200)
    full = {n: Embeddings(np.nan_to_num(o.values)) for n, o in outputs.items()}
    fuser = fit_similarity(full, gold, ridge=0.0)
    names = sorted(full)
    C = np.array([cosines(full[n]) for n in names]).T
    nnls = pytest.importorskip("scipy.optimize").nnls
    right = nnls(C - C.mean(axis=0), gold.values - gold.values.mean())[0]
    np.testing.assert_allclose([fuser.weights[n] for n in names], right / right.sum(), atol=1e-8)


def test_twins_share_their_weight():
    outputs, gold = world(rows=200)
    twins = {"use": outputs["use"], "use 2": outputs["use"], "static": outputs["static"]}
    fuser = fit_concat(twins, gold)
    assert fuser.weights["use"] == pytest.approx(fuser.weights["use 2"])
    assert fuser.name == "concat"


def test_fits_do_better_on_new_rows():
    for fit in (fit_concat, fit_similarity, fit_rank_mean):
        gains = []
        for seed in range(5):
            outputs, gold = world(seed, 400)
            outputs = complete(outputs)
            half, rest = (
                {n: o.take(r) for n, o in outputs.items()} for r in (slice(0, 200), slice(200, 400))
            )
            fuser = fit(half, gold.take(slice(0, 200)))
            best = fit_single(half, gold.take(slice(0, 200)), score=SPEARMAN)
            new = gold.take(slice(200, 400))
            gains.append(SPEARMAN.value(fuser(rest), new) - SPEARMAN.value(best(rest), new))
        assert min(gains) > 0


def test_rank_mean_keeps_the_rows_it_was_fitted_to():
    outputs, gold = world()
    fuser = fit_rank_mean(outputs, gold)
    assert isinstance(fuser, RankMean)
    alone = fuser({n: o.take([7]) for n, o in outputs.items()})
    assert alone.values[0] == pytest.approx(fuser(outputs).values[7])
    again = RankMean.unpack(*fuser.pack(), {})
    np.testing.assert_array_equal(again(outputs).values, fuser(outputs).values)
    plain = fit_rank_mean(outputs, None)
    np.testing.assert_allclose(plain(outputs).values, rank_mean(outputs).values)


def test_a_member_against_the_truth_gets_no_weight():
    outputs, gold = world(rows=200)
    outputs = complete(outputs)
    against = Embeddings(np.stack([outputs["use"].values[:, 0], -outputs["use"].values[:, 1]], axis=1))
    fuser = fit_concat({"use": outputs["use"], "against": against}, gold)
    assert fuser.needs == ("use",)
    only = fit_concat({"against": against}, gold)
    assert isinstance(only, Applied | Single)


def test_fits_with_a_truth_fall_back_to_the_best_member():
    rng = np.random.default_rng(0)
    outputs, gold = world(rows=100)
    noise = {f"noise {k}": Embeddings(rng.normal(size=(100, 2, 5))) for k in range(6)}
    for fit in (fit_pca, fit_gcca, fit_procrustes):
        assert isinstance(fit(noise | {"use": outputs["use"]}, gold), Single)
        assert isinstance(fit(noise | {"use": outputs["use"]}, None), Projected)


# Hostile input


@pytest.mark.parametrize("name", FUSERS)
@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "no outputs"),
        ({"a": Embeddings(np.ones((2, 2, 3))), "b": Embeddings(np.ones((3, 2, 3)))}, "the same rows"),
        ({"a": Embeddings(np.ones((2, 2, 3))), "b": Embeddings(np.ones((2, 3)))}, "vectors a row"),
        ({"a": Values([1.0])}, "answered with values"),
        ({"a": Embeddings([[[1.0, np.nan], [1, 2]]])}, "row 0 holds NaN"),
        ({"a": Embeddings([[[1.0, np.inf], [1, 2]]])}, "row 0 holds NaN or infinity"),
        ({3: Embeddings(np.ones((2, 2, 3)))}, "named by strings"),
    ],
)
def test_bad_vectors_are_told(name, outputs, message):
    with pytest.raises(OutputsError, match=message):
        FUSERS[name](outputs)


@pytest.mark.parametrize("name", FUSERS)
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1, "b": -1}, "negative"),
        ([0, 0], "all weights are 0"),
        ([1], "1 weights"),
        ({"a": 1}, "no weight for b"),
    ],
)
def test_bad_weights_are_told(name, weights, message):
    x = Embeddings(np.random.default_rng(0).normal(size=(5, 2, 3)))
    with pytest.raises(OutputsError, match=message):
        FUSERS[name]({"a": x, "b": x}, weights=weights)


@pytest.mark.parametrize("name", FUSERS)
def test_one_row_constant_and_zero_vectors(name):
    one = Embeddings(np.array([[[1.0, 2.0], [2.0, 1.0]]]))
    zero = Embeddings(np.zeros((4, 2, 3)))
    same = Embeddings(np.ones((4, 2, 3)))
    mixed = Embeddings(np.random.default_rng(0).normal(size=(4, 2, 2)))
    assert len(FUSERS[name]({"a": one})) == 1
    fused = FUSERS[name]({"zero": zero, "same": same, "mixed": mixed})
    assert fused.answered.all()
    assert np.isfinite(fused.values).all()
    if name in ("pca", "gcca"):
        with pytest.raises(OutputsError, match="do not vary"):
            FUSERS[name]({"zero": zero, "same": same})


def test_no_rows_and_no_complete_rows():
    none = Embeddings(np.zeros((0, 2, 3)))
    for name in ("concat", "mean", "similarity", "rank_mean"):
        assert len(FUSERS[name]({"a": none})) == 0
    a = Embeddings(np.ones((2, 2, 3)), [True, False])
    b = Embeddings(np.ones((2, 2, 3)), [False, True])
    for name in ("procrustes", "pca", "gcca"):
        with pytest.raises(OutputsError, match="no row that every member answered"):
            FUSERS[name]({"a": a, "b": b})
    assert concat({"a": a, "b": b}).answered.all()


def test_similarities_need_pairs():
    for values, told in ((np.ones((3, 4)), "one"), (np.ones((3, 3, 4)), "3")):
        with pytest.raises(OutputsError, match=f"hold {told}"):
            similarity({"a": Embeddings(values)})


def test_bad_options_and_truths_are_told():
    outputs, gold = world()
    with pytest.raises(OutputsError, match="dim must lie in 1 to"):
        fit_pca(outputs, dim=1000)
    with pytest.raises(OutputsError, match="shrink"):
        fit_gcca(outputs, shrink=0)
    for name in ("concat", "similarity", "rank_mean"):
        with pytest.raises(TruthError, match="not Labels"):
            FIT_FUSERS[name](outputs, Labels.of(["a"] * 60))
        with pytest.raises(TruthError, match="the truth has 3"):
            FIT_FUSERS[name](outputs, gold.take([0, 1, 2]))
        with pytest.raises(TruthError, match="no row has both"):
            FIT_FUSERS[name](outputs, Values(gold.values, np.zeros(60, bool)))
        with pytest.raises(OutputsError, match="ridge"):
            FIT_FUSERS[name](outputs, gold, ridge=-1.0)


def test_packed_records_from_hostile_files_are_refused():
    outputs, gold = world()
    for fuser in (fit_pca(outputs, dim=3), fit_rank_mean(outputs, gold)):
        arrays, meta = fuser.pack()
        for name in arrays:
            with pytest.raises(BundleError):
                type(fuser).unpack({n: a for n, a in arrays.items() if n != name}, meta, {})
            with pytest.raises(BundleError):
                type(fuser).unpack(arrays | {name: arrays[name][:-1]}, meta, {})
            with pytest.raises(BundleError):
                type(fuser).unpack(arrays | {name: arrays[name] * np.nan}, meta, {})
        with pytest.raises(BundleError):
            type(fuser).unpack(arrays, {**meta, "members": ["a"]}, {})
        again = type(fuser).unpack(arrays, meta, {})
        np.testing.assert_array_equal(again(outputs).values, fuser(outputs).values)


# Real encoders


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/outputs/sentence_embeddings")
def test_real_encoders_fused_are_better_than_the_best_on_new_pairs():
    outputs, gold = {}, Values([0.0])
    for file in sorted(REAL.glob("*.npz")):
        with np.load(file) as found:
            outputs[file.stem] = Embeddings(np.stack([found["emb1"], found["emb2"]], axis=1))
            gold = Values(found["gold"].astype(float))
    assert SPEARMAN.value(outputs["minilm_l6_fp32"], gold) == pytest.approx(0.8266, abs=1e-4)
    gains = []
    for seed in range(5):
        rows = np.random.default_rng(seed).permutation(len(gold))
        half, rest = rows[: len(rows) // 2], rows[len(rows) // 2 :]
        known = {n: o.take(half) for n, o in outputs.items()}
        new = {n: o.take(rest) for n, o in outputs.items()}
        fuser, best = fit_concat(known, gold.take(half)), fit_single(known, gold.take(half), score=SPEARMAN)
        mine = SPEARMAN.value(fuser(new), gold.take(rest))
        assert mine == pytest.approx(spearmanr(cosines(fuser(new)), gold.values[rest])[0], abs=1e-9)
        gains.append(mine - SPEARMAN.value(best(new), gold.take(rest)))
    assert np.mean(gains) > 0.005
    assert min(gains) > -0.01
