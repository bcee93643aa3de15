"""Transplants of state dicts: every rule, every fate, bad input."""

import json
from itertools import pairwise

import numpy as np
import pytest

import conjoin.transfer.transplant as part
from conjoin.errors import FileError, InputError
from conjoin.transfer.transplant import transplant


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
    return {fate.name: fate.kind for fate in done.fates}


def how(done, name):
    return next(f.how for f in done.fates if f.name == name)


def test_a_narrow_net_grows_into_a_wide_one_and_computes_the_same():
    x = np.random.default_rng(2).standard_normal((50, 8))
    source, target = mlp([8, 16, 5, 3]), mlp([8, 39, 11, 3], seed=1)
    done = transplant(source, target)
    np.testing.assert_allclose(run(done.model, x), run(source, x), atol=1e-4, rtol=1e-5)
    assert kinds(done)["0.weight"] == "adapted"
    assert kinds(done)["2.bias"] == "carried"
    assert how(done, "1.weight") == "grown, 5 x 16 to 11 x 39"
    noisy = [transplant(source, target, noise=0.01, seed=s).model["1.weight"] for s in (1, 1, 2)]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert not np.array_equal(noisy[0], noisy[2])


def test_a_shallow_net_grows_deeper_and_computes_the_same():
    x = np.random.default_rng(2).standard_normal((50, 8))
    source, target = mlp([8, 16, 16, 3]), mlp([8, 24, 24, 24, 24, 3], seed=1)
    done = transplant(source, target)
    np.testing.assert_allclose(run(done.model, x), run(source, x), atol=1e-4, rtol=1e-5)
    assert done.matched.startswith("structure (")
    assert "unit matrix" in how(done, "2.weight")
    assert any("relu" in n for n in done.notes)
    shallow = transplant(target, mlp([8, 24, 24, 3]), depth="last").model
    np.testing.assert_array_equal(shallow["1.weight"], target["3.weight"])


def test_a_wide_net_gives_units_evenly_or_by_importance():
    source, target = mlp([8, 16, 3]), mlp([8, 4, 3], seed=1)
    even = transplant(source, target).model
    np.testing.assert_array_equal(even["0.weight"], source["0.weight"][::4])
    np.testing.assert_array_equal(even["1.weight"], source["1.weight"][:, ::4])
    for unit in (3, 7, 8, 14):
        source["0.weight"][unit] *= 50
    ranked = transplant(source, target, width="importance").model
    np.testing.assert_array_equal(ranked["0.weight"], source["0.weight"][[3, 7, 8, 14]])
    np.testing.assert_array_equal(ranked["1.weight"], source["1.weight"][:, [3, 7, 8, 14]])
    np.testing.assert_array_equal(ranked["0.bias"], source["0.bias"][[3, 7, 8, 14]])


def test_a_crop_keeps_the_rest_of_the_target():
    source, target = mlp([8, 16, 3]), mlp([8, 20, 3], seed=1)
    done = transplant(source, target, width="crop").model
    np.testing.assert_array_equal(done["0.weight"][:16], source["0.weight"])
    np.testing.assert_array_equal(done["0.weight"][16:], target["0.weight"][16:])


def test_growth_alone_leaves_narrower_layers_fresh():
    source, target = mlp([8, 16, 5, 3]), mlp([8, 20, 4, 3], seed=1)
    done = transplant(source, target, width="grow")
    assert how(done, "0.weight").startswith("grown")
    assert "only growth is asked for" in how(done, "1.bias")
    none = transplant(source, target, width="none")
    assert set(kinds(none).values()) == {"fresh", "carried"}
    assert "widths differ" in how(none, "0.weight")


