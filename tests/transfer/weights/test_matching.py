"""Matching and adapting: hand-worked cases, torch and timm's rules, bad input."""

import numpy as np
import pytest

from conjoin.errors import InputError
from conjoin.transfer.weights import adapt
from conjoin.transfer.weights.depth import depths, ends, restack, stacks
from conjoin.transfer.weights.matching import match, normalised
from conjoin.transfer.weights.wiring import wire


def test_names_match_equal_normalised_and_without_a_beginning():
    source = {"module.Block.0.gamma": (4,), "head.weight": (2, 4)}
    target = {"block.0.weight": (4,), "head.weight": (3, 4), "new": (1,)}
    assert match(source, target).found == {
        "block.0.weight": "module.Block.0.gamma",
        "head.weight": "head.weight",
    }
    assert normalised("model.net.décodeur naïf.beta") == "décodeur naïf.bias"
    names = ("embeddings.word.weight", "encoder.layer.0.q.weight", "encoder.layer.1.q.weight")
    bare, within = dict.fromkeys(names, (2, 2)), {f"bert.{n}": (2, 2) for n in names} | {"bert.x": (2,)}
    assert match(bare, within).found == {f"bert.{n}": n for n in names}
    assert match(within, bare).found == {n: f"bert.{n}" for n in names}


def test_shapes_match_where_both_sides_have_as_many():
    source = {"a.weight": (2, 3), "b.weight": (4, 4), "c.weight": (4, 4), "c.bias": (4,)}
    found = match(source, {"x.weight": (2, 3), "y.weight": (4, 4), "y.bias": (4,)}, "shape")
    assert found.found == {"x.weight": "a.weight", "y.bias": "c.bias"}
    assert "2 tensors of shape (4, 4) in the source, 1" in found.unsure["y.weight"]


def test_structure_finds_layers_of_other_names_in_order():
    source = {"emb": (9, 4)}
    target = {"table": (9, 4)}
    for i in range(4):
        source |= {f"h.{i}.attn.w": (4, 4), f"h.{i}.ln.weight": (4,), f"h.{i}.ln.bias": (4,)}
        target |= {f"layers.{i}.norm.bias": (4,), f"layers.{i}.q": (4, 4), f"layers.{i}.norm2.bias": (4,)}
    found = match(source, target, "structure").found
    assert found["table"] == "emb"
    blocks = [(name.split(".")[1], there.split(".")[1]) for name, there in found.items() if "." in name]
    assert {(str(i), str(i)) for i in range(4)} == set(blocks)
    assert all(source[there] == target[name] for name, there in found.items())
    assert found["layers.0.norm2.bias"].endswith("ln.bias")


def test_what_fits_equally_well_is_told():
    source = {"q.weight": (4, 4), "up.weight": (9, 4), "k.weight": (4, 4)}
    found = match(source, {"proj.weight": (4, 4)}, "structure")
    assert not found.found
    assert "q.weight, k.weight" in found.unsure["proj.weight"]
    rows = {f"{i}.weight": (4, 4) for i in range(3)}
    told = match(rows, {f"{i}.weight": (4, 4) for i in range(2)}, "structure")
    assert not told.found
    assert set(told.unsure) == {"0.weight", "1.weight"}
    two = match({"a.module": (1,), "model.a.module": (1,)}, {"module.a.module": (1,)})
    assert "one name when normalised" in two.unsure["module.a.module"]


def test_an_unknown_rule_is_told():
    with pytest.raises(InputError, match="did you mean 'structure'"):
        match({"head.weight": (1,)}, {"head": (1,)}, "structrue")


@pytest.mark.parametrize(
    ("old", "new", "rule", "came", "added"),
    [
        (12, 4, "even", [0, 4, 7, 11], []),
        (4, 2, "first", [0, 1], []),
        (4, 2, "last", [2, 3], []),
        (2, 5, "even", [0, 0, 0, 1, 1], [1, 2, 4]),
        (2, 4, "first", [0, 1, 1, 1], [2, 3]),
        (2, 4, "last", [0, 0, 0, 1], [0, 1]),
        (2, 4, "repeat", [0, 0, 1, 1], []),
        (3, 3, "even", [0, 1, 2], []),
        (1, 1, "last", [0], []),
    ],
)
def test_depths(old, new, rule, came, added):
    found, grown = depths(old, new, rule)
    assert found == came
    assert [i for i, g in enumerate(grown) if g] == added


