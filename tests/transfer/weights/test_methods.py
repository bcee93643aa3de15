"""Every merging method against its formula in plain float64, and its laws."""

import numpy as np
import pytest

from conjoin.errors import InputError
from conjoin.transfer.weights import METHODS, merge_tensors

SHAPE = (7, 130)
RNG = np.random.default_rng(0)
BASE = 0.02 * RNG.standard_normal(SHAPE)
MODELS = [BASE + 0.002 * RNG.standard_normal(SHAPE) for _ in range(3)]
WEIGHTS = [0.5, 0.3, 0.4]
DENSITY = [0.3, 0.5, 0.7]
MINIMAL = {
    "linear": {"weight": WEIGHTS},
    "slerp": {"t": 0.3},
    "nuslerp": {"weight": WEIGHTS[:2]},
    "multislerp": {"weight": WEIGHTS},
    "nearswap": {"t": 0.001},
    "task_arithmetic": {"weight": WEIGHTS},
    **{
        name: {"weight": WEIGHTS, "density": DENSITY}
        for name in METHODS
        if name.startswith(("ties", "dare", "breadcrumbs", "della"))
    },
}


def bits(values):
    """bfloat16 bits, rounded to the nearest even."""
    single = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((single + 0x7FFF + ((single >> 16) & 1)) >> 16).astype(np.uint16)


def numbers(found):
    return (found.astype(np.uint32) << 16).view(np.float32) if found.dtype == np.uint16 else found


def merged(name, models=MODELS, base=BASE, **parameters):
    method = METHODS[name]
    models = models[: method.most] if method.most else models
    given = {**MINIMAL.get(name, {}), **parameters}
    return merge_tensors(models, name, base=None if method.base == "none" else base, parameters=given)


def top(delta, density):
    """The mask of the largest magnitudes, the first of equal ones."""
    count = max(1, int(density * delta.size))
    mask = np.zeros(delta.size, bool)
    mask[np.argsort(-np.abs(delta).ravel(), kind="stable")[:count]] = True
    return mask.reshape(delta.shape)


def inner(delta, density, gamma):
    n, order = delta.size, np.argsort(np.abs(delta).ravel(), kind="stable")
    kept, high = int(density * n), int(gamma * n)
    low = max(0, n - kept - high)
    mask = np.zeros(n, bool)
    mask[order[low : low + kept]] = True
    return mask.reshape(delta.shape)


def elected(deltas, weights, *, normalize, scale=1.0):
    weighted = [w * d for w, d in zip(weights, deltas, strict=True)]
    sign = np.where(sum(weighted) >= 0, 1, -1)
    agree = [np.sign(d) == sign for d in weighted]
    total = sum(d * a for d, a in zip(weighted, agree, strict=True))
    mass = sum(w * a for w, a in zip(weights, agree, strict=True))
    return scale * (total / np.where(mass == 0, 1, mass) if normalize else total)