def test_the_report_tells_every_tensor_and_inputs_stay():
    source, target = mlp([8, 16, 3]), mlp([8, 16, 4], seed=1, dtype=np.float64)
    kept = {k: v.copy() for k, v in {**source, **{f"t{k}": v for k, v in target.items()}}.items()}
    source["old"] = np.ones(2, np.float32)
    target["new"] = np.zeros(1)
    done = transplant(
        source,
        target,
        leave=["0.b*"],
        source_classes=["a", "b", "c"],
        target_classes=["c", "a", "x", "y"],
        mapping={"1.bias": "1.bias", "new": None},
    )
    names = {k: done.fates[i].kind for i, k in enumerate(target)}
    assert names == {
        "0.weight": "carried",
        "0.bias": "fresh",
        "1.weight": "adapted",
        "1.bias": "adapted",
        "new": "fresh",
    }
    assert done.unused == {"0.bias": (16,), "old": (2,)}
    text = str(done)
    assert "F32 as F64" in text
    assert "2 of 4 classes by name" in text
    assert "matched by name and the map" in text
    np.testing.assert_array_equal(done.model["1.weight"][0], source["1.weight"][2])
    np.testing.assert_array_equal(done.model["1.weight"][2:], target["1.weight"][2:])
    for name, array in kept.items():
        here = target[name[1:]] if name.startswith("t") else source[name]
        np.testing.assert_array_equal(here, array)
    for name, array in done.model.items():
        assert array.dtype == np.float64
        assert not np.shares_memory(array, target[name])
    assert [layer.name for layer in done.layers()] == ["0", "1", "new"]
    document = json.loads(json.dumps(done.document()))
    assert document["parameters"] == {"carried": 128, "adapted": 68, "fresh": 17}


def test_classes_without_names_stay_fresh():
    done = transplant(mlp([8, 16, 3]), mlp([8, 16, 4]))
    assert kinds(done)["1.weight"] == "fresh"
    assert how(done, "1.weight").startswith("rows (classes")


def vit(size, channels, classes, dim=4):
    rng = np.random.default_rng(size)
    shapes = {
        "cls_token": (1, 1, dim),
        "pos_embed": (1, 1 + size**2, dim),
        "patch_embed.proj.weight": (dim, channels, 2, 2),
        "blocks.0.attn.qkv.weight": (3 * dim, dim),
        "blocks.0.attn.qkv.bias": (3 * dim,),
        "blocks.0.attn.proj.weight": (dim, dim),
        "blocks.0.norm1.weight": (dim,),
        "head.weight": (classes, dim),
    }
    return {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}


def test_a_picture_model_of_another_size():
    source, target = vit(4, 3, 5), vit(6, 1, 5)
    done = transplant(source, target)
    assert how(done, "pos_embed") == "grid 4 x 4 to 6 x 6 after 1, 1 x 17 x 4 to 1 x 37 x 4"
    np.testing.assert_array_equal(done.model["pos_embed"][0, 0], source["pos_embed"][0, 0])
    np.testing.assert_allclose(
        done.model["patch_embed.proj.weight"][:, 0], source["patch_embed.proj.weight"].sum(axis=1), rtol=1e-6
    )
    line = transplant(source, target, positions="line", channels="fresh")
    assert how(line, "pos_embed").startswith("positions resampled")
    assert "inputs differ" in how(line, "patch_embed.proj.weight")
    for rule in ("mean", "first"):
        made = transplant(vit(4, 1, 5), vit(4, 3, 5), channels=rule).model["patch_embed.proj.weight"]
        np.testing.assert_allclose(made.sum(axis=1), vit(4, 1, 5)["patch_embed.proj.weight"][:, 0], rtol=1e-5)
    wide = transplant(source, vit(4, 3, 5, dim=8)).model
    _, k, _ = np.split(source["blocks.0.attn.qkv.weight"], 3)
    np.testing.assert_array_equal(wide["blocks.0.attn.qkv.weight"][8:12] * 2, np.tile(k, 2))


def test_heads_are_kept_whole():
    source, target = vit(2, 3, 5, dim=8), vit(2, 3, 5, dim=4)
    done = transplant(source, target, heads=4)
    q = np.split(source["blocks.0.attn.qkv.bias"], 3)[0]
    np.testing.assert_array_equal(done.model["blocks.0.attn.qkv.bias"][:4], q[[0, 1, 4, 5]])