def test_stacks_are_counted_anew_and_the_head_of_a_stage_stays():
    source = {"stem": (3,)} | {f"layer1.{i}.conv1.weight": (4, 3 if i == 0 else 4) for i in range(4)}
    target = {"stem": (3,)} | {f"layer1.{i}.conv1.weight": (4, 3 if i == 0 else 4) for i in range(2)}
    assert [s.headed for s in stacks(source)] == [True]
    names = restack(source, target, "last").names
    assert names["layer1.0.conv1.weight"] == "layer1.0.conv1.weight"
    assert names["layer1.1.conv1.weight"] == "layer1.3.conv1.weight"
    assert restack(source, target, "none").names == {n: n for n in source}
    swin = {f"layers.{s}.blocks.{i}.a.w": (s + 1,) for s in range(2) for i in range(3)}
    assert [s.stem for s in stacks(swin)] == ["layers.0.blocks", "layers.1.blocks"]
    with pytest.raises(InputError, match="did you mean 'even'"):
        restack(source, target, "evn")


def test_ends_of_blocks():
    assert ends(["bn1.weight", "bn1.running_mean", "bn2.weight", "bn2.bias", "conv1.weight"]) == {
        "bn2.weight",
        "bn2.bias",
    }
    assert not ends(["a.weight", "downsample.0.weight"])


def test_wirings_are_known_by_names_and_sizes():
    block = {
        "h.0.attn.qkv.weight": (12, 4),
        "h.0.attn.qkv.bias": (12,),
        "h.0.attn.proj.weight": (4, 4),
        "h.0.norm1.weight": (4,),
        "h.0.mlp.fc1.weight": (8, 4),
        "h.0.mlp.fc2.weight": (4, 8),
    }
    names = {"tok_embeddings.weight": (9, 4), **block, "head.weight": (3, 4)}
    wired = wire(names, heads=2)
    assert wired.kind == "transformer"
    assert wired.groups.axes["h.0.attn.qkv.weight"] == ("h.0 heads", "hidden")
    assert wired.groups.axes["tok_embeddings.weight"] == (None, "hidden")
    assert wired.groups.axes["head.weight"] == (None, "hidden")
    assert wired.groups.parts_of("h.0.attn.qkv.bias", 0) == 3
    sizes = wired.groups.sizes({n: np.zeros(s) for n, s in names.items()})
    assert sizes == {"hidden": 4, "h.0 heads": 2, "h.0 inner": 8}
    other = wire({"a.weight": (4, 3), "skip.weight": (7, 3), "b.weight": (2, 4)})
    assert other.kind == "sizes"
    assert other.group("a.weight", 0) == "width 4"
    assert other.group("a.weight", 1) is None


def test_names_that_mislead_are_not_trusted():
    block = {"h.0.attn.q_proj.weight": (8, 8), "h.0.attn.o_proj.weight": (8, 8)}
    experts = {"h.0.experts.0.up_proj.weight": (12, 8), "h.0.shared.up_proj.weight": (7, 8)}
    assert wire({**block, **experts}).kind == "sizes"
    assert wire(block, heads=3).kind == "sizes"


def test_parts_and_heads_move_whole():
    from conjoin.transfer.weights.permutations import Permutations

    groups = Permutations({"qkv": ("heads",)}, {"heads": 2}, {"qkv": (3,)})
    got = groups.take({"qkv": np.arange(12)}, {"heads": np.array([1, 0])})["qkv"]
    np.testing.assert_array_equal(got, [2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9])
    with pytest.raises(InputError, match="no 3 equal parts"):
        groups.sizes({"qkv": np.arange(11)})


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


def test_flattened_channels_grow_with_their_channels():
    rng = np.random.default_rng(0)
    features, head = rng.standard_normal((5, 4, 9)), rng.standard_normal((3, 36))
    grown = adapt.widths(head, [(1, adapt.repeated(36, 54), True)])
    wide = features[:, adapt.repeated(4, 6)]
    np.testing.assert_allclose(wide.reshape(5, -1) @ grown.T, features.reshape(5, -1) @ head.T, atol=1e-12)