def angle(a, b):
    return np.arccos((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def expected():
    deltas = [m - BASE for m in MODELS]
    thin = [d * top(d, p) for d, p in zip(deltas, DENSITY, strict=True)]
    inside = [d * inner(d, p, 0.01) for d, p in zip(deltas, DENSITY, strict=True)]
    o = angle(BASE, MODELS[0])
    q, t = angle(deltas[0], deltas[1]), 0.3 / 0.8
    k = 3
    cos = np.mean([np.cos(angle(deltas[i], deltas[j])) for i in range(3) for j in range(i)])
    share = k * cos / (1 + (k - 1) * cos)
    variance = np.var(deltas, axis=0)
    chosen = variance >= np.sort(variance.ravel())[-int(0.4 * variance.size)]
    squares = np.array([(d * chosen) ** 2 for d in deltas]).mean(axis=(1, 2))
    sce = [d * chosen for d in deltas]
    sign = np.where(sum(sce) >= 0, 1, -1)
    agree = np.array([np.sign(d) == sign for d in sce]) * (squares / squares.sum())[:, None, None]
    changed = np.abs(deltas) > 0.002
    count = changed.sum(axis=0)
    near = np.clip(0.001 / np.maximum(np.abs(deltas[0]), 1e-6), 0, 1)
    return {
        "linear": sum(w * m for w, m in zip(WEIGHTS, MODELS, strict=True)) / sum(WEIGHTS),
        "slerp": (np.sin(0.7 * o) * BASE + np.sin(0.3 * o) * MODELS[0]) / np.sin(o),
        "nuslerp": BASE + (np.sin((1 - t) * q) * deltas[0] + np.sin(t * q) * deltas[1]) / np.sin(q),
        "passthrough": MODELS[0],
        "task_arithmetic": BASE + sum(w * d for w, d in zip(WEIGHTS, deltas, strict=True)),
        "ties": BASE + elected(thin, WEIGHTS, normalize=True),
        "breadcrumbs": BASE + sum(w * d for w, d in zip(WEIGHTS, inside, strict=True)),
        "breadcrumbs_ties": BASE + elected(inside, WEIGHTS, normalize=False),
        "model_stock": share * np.mean(MODELS, axis=0) + (1 - share) * BASE,
        "nearswap": BASE + near * deltas[0],
        "sce": BASE + (agree * sce).sum(axis=0) / np.maximum(agree.sum(axis=0), 1e-6),
        "ram": BASE + (np.array(deltas) * changed / np.maximum(count, 1)).sum(axis=0),
    }


FORMULAS = expected()
OPTIONS = {"sce": {"select_topk": 0.4}, "ram": {"epsilon": 0.002}}


@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name):
    np.testing.assert_allclose(merged(name, **OPTIONS.get(name, {})), FORMULAS[name], rtol=0, atol=3e-10)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["bf16", "f32"])
def test_stored_weights_lose_no_more_than_their_rounding(name, kind):
    store = bits if kind == "bf16" else np.float32
    base, models = store(BASE), [store(m) for m in MODELS]
    wide = merged(name, [numbers(m).astype(float) for m in models], numbers(base).astype(float))
    got = merged(name, models, base)
    assert got.dtype == base.dtype
    step = 2.0**-8 if kind == "bf16" else 2.0**-22
    np.testing.assert_allclose(numbers(got), wide, rtol=step, atol=1e-3 * step)


def test_karcher_mean_has_no_pull_left():
    mean = merged("karcher", max_iter=50, tol=1e-12)
    unit = mean / np.linalg.norm(mean)
    pull = np.zeros(SHAPE)
    for model in MODELS:
        other = model / np.linalg.norm(model)
        o = np.arccos((unit * other).sum())
        pull += o / np.sin(o) * (other - np.cos(o) * unit)
    assert np.linalg.norm(pull) < 1e-9
    assert np.linalg.norm(mean) == pytest.approx(np.mean([np.linalg.norm(m) for m in MODELS]))


def test_barycentre_of_two_with_equal_weights_is_half_way():
    a, b = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    found = merge_tensors([a, b], "multislerp", parameters={"weight": 1.0})
    np.testing.assert_allclose(found, [np.sqrt(0.5)] * 2, atol=1e-7)
    with pytest.raises(InputError, match="cancel out"):
        merge_tensors([a, b, -a, -b], "multislerp", parameters={"weight": 1.0})


@pytest.mark.parametrize("name", ["dare_linear", "dare_ties", "della", "della_linear"])
def test_draws_keep_their_share_and_depend_on_seed_and_name_alone(name):
    base = np.zeros((400, 200))
    one = [1 + RNG.random(base.shape)]
    options = {"weight": 1.0, "density": 0.6, "rescale": False}

    def draw(**more):
        return merge_tensors(one, name, base=base, parameters=options, **more) != 0

    kept = draw()
    assert abs(kept.mean() - 0.6) < 4 * np.sqrt(0.24 / kept.size)
    np.testing.assert_array_equal(kept, draw())
    for other in (draw(seed=1), draw(name="other")):
        assert abs(np.corrcoef(kept.ravel(), other.ravel())[0, 1]) < 0.05  # ranks are shared by della
    two = merge_tensors(one * 2, name, base=base, parameters={**options, "weight": [0, 1]}) != 0
    assert abs(np.corrcoef(kept.ravel(), two.ravel())[0, 1]) < 0.05  # ranks are shared by della


