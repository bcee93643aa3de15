"""Methods that are there for quality: their formulas on small matrices, and what must not go wrong."""

import numpy as np
import pytest

from conjoin.errors import InputError
from conjoin.transfer.weights import METHODS, NEEDING, merge_tensors, method_of
from conjoin.transfer.weights.fisher import fisher
from conjoin.transfer.weights.regmean import regmean
from conjoin.transfer.weights.soups import greedy

MATRICES = ("iso_c", "iso_cts", "tsv_m", "wudi")
RNG = np.random.default_rng(3)
BASE = RNG.standard_normal((12, 20))
DELTAS = [0.1 * RNG.standard_normal((12, 20)) for _ in range(3)]
MODELS = [BASE + d for d in DELTAS]


def merged(name, models=MODELS, base=BASE, **parameters):
    return merge_tensors(models, name, base=base, parameters=parameters)


def test_iso_c_flattens_the_sum():
    u, s, v = np.linalg.svd(sum(DELTAS), full_matrices=False)
    np.testing.assert_allclose(merged("iso_c"), BASE + s.mean() * u @ v)
    np.testing.assert_allclose(merged("iso_c", **{"lambda": 0.5}), BASE + 0.5 * s.mean() * u @ v)


def test_iso_cts_has_equal_singular_values_and_keeps_the_common_directions():
    change = merged("iso_cts", common=0.5) - BASE
    sizes = np.linalg.svd(change)[1]
    np.testing.assert_allclose(sizes, sizes[0])
    assert merged("iso_cts", common=1) == pytest.approx(merged("iso_c"))


def test_tsv_m_whitens_the_first_directions_of_each_task():
    parts = [np.linalg.svd(d, full_matrices=False) for d in DELTAS]
    left = np.hstack([u[:, :4] for u, _, _ in parts])
    right = np.vstack([v[:4] for _, _, v in parts])
    sizes = np.concatenate([s[:4] for _, s, _ in parts])

    def nearest(m):
        u, _, v = np.linalg.svd(m, full_matrices=False)
        return u @ v

    np.testing.assert_allclose(merged("tsv_m"), BASE + nearest(left) @ np.diag(sizes) @ nearest(right))


def disturbance(tau, pull):
    own = sum(np.sum(((tau - d) @ d.T) ** 2) / np.sum(d * d) for d in DELTAS)
    return own + pull * 3 / 20 * np.sum((tau - sum(DELTAS)) ** 2)


@pytest.mark.parametrize("pull", [0.0, 0.1, 2.0])
def test_wudi_is_the_minimum_of_its_objective(pull):
    tau = merged("wudi", pull=pull) - BASE
    least = disturbance(tau, pull)
    for step in (RNG.standard_normal(tau.shape) for _ in range(20)):
        assert disturbance(tau + 1e-3 * step, pull) > least
    walked = sum(DELTAS).copy()
    for _ in range(4000):  # gradient descent ends there, too
        slope = 2 * sum((walked - d) @ d.T @ d / np.sum(d * d) for d in DELTAS)
        walked -= 0.5 * (slope + 2 * pull * 3 / 20 * (walked - sum(DELTAS)))
    assert disturbance(walked, pull) == pytest.approx(least, rel=1e-6, abs=1e-12)


def test_wudi_leaves_orthogonal_tasks_alone():
    deltas = [np.zeros((4, 6)) for _ in range(3)]
    for i, d in enumerate(deltas):
        d[:, 2 * i : 2 * i + 2] = RNG.standard_normal((4, 2))
    found = merge_tensors(deltas, "wudi", base=np.zeros((4, 6)))
    np.testing.assert_allclose(found, sum(deltas), atol=1e-12)


def test_consensus_keeps_what_two_tasks_need():
    base = np.zeros(4)
    models = [np.array([1.0, 5, 0, -1]), np.array([1.0, 0.1, 0, 1]), np.array([1.0, 0.1, 0, 0])]
    found = merge_tensors(models, "consensus", base=base, parameters={"lambda": 1})
    np.testing.assert_allclose(found, [3, 0, 0, 0])
    alone = merge_tensors(models[:1], "consensus", base=base, parameters={"lambda": 1})
    np.testing.assert_allclose(alone, models[0])


@pytest.mark.parametrize("name", [*MATRICES, "consensus"])
def test_laws_of_weights(name):
    plain = merged(name)
    np.testing.assert_allclose(merged(name, MODELS[::-1]), plain, atol=1e-9)
    np.testing.assert_allclose(merged(name, weight=[0.5, 0.5, 0.5]), plain, atol=1e-12)
    np.testing.assert_allclose(merged(name, [*MODELS, BASE + 5], weight=[1, 1, 1, 0]), plain, atol=1e-12)
    np.testing.assert_allclose(merged(name, [BASE] * 3), BASE, atol=1e-12)
    assert merged(name).tobytes() == plain.tobytes()
    with pytest.raises(InputError, match="all weights are 0"):
        merged(name, weight=0)
    with pytest.raises(InputError, match="lie in 0 to"):
        merged(name, weight=-1)


@pytest.mark.parametrize("name", ["tsv_m", "wudi", "consensus"])
def test_one_model_stays_as_it_is(name):
    whole = {"lambda": 1.0}
    np.testing.assert_allclose(merged(name, MODELS[:1], **whole), MODELS[0], atol=1e-12)


def test_equal_models_stay_as_they_are_where_wudi_is_exact():
    np.testing.assert_allclose(merged("wudi", MODELS[:1] * 4, pull=0), MODELS[0], atol=1e-12)


