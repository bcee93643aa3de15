"""Matching, adapting, transplanting: hand-worked cases, torch and timm's rules, bad input."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from conjoin.errors import InputError
from conjoin.transfer.weights import adapt
from conjoin.transfer.weights.matching import match, normalised
from conjoin.transfer.weights.transplant import transplant


def mlp(sizes, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    named = {}
    for i, (a, b) in enumerate(pairwise(sizes)):
        named[f"{i}.weight"] = rng.standard_normal((b, a)).astype(dtype)
        named[f"{i}.bias"] = rng.standard_normal(b).astype(dtype)
    return named


def run(net, x):
    last = len(net) // 2 - 1
    for i in range(last + 1):
        x = x @ net[f"{i}.weight"].T + net[f"{i}.bias"]
        x = x if i == last else np.maximum(x, 0)
    return x


def kinds(done):
    return {fate.name: fate.kind for fate in done.report}


def test_names_match_exactly_normalised_or_as_told():
    source = {"module.Block.0.gamma": (4,), "head.weight": (2, 4)}
    target = {"block.0.weight": (4,), "head.weight": (3, 4), "new": (1,)}
    assert match(source, target) == {"head.weight": "head.weight"}
    assert match(source, target, "normalised") == {
        "block.0.weight": "module.Block.0.gamma",
        "head.weight": "head.weight",
    }
    assert match(source, target, {"new": "head.weight"}) == {"new": "head.weight"}
    assert normalised("model.net.décodeur naïf.beta") == "décodeur naïf.bias"


def test_structure_finds_layers_of_other_names_in_order():
    source = {"emb": (9, 4)}
    target = {"table": (9, 4)}
    for i in range(4):
        source |= {f"h.{i}.attn.w": (4, 4), f"h.{i}.ln.weight": (4,), f"h.{i}.ln.bias": (4,)}
    for i in range(3):
        target |= {f"layers.{i}.norm.bias": (4,), f"layers.{i}.q": (4, 4), f"layers.{i}.norm2.bias": (4,)}
    found = match(source, target, "structure")
    assert found["table"] == "emb"
    blocks = [(name.split(".")[1], there.split(".")[1]) for name, there in found.items() if "." in name]
    assert len({b for b, _ in blocks}) == 3
    assert blocks == sorted(blocks)
    assert all(source[there] == target[name] for name, there in found.items())
    assert found["layers.0.norm2.bias"].endswith("ln.bias")


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("structrue", "did you mean 'structure'"),
        ({"hed": "head.weight"}, "did you mean 'head'"),
        ({"head": "hed.weight"}, "did you mean 'head.weight'"),
    ],
)
def test_bad_rules_are_told(rule, says):
    with pytest.raises(InputError, match=says):
        match({"head.weight": (1,)}, {"head": (1,)}, rule)


def test_doubled_normalised_names_are_refused():
    with pytest.raises(InputError, match="one name when normalised"):
        match({"module.a": (1,), "model.a": (1,)}, {"a": (1,)}, "normalised")


def test_input_channels_answer_the_same_to_equal_channels():
    w = np.random.default_rng(0).standard_normal((5, 3, 7, 7)).astype(np.float32)
    grey = np.random.default_rng(1).standard_normal((7, 7))
    want = np.einsum("oihw,hw->o", w, grey)
    for channels in (1, 6, 9):
        new = adapt.input_channels(w, channels)
        got = np.einsum("oihw,hw->o", new, grey)
        np.testing.assert_allclose(got, want, atol=1e-4)
    four = adapt.input_channels(w, 4)
    np.testing.assert_allclose(four, w[:, [0, 1, 2, 0]] * 0.75, rtol=1e-6)
    with pytest.raises(InputError, match="0 input channels"):
        adapt.input_channels(w, 0)


@pytest.mark.parametrize("new", [(14, 14), (5, 9), (3, 2), (1, 1), (7, 7)])
def test_grids_are_torch_bicubic_with_antialias(new):
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(0).standard_normal((2 + 49, 6)).astype(np.float32)
    got = adapt.grid_positions(table, (7, 7), new, prefix=2)
    grid = torch.tensor(table[2:]).reshape(1, 7, 7, 6).permute(0, 3, 1, 2)
    want = torch.nn.functional.interpolate(grid, size=new, mode="bicubic", antialias=True)
    np.testing.assert_allclose(got[2:], want[0].permute(1, 2, 0).reshape(-1, 6).numpy(), atol=1e-5)
    np.testing.assert_array_equal(got[:2], table[:2])
    assert got.dtype == np.float32


def test_positions_grow_as_torch_and_keep_a_line():
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(0).standard_normal((8, 3))
    got = adapt.positions(table, 13)
    want = torch.nn.functional.interpolate(torch.tensor(table.T[None]), size=13, mode="linear")
    np.testing.assert_allclose(got, want[0].T.numpy(), atol=1e-12)
    line = adapt.positions(np.arange(64.0)[:, None], 16).ravel()[1:-1]
    np.testing.assert_allclose(np.diff(line), 4.0)


def test_bad_positions_are_told():
    for bad in (np.ones(3), np.ones((0, 2))):
        with pytest.raises(InputError, match="table"):
            adapt.positions(bad, 2)
    with pytest.raises(InputError, match="no grid"):
        adapt.grid_positions(np.ones((5, 2)), (2, 2), (3, 3))


def test_classifier_rows_go_by_name():
    rows, fresh = np.arange(6.0).reshape(3, 2), np.full((2, 2), 9.0)
    got = adapt.classifier(rows, ["chat noir", "犬", "c"], fresh, ["犬", "new"])
    np.testing.assert_array_equal(got, [[2, 3], [9, 9]])
    for classes, wanted, says in (
        (["a", "b", "c"], ["x", "y"], "no class in common"),
        (["a", "b"], ["a", "y"], "one name a row"),
        (["a", "a", "b"], ["a", "y"], "one name a row"),
    ):
        with pytest.raises(InputError, match=says):
            adapt.classifier(rows, classes, fresh, wanted)


def test_tokens_go_by_name_pieces_and_mean():
    table = np.array([[0.0, 0], [2, 4], [4, 2]], np.float32)
    tokens = {"a": 0, "b": 1, "c": 2}
    got = adapt.token_embeddings(
        table, tokens, {"c": 0, "bc": 1, "?": 2}, pieces={"bc": ["b", "c", "zz"]}, rows=4
    )
    np.testing.assert_array_equal(got, [[4, 2], [3, 3], [2, 2], [2, 2]])
    assert got.dtype == np.float32
    with pytest.raises(InputError, match="no token in common"):
        adapt.token_embeddings(table, tokens, {"x": 0})
    with pytest.raises(InputError, match="has row 7"):
        adapt.token_embeddings(table, tokens, {"a": 7}, rows=4)


def test_a_narrow_net_grows_into_a_wide_one_and_computes_the_same():
    x = np.random.default_rng(2).standard_normal((50, 8))
    source, target = mlp([8, 16, 5, 3]), mlp([8, 39, 11, 3], seed=1)
    done = transplant(source, target, growth="fit")
    np.testing.assert_allclose(run(done.tensors, x), run(source, x), atol=1e-4, rtol=1e-5)
    assert kinds(done)["0.weight"] == "adapted"
    assert kinds(done)["2.bias"] == "carried"
    noisy = [
        transplant(source, target, growth="fit", noise=0.01, seed=s).tensors["1.weight"] for s in (1, 1, 2)
    ]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert not np.array_equal(noisy[0], noisy[2])


def test_flattened_channels_grow_with_their_channels():
    rng = np.random.default_rng(0)
    features, head = rng.standard_normal((5, 4, 9)), rng.standard_normal((3, 36))
    grown = adapt.fitted(head, (3, 54))
    wide = features[:, adapt.fitted(np.arange(4.0), (6,)).astype(int)]
    np.testing.assert_allclose(wide.reshape(5, -1) @ grown.T, features.reshape(5, -1) @ head.T, atol=1e-12)


def test_a_wide_net_gives_evenly_spaced_units():
    source, target = mlp([8, 16, 3]), mlp([8, 4, 3], seed=1)
    done = transplant(source, target, growth="fit").tensors
    np.testing.assert_array_equal(done["0.weight"], source["0.weight"][::4])
    np.testing.assert_array_equal(done["1.weight"], source["1.weight"][:, ::4])


def test_the_report_tells_every_tensor_and_inputs_stay():
    source, target = mlp([8, 16, 3]), mlp([8, 16, 4], seed=1, dtype=np.float64)
    before = {k: v.copy() for k, v in target.items()}
    source["old"] = np.ones(2, np.float32)
    target["new"] = np.zeros(1)
    names = partial(adapt.classifier, classes=["a", "b", "c"], wanted=["c", "a", "x", "y"])

    def head(rows, fresh):
        return names(rows, fresh=fresh)

    done = transplant(source, target, adapt={"1.weight": head}, leave=["0.bias"])
    assert [f.name for f in done.report] == list(target)
    assert kinds(done) == {
        "0.weight": "adapted",
        "0.bias": "fresh",
        "1.weight": "adapted",
        "1.bias": "fresh",
        "new": "fresh",
    }
    assert done.unused == ("0.bias", "1.bias", "old")
    assert "float32 to float64" in str(done)
    assert "head, (3, 16) to (4, 16)" in str(done)
    np.testing.assert_array_equal(done.tensors["1.weight"][0], source["1.weight"][2])
    np.testing.assert_array_equal(done.tensors["1.weight"][2:], target["1.weight"][2:])
    for name, array in before.items():
        np.testing.assert_array_equal(target[name], array)
        assert done.tensors[name].dtype == np.float64
        assert not np.shares_memory(done.tensors[name], target[name])


@pytest.mark.parametrize(
    ("source", "target", "options", "says"),
    [
        ({"a": np.ones(2)}, {"b": np.ones(2)}, {}, "no layer in common"),
        ({}, {"b": np.ones(2)}, {}, "no layer in common"),
        ({"a": np.ones(2)}, {"a": np.ones(3)}, {}, r"no layer in common.*shape \(2,\)"),
        ({"a": np.array([1, np.nan])}, {"a": np.ones(2)}, {}, "NaN or infinite"),
        ({"a": np.array([1e300])}, {"a": np.ones(1, np.float32)}, {}, "too large"),
        ({"a": np.ones(2, np.uint16)}, {"a": np.ones(2)}, {}, "uint16 does not go over"),
        ({"a": np.ones(2, np.uint16)}, {"a": np.ones(3, np.uint16)}, {"growth": "fit"}, "only float arrays"),
        ({"a": np.ones(2)}, {"a": np.ones(2)}, {"growth": "fitt"}, "did you mean 'fit'"),
        ({"a": np.ones(2)}, {"ab": np.ones(2)}, {"leave": ["ba"]}, "no tensor 'ba'"),
        ({"a": np.ones(2)}, {"a": np.ones(2)}, {"noise": -1.0}, "noise"),
        ({"a": np.ones(2)}, {"a": np.ones(3)}, {"adapt": {"a": lambda s, t: s}}, "adapting gave the shape"),
        ({"a": np.ones(2)}, {"a": np.ones(2), "b": np.ones(1)}, {"adapt": {"b": max}}, "takes nothing"),
    ],
)
def test_bad_transplants_are_told(source, target, options, says):
    with pytest.raises(InputError, match=says):
        transplant(source, target, **options)