def test_della_keeps_large_ones_more_often():
    base, one = np.zeros((500, 101)), np.tile(np.arange(1.0, 102.0), (500, 1))
    options = {"weight": 1.0, "density": 0.5, "epsilon": 0.3, "rescale": False}
    kept = (merge_tensors([one], "della_linear", base=base, parameters=options) != 0).mean(axis=0)
    np.testing.assert_allclose(kept, np.linspace(0.2, 0.8, 101), atol=0.1)


def test_rescaling_as_mergekit_and_as_the_paper():
    base, one = np.zeros(50_000), [np.abs(RNG.standard_normal(50_000))]
    l1 = merge_tensors(one, "dare_linear", base=base, parameters={"weight": 1, "density": 0.25})
    assert np.abs(l1).sum() == pytest.approx(one[0].sum(), rel=1e-9)
    given = {"weight": 1, "density": 0.25, "rescale": "paper"}
    paper = merge_tensors(one, "dare_linear", base=base, parameters=given)
    np.testing.assert_allclose(paper[paper != 0], 4 * one[0][paper != 0])


def test_equal_magnitudes_keep_the_exact_density():
    base, one = np.zeros(1000), [np.ones(1000)]
    kept = merge_tensors(one, "ties", base=base, parameters={"weight": 1, "density": 0.123})
    assert (kept != 0).tolist() == [True] * 123 + [False] * 877
    band = merge_tensors(
        one, "breadcrumbs", base=base, parameters={"weight": 1, "density": 0.5, "gamma": 0.1}
    )
    assert (band != 0).sum() == 500


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", [(0,), (1,), (3, 0), (1, 1), ()])
def test_small_and_empty_tensors(name, shape):
    models = [np.full(shape, 1.0 + k) for k in range(3)]
    got = merged(name, models, np.zeros(shape))
    assert got.shape == shape
    assert np.isfinite(got).all()


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("tise", {}, "did you mean 'ties'"),
        ("ties", {"wieght": 1}, "did you mean 'weight'"),
        ("ties", {}, "needs the parameter 'weight'"),
        ("ties", {"weight": 1, "density": 1.5}, "density.*0 to 1, not 1.5"),
        ("slerp", {"t": -0.1}, "t.*0 to 1"),
        ("slerp", {"t": "half"}, "must be a number, not 'half'"),
        ("linear", {"weight": [1, -1, 0]}, "sum to 0"),
        ("linear", {"weight": [1, 1]}, "2 values of 'weight' for 3 models"),
        ("ties", {"weight": float("nan")}, "must be finite"),
        ("della", {"weight": 1, "density": 0.9}, "must stay inside 0 to 1"),
        ("dare_ties", {"weight": 1, "rescale": "maybe"}, "rescale"),
    ],
)
def test_bad_parameters(name, parameters, message):
    base = None if name == "linear" else BASE
    models = MODELS[:1] if name == "slerp" else MODELS
    with pytest.raises(InputError, match=message):
        merge_tensors(models, name, base=base, parameters=parameters)


def test_wrong_models():
    with pytest.raises(InputError, match="takes no base"):
        merge_tensors(MODELS, "linear", base=BASE, parameters={"weight": 1})
    with pytest.raises(InputError, match="needs a base"):
        merge_tensors(MODELS, "ties", parameters={"weight": 1})
    with pytest.raises(InputError, match="takes 1 models beside the base, not 3"):
        merge_tensors(MODELS, "slerp", base=BASE, parameters={"t": 0.5})
    with pytest.raises(InputError, match="shapes and types differ"):
        merge_tensors([BASE, BASE[:2]], "linear", parameters={"weight": 1})
    with pytest.raises(InputError, match="float32, float64 or bfloat16"):
        merge_tensors([np.arange(3)], "linear", parameters={"weight": 1})