def test_a_map_says_it_by_names_and_stars(tmp_path):
    source = {f"alt {i}.gewicht": np.full((2, 2), float(i + 1)) for i in range(3)}
    target = {f"新.{i}.weight": np.zeros((2, 2)) for i in range(3)}
    told = {"新.*.weight": "alt *.gewicht", "新.1.weight": "alt 0.gewicht", "新.2.weight": None}
    for name, text in (("map.json", json.dumps(told)), ("map.yml", json.dumps(told, ensure_ascii=False))):
        (tmp_path / name).write_text(text, encoding="utf-8")
    for mapping in (told, tmp_path / "map.json", str(tmp_path / "map.yml")):
        done = transplant(source, target, match="none", mapping=mapping)
        assert [float(x[0, 0]) for x in done.model.values()] == [1, 1, 0]
        assert how(done, "新.2.weight") == "as asked"
        assert done.matched == "map"
    (tmp_path / "map.yml").write_text("{[", encoding="utf-8")
    with pytest.raises(FileError, match="no YAML"):
        transplant(source, target, mapping=tmp_path / "map.yml")


def test_scalars_empty_tensors_and_counters():
    source = {"t": np.float32(3) * np.ones(()), "n": np.array(7), "empty": np.ones((0, 4), np.float32)}
    target = {"t": np.zeros((), np.float16), "n": np.array(0), "empty": np.ones((2, 4), np.float32)}
    done = transplant(source, target)
    assert done.model["t"] == 3
    assert done.model["t"].dtype == np.float16
    assert done.model["n"] == 7
    assert kinds(done)["empty"] == "fresh"
    floats = transplant({"t": np.ones(()), "n": np.ones(())}, {"t": np.zeros(()), "n": np.array(0)})
    assert "F64 does not go over into I64" in how(floats, "n")


def test_bfloat16_bits_are_weights():
    source = {"w": np.array([0x3F80, 0x4000], np.uint16)}
    assert transplant(source, {"w": np.zeros(2, np.float32)}).model["w"].tolist() == [1, 2]
    assert transplant({"w": np.ones(2)}, {"w": np.zeros(2, np.uint16)}).model["w"].tolist() == [0x3F80] * 2


def test_a_permuted_twin_is_found_again_and_averaged():
    net = mlp([8, 16, 12, 3])
    order = np.random.default_rng(1).permutation(16)
    twin = {k: v.copy() for k, v in net.items()}
    twin["0.weight"], twin["0.bias"] = net["0.weight"][order], net["0.bias"][order]
    twin["1.weight"] = net["1.weight"][:, order]
    done = transplant(twin, net, align=0.5)
    for name, array in net.items():
        np.testing.assert_allclose(done.model[name], array, atol=1e-6)
    assert "1 of 2 groups of units changed their order" in done.notes[0]
    other = mlp([8, 16, 12, 3], seed=5)
    x = np.random.default_rng(2).standard_normal((9, 8))
    moved = transplant(other, net, align=1).model
    np.testing.assert_allclose(run(moved, x), run(other, x), atol=1e-4, rtol=1e-5)
    assert not np.array_equal(moved["0.weight"], other["0.weight"])
    np.testing.assert_allclose(transplant(other, net, align=0).model["0.weight"], net["0.weight"])


ONE = {"a": np.ones(2)}


