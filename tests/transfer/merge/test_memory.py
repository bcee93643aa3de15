"""Models in memory: every method, types, what does not fit, statistics given as arrays."""

import numpy as np
import pytest

import conjoin
from conjoin.errors import InputError
from conjoin.transfer.merge import greedy_soup
from conjoin.transfer.weights import METHODS, NEEDING

RNG = np.random.default_rng(5)
NAMES = {
    "layer.weight": (4, 6),
    "layer.bias": (4,),
    "norm.running_var": (4,),
    "Größe 名": (3, 2, 2),
    "empty": (0, 3),
}


def state(seed=0, kind=np.float32):
    rng = np.random.default_rng(seed)
    found = {n: (1 + 0.1 * rng.standard_normal(s)).astype(kind) for n, s in NAMES.items()}
    return {**found, "steps": np.array(7 + seed)}


BASE, MODELS = state(9), {"one": state(0), "two": state(1), "three": state(2)}
NEEDED = {"slerp": {"t": 0.3}, "nearswap": {"t": 0.01}}
FREE = [m for m in METHODS if m != "passthrough"]


def merged(name, models=MODELS, base=BASE, **parameters):
    method = METHODS[name]
    some = dict(list(models.items())[: method.most])
    given = {"weight": 0.5} if "weight" in method.parameters else {}
    given = {**given, **NEEDED.get(name, {}), **parameters}
    return conjoin.merge(some, name, base=None if method.base == "none" else base, parameters=given)


@pytest.mark.parametrize("name", FREE)
def test_every_method_merges_whole_models(name):
    found = merged(name)
    assert list(found) == list(BASE)
    for key, value in found.items():
        assert value.shape == BASE[key].shape
        assert value.dtype == BASE[key].dtype
        assert np.isfinite(value).all()
    assert found["steps"] == 7
    assert (found["norm.running_var"] > 0.5).all()
    again = merged(name)
    assert all(found[k].tobytes() == again[k].tobytes() for k in found)


@pytest.mark.parametrize("name", [m for m in FREE if METHODS[m].base != "none"])
def test_models_that_equal_the_base_change_nothing(name):
    found = merged(name, dict.fromkeys(MODELS, BASE))
    for key, value in found.items():
        np.testing.assert_allclose(value, BASE[key], rtol=1e-6)


SYMMETRIC = [m for m in FREE if METHODS[m].most is None and not METHODS[m].random]


@pytest.mark.parametrize("name", SYMMETRIC)
def test_the_order_of_models_does_not_matter(name):
    found, other = merged(name), merged(name, dict(reversed(MODELS.items())))
    for key in set(found) - {"steps"}:
        np.testing.assert_allclose(found[key], other[key], rtol=2e-6)


@pytest.mark.parametrize("name", ["linear", "uniform_soup", "karcher", "ties", "model_stock", "sce", "ram"])
def test_equal_fine_tunes_give_that_fine_tune(name):
    found = merged(name, dict.fromkeys(MODELS, MODELS["one"]))
    for key, value in found.items():
        np.testing.assert_allclose(value, MODELS["one"][key], rtol=2e-6)


@pytest.mark.parametrize(
    "name", ["linear", "uniform_soup", "passthrough", "karcher", "tsv_m", "wudi", "ties"]
)
def test_one_model_is_that_model(name):
    weight = {"weight": 1.0} if "weight" in METHODS[name].parameters else {}
    found = merged(name, {"one": MODELS["one"]}, **weight)
    for key, value in found.items():
        np.testing.assert_allclose(value, MODELS["one"][key], rtol=2e-6)


@pytest.mark.parametrize(
    "name", ["linear", "task_arithmetic", "ties", "dare_linear", "wudi", "iso_c", "tsv_m"]
)
def test_weight_0_is_absent(name):
    found = merged(name, weight=[1, 1, 0])
    two = merged(name, dict(list(MODELS.items())[:2]), weight=[1, 1])
    for key in found:
        np.testing.assert_allclose(found[key], two[key], rtol=2e-6)


def test_types_meet_and_the_first_ones_are_kept():
    first = {"w": np.array([1, 2], np.float16), "b": np.array([0x3F80, 0x4000], np.uint16)}
    second = {"w": np.array([3, 5.0]), "b": np.array([3, 4], np.float32)}
    found = conjoin.merge([first, second], "uniform_soup")
    assert found["w"].dtype == np.float16
    assert found["w"].tolist() == [2, 3.5]
    assert found["b"].tolist() == [0x4000, 0x4040]  # 2 and 3 as bfloat16
    back = conjoin.merge([second, first], "uniform_soup")
    assert back["w"].dtype == np.float64
    assert back["b"].tolist() == [2, 3]


def test_the_answer_shares_no_memory_and_inputs_stay():
    model = state()
    found = conjoin.merge([model], "passthrough")
    found["layer.weight"][:] = 0
    found["steps"][...] = 0
    assert (model["layer.weight"] != 0).all()
    assert model["steps"] == 7