@pytest.mark.parametrize("name", MATRICES)
def test_a_model_that_is_the_base_and_matrices_of_low_rank(name):
    low = [BASE, BASE + np.outer(np.arange(12.0), np.ones(20)), BASE + np.outer(np.ones(12), np.arange(20.0))]
    found = merged(name, low)
    assert np.isfinite(found).all()
    change = found - BASE
    assert np.linalg.matrix_rank(change, tol=1e-8) <= 2  # no direction is invented
    np.testing.assert_allclose(merged(name, low[:1]), BASE)


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1), (2, 3), (8, 3, 3, 3), (5, 4, 1)])
def test_shapes(name, shape):
    base = RNG.standard_normal(shape)
    models = [base + 0.1 * RNG.standard_normal(shape) for _ in range(5)]
    found = merged(name, models, base)
    assert found.shape == shape
    assert np.isfinite(found).all()
    flat = (shape[0], -1)
    again = merged(name, [m.reshape(flat) for m in models], base.reshape(flat))
    np.testing.assert_allclose(found.reshape(flat), again)


@pytest.mark.parametrize("name", MATRICES)
def test_vectors_and_embeddings_are_averaged(name):
    wanted = BASE + (DELTAS[0] + 3 * DELTAS[1]) / 4
    options = {"base": BASE, "parameters": {"weight": [1, 3]}}
    found = merge_tensors(MODELS[:2], name, name="model.embed_tokens.weight", **options)
    np.testing.assert_allclose(found, wanted)
    options["base"] = BASE[0]
    vector = merge_tensors([m[0] for m in MODELS[:2]], name, name="norm.weight", **options)
    np.testing.assert_allclose(vector, wanted[0])


@pytest.mark.parametrize("alpha", [1.0, 0.9, 0.0])
def test_regmean_on_linear_regression_is_the_pooled_solution(alpha):
    xs = [RNG.standard_normal((40 + 10 * i, 6)) * (1 + i) for i in range(3)]
    ys = [RNG.standard_normal((len(x), 2)) for x in xs]
    ws = [np.linalg.lstsq(x, y, rcond=None)[0].T for x, y in zip(xs, ys, strict=True)]
    found = regmean(ws, [x.T @ x for x in xs], alpha=alpha)
    pooled = np.linalg.lstsq(np.vstack(xs), np.vstack(ys), rcond=None)[0].T
    if alpha == 1:
        np.testing.assert_allclose(found, pooled, atol=1e-12)
    else:
        assert np.abs(found - pooled).max() > 1e-6
    if alpha == 0:  # each input on its own
        g = np.array([np.diag(x.T @ x) for x in xs])
        wanted = sum(w * d for w, d in zip(ws, g, strict=True)) / g.sum(axis=0)
        np.testing.assert_allclose(found, wanted)


def test_regmean_without_inputs_is_the_mean_and_weight_0_is_absent():
    a, b = RNG.standard_normal((2, 3, 4))
    nothing = np.zeros((4, 4))
    np.testing.assert_allclose(regmean([a, b], [nothing, nothing]), (a + b) / 2)
    gram = np.eye(4)
    np.testing.assert_allclose(regmean([a, b], [gram, gram], weights=[1, 0]), a)
    np.testing.assert_allclose(regmean([a, a], [gram, 9 * gram]), a)
    rank_one = np.outer(np.ones(4), np.ones(4))
    assert np.isfinite(regmean([a, b], [rank_one, rank_one], alpha=1)).all()
    with pytest.raises(InputError, match="do not fit"):
        regmean([a, b], [gram, np.eye(3)])
    with pytest.raises(InputError, match="NaN"):
        regmean([a, b], [gram, gram * np.nan])
    with pytest.raises(InputError, match="not all 0"):
        regmean([a, b], [gram, gram], weights=[0, 0])


def test_fisher_weighs_entries():
    a, b = RNG.standard_normal((2, 3, 4))
    f, g = RNG.random((2, 3, 4))
    np.testing.assert_allclose(fisher([a, b], [f, g]), (f * a + g * b) / (f + g))
    np.testing.assert_allclose(fisher([a, b], [f, g], weights=[2, 0]), a)
    np.testing.assert_allclose(fisher([a, b], [0 * f, 0 * g]), (a + b) / 2)
    with pytest.raises(InputError, match="negative"):
        fisher([a, b], [f, -g])
    with pytest.raises(InputError, match="shape"):
        fisher([a, b], [f, g[:2]])


def test_greedy_soup():
    def mean(some):
        return sum(some) / len(some)

    assert greedy([3.0, 1.0], mean, lambda m: -m).taken == (1,)
    assert greedy([2.0, 2.0], mean, lambda m: -m).taken == (0, 1)  # it does not fall
    assert greedy([7.0], mean, float).model == 7.0
    for bad in (lambda m: float("nan"), lambda m: None):
        with pytest.raises(InputError, match="score"):
            greedy([1.0], mean, bad)
    with pytest.raises(InputError, match="no model"):
        greedy([], mean, float)


@pytest.mark.parametrize("name", NEEDING)
def test_what_needs_data_says_how(name):
    with pytest.raises(InputError, match=r"needs .*conjoin\.merge"):
        method_of(name)
    with pytest.raises(InputError, match="needs"):
        merge_tensors(MODELS, name)


def test_names_do_not_meet():
    assert not set(METHODS) & set(NEEDING)
    with pytest.raises(InputError, match="did you mean 'regmean'"):
        method_of("regmaen")