@pytest.mark.parametrize(
    ("source", "target", "options", "says"),
    [
        (ONE, {"b": np.ones(2)}, {}, "no layer in common: 1 tensors in the source"),
        ({}, {"b": np.ones(2)}, {}, "no layer in common"),
        (ONE, {}, {}, "no layer in common"),
        (ONE, {"a": np.ones(3)}, {"width": "none"}, "no layer in common.*widths differ"),
        ({"a": np.array([1, np.nan])}, ONE, {}, r"a: NaN or infinite.*at \(1,\)"),
        ({"a": np.array([np.inf, 1.0])}, {"a": np.ones(2, np.float16)}, {}, "a: NaN or infinite"),
        ({"a": np.array([1e300])}, {"a": np.ones(1, np.float32)}, {}, "too large for the target's F32"),
        (ONE, ONE, {"match": "nmae"}, "did you mean 'name'"),
        (ONE, ONE, {"width": "evn"}, "did you mean 'even'"),
        (ONE, ONE, {"depth": "frist"}, "did you mean 'first'"),
        (ONE, ONE, {"channels": "repeet"}, "did you mean 'repeat'"),
        (ONE, ONE, {"positions": "gird"}, "did you mean 'grid'"),
        (ONE, ONE, {"unseen": "peices"}, "did you mean 'pieces'"),
        (ONE, {"ab": np.ones(2)}, {"leave": ["ba"]}, "no tensor 'ba'"),
        (ONE, ONE, {"noise": -1.0}, "noise"),
        (ONE, ONE, {"align": 1.5}, "from 0 to 1"),
        (ONE, ONE, {"heads": 0}, "heads"),
        (ONE, ONE, {"prefix": -1}, "prefix"),
        (ONE, ONE, {"mapping": {"b": "a"}}, "names 'b', which the target lacks"),
        ({"alpha": np.ones(2)}, {"beta": np.ones(2)}, {"mapping": {"betta": "alpha"}}, "did you mean 'beta'"),
        ({"alpha": np.ones(2)}, {"b": np.ones(2)}, {"mapping": {"b": "alpa"}}, "did you mean 'alpha'"),
        (ONE, ONE, {"mapping": {"*": "*.*"}}, "equally many stars"),
        (ONE, ONE, {"mapping": {"a": 3}}, "must hold names"),
        (ONE, {"a": np.ones((2, 2))}, {"mapping": {"a": "a"}}, "'a', which does not fit: 2 in the source"),
        (ONE, ONE, {"source_classes": ["x"]}, "classes of both"),
        (ONE, ONE, {"source_classes": ["x"], "target_classes": ["x"]}, "no classifier has as many rows"),
        (ONE, ONE, {"source_classes": ["x", "x"], "target_classes": ["x"]}, "each once"),
        (ONE, ONE, {"out": "here"}, "out is for targets that are folders"),
        ({"a": "text"}, ONE, {}, "no tensor of numbers: 'a'"),
        ({"a": np.array(["x"])}, ONE, {}, "no tensor of numbers"),
        (3, ONE, {}, "the source must be a folder"),
        ("nowhere", ONE, {}, "no checkpoint 'nowhere'"),
        (ONE, {**ONE, "b": np.ones((2, 2))}, {"align": 0.5}, "which units hang together"),
    ],
)
def test_bad_transplants_are_told(source, target, options, says):
    with pytest.raises(InputError, match=says):
        transplant(source, target, **options)


def test_classes_that_share_no_name_are_told():
    with pytest.raises(InputError, match="no class in common"):
        transplant(
            mlp([8, 16, 3]), mlp([8, 16, 2]), source_classes=["a", "b", "c"], target_classes=["x", "y"]
        )


def test_alignment_needs_to_know_the_wiring():
    nets = [{"a.weight": np.ones((4, 3)), "skip.weight": np.ones((7, 3)), "b.weight": np.ones((2, 4))}] * 2
    with pytest.raises(InputError, match="which units hang together"):
        transplant(*nets, align=0.5)


def test_sizes_alone_keep_widths_that_hang_together():
    source = {
        "a.weight": np.arange(12.0).reshape(4, 3),
        "x.weight": np.ones((7, 3)),
        "b.weight": np.ones((2, 4)),
    }
    target = {"a.weight": np.zeros((8, 3)), "x.weight": np.ones((7, 3)), "b.weight": np.ones((2, 8))}
    done = transplant(source, target).model
    np.testing.assert_array_equal(done["a.weight"], np.tile(source["a.weight"], (2, 1)))
    assert (done["b.weight"] == 0.5).all()


def test_the_package_says_what_it_has():
    assert set(part.__all__) >= {"transplant", "Transplanted", "Fate"}