def bad(change, key="layer.weight"):
    model = state(1)
    model[key] = change(model[key])
    return model


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ([], "no model"),
        ({}, "no model"),
        ("abc", "list or a mapping"),
        ([{}, 3], "model 1 must be a folder, a state dict or a torch module, not int"),
        ([state(), {k: v for k, v in state().items() if k != "empty"}], "model 1 lacks empty"),
        ([state(), {**state(), "更多": np.ones(1)}], "model 0 lacks 更多"),
        (
            [state(), bad(lambda x: x.T)],
            r"layer.weight has different shapes \(model 0: \[4, 6\], model 1: \[6, 4\]\)",
        ),
        ([state(), bad(lambda x: x * np.nan)], "layer.weight of model 1 holds NaN"),
        ([state(), bad(lambda x: x + np.inf)], "layer.weight of model 1 holds NaN or infinite"),
        ([state(), bad(lambda x: x.astype(int))], "layer.weight holds floats in some models"),
        ([state(), bad(lambda x: x.astype(complex))], "layer.weight: complex"),
        ([state(), bad(lambda x: x.astype(str))], "layer.weight: <U"),
        ([state(), bad(lambda x: None)], "'layer.weight' is no tensor"),
        ([state(), "folder"], "all folders, all state dicts"),
    ],
)
def test_what_does_not_fit_is_told(models, told):
    with pytest.raises(InputError, match=told):
        conjoin.merge(models, "uniform_soup")


def test_the_base_is_checked_too():
    base = {**BASE, "layer.bias": np.ones(5)}
    with pytest.raises(InputError, match=r"layer.bias has different shapes .*the base: \[5\]"):
        conjoin.merge(MODELS, "wudi", base=base)
    with pytest.raises(InputError, match="wudi needs a base"):
        conjoin.merge(MODELS, "wudi")
    with pytest.raises(InputError, match="did you mean 'wudi'"):
        conjoin.merge(MODELS, "wuid", base=BASE)


def test_infinite_masks_that_all_models_share_stay():
    mask = np.triu(np.full((3, 3), -np.inf, np.float32), 1)
    models = [{"w": np.ones(2), "mask": mask}, {"w": np.zeros(2), "mask": mask.copy()}]
    np.testing.assert_array_equal(conjoin.merge(models, "uniform_soup")["mask"], mask)


def test_regmean_of_statistics_needs_no_torch():
    x = [RNG.standard_normal((50, 3)) * s for s in (1, 3)]
    y = [RNG.standard_normal((50, 2)) for _ in x]
    rows = [np.column_stack([a, np.ones(50)]) for a in x]
    fits = [np.linalg.lstsq(a, b, rcond=None)[0].T for a, b in zip(rows, y, strict=True)]
    models = {n: {"l.weight": f[:, :3], "l.bias": f[:, 3]} for n, f in zip("ab", fits, strict=True)}
    grams = {n: {"l.weight": a.T @ a} for n, a in zip("ab", rows, strict=True)}
    found = conjoin.merge(models, "regmean", parameters={"alpha": 1}, statistics=grams)
    pooled = np.linalg.lstsq(np.vstack(rows), np.vstack(y), rcond=None)[0].T
    np.testing.assert_allclose(found["l.weight"], pooled[:, :3])
    np.testing.assert_allclose(found["l.bias"], pooled[:, 3])
    with pytest.raises(InputError, match="must hold the models' names, a, b, not a"):
        conjoin.merge(models, "regmean", statistics={"a": grams["a"]})
    with pytest.raises(InputError, match=r"l.weight: .*do not fit"):
        conjoin.merge(models, "regmean", statistics=[{"l.weight": np.eye(2)}] * 2)


def test_fisher_of_statistics_needs_no_torch():
    models = [
        {"w": np.array([0.0, 0.0]), "other": np.ones(1)},
        {"w": np.array([1.0, 1.0]), "other": np.zeros(1)},
    ]
    known = [{"w": np.array([1.0, 3.0])}, {"w": np.array([3.0, 1.0])}]
    found = conjoin.merge(models, "fisher", statistics=known)
    np.testing.assert_allclose(found["w"], [0.75, 0.25])
    assert found["other"] == [0.5]
    sure = [known[0], {"w": 1000 * known[1]["w"]}]
    np.testing.assert_allclose(conjoin.merge(models, "fisher", statistics=sure)["w"], [0.75, 0.25])
    raw = conjoin.merge(models, "fisher", statistics=sure, parameters={"normalize": False})
    assert raw["w"][1] > 0.99


@pytest.mark.parametrize("name", NEEDING)
def test_what_is_needed_is_told(name):
    base = BASE if NEEDING[name][0].base == "required" else None
    with pytest.raises(InputError, match="needs score=" if name == "greedy_soup" else "needs data="):
        conjoin.merge(MODELS, name, base=base)
    if name != "greedy_soup":
        data = {n: np.ones((2, 6)) for n in MODELS}
        with pytest.raises(InputError, match="give torch modules"):
            conjoin.merge(MODELS, name, base=base, data=data)
        with pytest.raises(InputError, match="data must hold"):
            conjoin.merge(MODELS, name, base=base, data=list(data.values())[:2])


def test_greedy_soup_takes_what_helps():
    far = {**MODELS, "far": {k: v + 9 if v.dtype.kind == "f" else v for k, v in BASE.items()}}

    def score(model):
        return -float(np.square(model["layer.weight"] - 1).sum())

    soup = greedy_soup(far, score)
    assert 3 not in soup.taken
    assert soup.score >= max(soup.scores)
    merged_too = conjoin.merge(far, "greedy_soup", score=score)
    np.testing.assert_array_equal(merged_too["layer.weight"], soup.model["layer.weight"])
    np.testing.assert_allclose(
        soup.model["layer.bias"],
        np.mean([list(far.values())[i]["layer.bias"] for i in soup.taken], axis=0),
        rtol=1e-6,
    )


def test_folders_do_not_take_data(tmp_path):
    with pytest.raises(InputError, match="not folders"):
        conjoin.merge([tmp_path], "fisher", data=[np.ones(2)], out=tmp_path / "out")
