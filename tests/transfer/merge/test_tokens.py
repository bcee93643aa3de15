"""Vocabularies that differ: which tokens the answer has, which rows, and that its tokenizer works."""

import json

import numpy as np
import pytest
from tests.transfer.merge.vocabularies import bpe, model, unigram
from tests.transfer.merge.world import arrays, every_byte

from conjoin.errors import InputError
from conjoin.transfer.checkpoints import write_header
from conjoin.transfer.merge import merge_recipe, rows
from conjoin.transfer.merge.vocabulary import read_vocabulary

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def world(tmp_path):
    """a: x y xy; b: y x z, with <|end|>; both know x and y under other numbers."""
    model(tmp_path / "a", bpe(["x", "y", "xy"], [("x", "y")]), 1)
    model(tmp_path / "b", bpe(["y", "x", "z", "yz"], [("y", "z")], ["<|end|>"]), 2)
    return tmp_path


def merged(world, text, models="ab", method="linear", base="a"):
    """The notes, the arrays and the vocabulary of a merge with equal weights."""
    lines = [f"merge_method: {method}", "dtype: float32", "models:"]
    lines += [
        f"- model: {world / m}\n  parameters: {{weight: 1}}"
        for m in models
        if method == "linear" or m != base
    ]
    lines += [f"base_model: {world / base}"] if base else []
    (world / "r.yml").write_text("\n".join([*lines, text.replace("$", f"{world}/")]), encoding="utf-8")
    done = merge_recipe(world / "r.yml", world / "out", force=True)
    return done.notes, arrays(world / "out"), read_vocabulary(world / "out")


def row(found, ids, token):
    return found[EMBED][ids[token]]


def test_base_keeps_its_ids_and_rows_are_matched_by_token(world):
    notes, found, vocabulary = merged(world, "tokenizer_source: base")
    a, b = arrays(world / "a"), arrays(world / "b")
    ids = vocabulary.ids
    assert ids == read_vocabulary(world / "a").ids
    for name in (EMBED, HEAD):
        np.testing.assert_allclose(found[name][ids["x"]], (a[name][3] + b[name][4]) / 2)
        np.testing.assert_allclose(found[name][ids["y"]], (a[name][4] + b[name][3]) / 2)
        np.testing.assert_allclose(found[name][ids["xy"]], a[name][5])  # b lacks it and takes a's
    assert any("tokens of" in n and "<|end|>" in n for n in notes)
    assert (world / "out" / "tokenizer.json").read_bytes() == (world / "a" / "tokenizer.json").read_bytes()


def test_union_has_every_token_and_cuts_text_with_the_merges_of_both(world):
    _, found, vocabulary = merged(world, "tokenizer_source: union")
    ids = vocabulary.ids
    b = arrays(world / "b")
    assert list(ids) == [*read_vocabulary(world / "a").ids, "z", "yz", "<|end|>"]
    assert sorted(ids.values()) == list(range(9))
    assert vocabulary.merges == (("x", "y"), ("y", "z"))
    for token, there in (("z", 5), ("yz", 6), ("<|end|>", 7)):
        np.testing.assert_array_equal(row(found, ids, token), b[EMBED][there])
    assert json.loads((world / "out" / "config.json").read_text())["vocab_size"] == 9
    tokenizers = pytest.importorskip("tokenizers")
    loaded = tokenizers.Tokenizer.from_file(str(world / "out" / "tokenizer.json"))
    assert loaded.get_vocab() == ids
    assert loaded.encode("xy yz<|end|>").tokens == ["xy", "yz", "<|end|>"]


def test_union_puts_pieces_after_added_tokens_without_moving_them(tmp_path):
    model(tmp_path / "a", bpe(["x"], extra=["<|q|>"]), 1)
    model(tmp_path / "b", bpe(["ж", "x"], extra=["<|r|>"]), 2)
    _, _, vocabulary = merged(tmp_path, "tokenizer_source: union")
    assert vocabulary.ids == {"<unk>": 0, "<s>": 1, "</s>": 2, "x": 3, "<|q|>": 4, "ж": 5, "<|r|>": 6}
    tokenizers = pytest.importorskip("tokenizers")
    loaded = tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert loaded.get_vocab() == vocabulary.ids
    assert loaded.encode("ж<|q|>x<|r|>").ids == [5, 4, 3, 6]


def test_union_of_unigram_keeps_scores_and_works(tmp_path):
    model(tmp_path / "a", unigram(["x", "y"], ["<|q|>"]), 1)
    model(tmp_path / "b", unigram(["z", "xz", "x"]), 2)
    _, _, vocabulary = merged(tmp_path, "tokenizer_source: union")
    assert vocabulary.ids == {"<unk>": 0, "x": 1, "y": 2, "<|q|>": 3, "z": 4, "xz": 5}
    assert vocabulary.scores["xz"] == -2
    tokenizers = pytest.importorskip("tokenizers")
    loaded = tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert loaded.encode("xz").ids == [5]
    assert loaded.encode("y<|q|>").ids == [2, 3]


def test_tokens_of_another_kind_are_there_by_id_and_told(tmp_path):
    model(tmp_path / "a", bpe(["x", "y"]), 1)
    model(tmp_path / "b", unigram(["yy", "x"]), 2)
    notes, found, vocabulary = merged(tmp_path, "tokenizer_source: union")
    assert any("cuts text in another way" in n for n in notes)
    np.testing.assert_array_equal(row(found, vocabulary.ids, "yy"), arrays(tmp_path / "b")[EMBED][1])


def test_source_may_be_another_model_and_its_special_ids_come_with_it(world):
    config = json.loads((world / "b" / "config.json").read_text())
    (world / "b" / "config.json").write_text(json.dumps(config | {"eos_token_id": 7}))
    _, found, vocabulary = merged(world, "tokenizer_source: $b")
    assert vocabulary.ids == read_vocabulary(world / "b").ids
    assert found[EMBED].shape == (8, 4)
    out = json.loads((world / "out" / "config.json").read_text())
    assert (out["eos_token_id"], out["vocab_size"]) == (7, 8)


def test_token_that_some_lack_is_the_bases_else_the_mean(world):
    model(world / "c", bpe(["z", "xy"]), 3)
    _, found, vocabulary = merged(world, "tokenizer_source: union", "abc")
    a, b, c = (arrays(world / m)[EMBED] for m in "abc")
    np.testing.assert_allclose(row(found, vocabulary.ids, "xy"), (a[5] + a[5] + c[4]) / 3, rtol=1e-6)
    mean = (b[5] + c[3]) / 2  # a lacks z
    np.testing.assert_allclose(row(found, vocabulary.ids, "z"), (mean + b[5] + c[3]) / 3, rtol=1e-6)


def test_rows_of_tokens_as_the_recipe_says(world):
    text = """
tokenizer:
  source: union
  tokens:
    x: {source: $b, force: true}
    z: {source: {kind: zero}}
    y: {source: {kind: zero}, force: true}
    "<|end|>": {source: {kind: model_token, model: $a, token: </s>}, force: true}
    "слово": {source: {kind: model_token, model: $b, token_id: 6}}
"""
    _, found, vocabulary = merged(world, text)
    a, b, ids = arrays(world / "a")[EMBED], arrays(world / "b")[EMBED], vocabulary.ids
    np.testing.assert_array_equal(row(found, ids, "x"), b[4])
    np.testing.assert_allclose(row(found, ids, "z"), b[5] / 2)  # a has zeros, b its own
    np.testing.assert_array_equal(row(found, ids, "y"), np.zeros(4))
    np.testing.assert_array_equal(row(found, ids, "<|end|>"), a[2])
    np.testing.assert_array_equal(row(found, ids, "слово"), b[6])


def test_padding_is_the_mean_and_the_config_says_so(world):
    _, found, _ = merged(world, "tokenizer: {source: base, pad_to_multiple_of: 8}")
    assert found[EMBED].shape == found[HEAD].shape == (8, 4)
    np.testing.assert_allclose(found[EMBED][6:], np.tile(found[EMBED][:6].mean(0), (2, 1)), rtol=1e-5)
    assert json.loads((world / "out" / "config.json").read_text())["vocab_size"] == 8


def test_rows_that_no_token_uses_stay(world):
    model(world / "a", bpe(["x", "y", "xy"], [("x", "y")]), 1, rows=10)
    model(world / "b", bpe(["y", "x", "xy"], [("x", "y")]), 2, rows=9)
    _, found, _ = merged(world, "tokenizer_source: base")
    a, b = arrays(world / "a")[EMBED], arrays(world / "b")[EMBED]
    assert found[EMBED].shape == (10, 4)
    np.testing.assert_allclose(found[EMBED][6:9], (a[6:9] + b[6:9]) / 2)
    np.testing.assert_allclose(found[EMBED][9], a[9])
    notes, found, _ = merged(world, "tokenizer: {source: base, pad_to_multiple_of: 1}")
    assert found[EMBED].shape == (6, 4)
    assert any("left out: 4" in n for n in notes)


def test_tokens_that_rows_do_not_reach_are_left_out_and_told(world):
    model(world / "b", bpe(["y", "x"], extra=["<u0>", "<u1>"]), 2, rows=5)
    notes, _, vocabulary = merged(world, "tokenizer_source: union")
    assert "<u0>" not in vocabulary.ids
    assert any("do not reach" in n and "<u0>" in n for n in notes)


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_tied_models_stay_tied_and_half_precision_stays(tmp_path, dtype):
    model(tmp_path / "a", bpe(["x", "y"]), 1, dtype=dtype, head=False)
    model(tmp_path / "b", bpe(["y", "x"]), 2, dtype=dtype, head=False)
    (tmp_path / "r.yml").write_text(
        f"merge_method: task_arithmetic\nbase_model: {tmp_path / 'a'}\ntokenizer_source: union\n"
        f"models: [{{model: {tmp_path / 'b'}, parameters: {{weight: 1}}}}]"
    )
    merge_recipe(tmp_path / "r.yml", tmp_path / "out")
    found, b = arrays(tmp_path / "out"), arrays(tmp_path / "b")
    assert HEAD not in found
    assert found[EMBED].dtype == b[EMBED].dtype
    read = (lambda x: (x.astype(np.uint32) << 16).view(np.float32)) if dtype == "BF16" else np.float32
    np.testing.assert_allclose(read(found[EMBED][[3, 4]]), read(b[EMBED][[4, 3]]), rtol=2e-2, atol=2e-2)


def test_vocabularies_of_older_files(tmp_path):
    for name, words, merges in (("a", ["x", "y", "xy"], "x y"), ("b", ["y", "x", "z", "yz"], "y z")):
        model(tmp_path / name, None, len(words), rows=len(words))
        (tmp_path / name / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
        (tmp_path / name / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    _, found, vocabulary = merged(tmp_path, "tokenizer_source: union")
    assert vocabulary.ids == {"x": 0, "y": 1, "xy": 2, "z": 3, "yz": 4}
    assert (tmp_path / "out" / "merges.txt").read_text() == "#version: 0.2\nx y\ny z\n"
    np.testing.assert_array_equal(found[EMBED][3], arrays(tmp_path / "b")[EMBED][2])


def test_tokens_beside_older_files_keep_their_ids(tmp_path):
    for name, words, extra in (("a", ["x", "y"], {"<q>": 2}), ("b", ["y", "z"], {"<r>": 2})):
        model(tmp_path / name, None, len(words), rows=3)
        (tmp_path / name / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
        (tmp_path / name / "merges.txt").write_text("#version: 0.2\n")
        (tmp_path / name / "added_tokens.json").write_text(json.dumps(extra))
    _, _, vocabulary = merged(tmp_path, "tokenizer_source: union")
    assert vocabulary.ids == {"x": 0, "y": 1, "<q>": 2, "z": 3, "<r>": 4}
    pieces = json.loads((tmp_path / "out" / "vocab.json").read_text())
    assert pieces["<q>"] == 2  # else it would be numbered from the count of pieces, which is z's id


def test_words_of_bert(tmp_path):
    for name, words in (("a", ["[UNK]", "x", "##y"]), ("b", ["[UNK]", "##y", "z"])):
        model(tmp_path / name, None, len(name), rows=3)
        (tmp_path / name / "vocab.txt").write_text("\n".join(words) + "\n")
    _, _, vocabulary = merged(tmp_path, "tokenizer_source: union")
    assert vocabulary.ids == {"[UNK]": 0, "x": 1, "##y": 2, "z": 3}


def test_model_without_tokenizer_has_the_bases_or_is_refused(world):
    model(world / "c", None, 3, rows=6)
    notes, found, _ = merged(world, "tokenizer_source: base", "ac")
    assert any("has no tokenizer; taken to be" in n for n in notes)
    np.testing.assert_allclose(found[EMBED], (arrays(world / "a")[EMBED] + arrays(world / "c")[EMBED]) / 2)
    model(world / "c", None, 3, rows=7)
    with pytest.raises(InputError, match=r"line 9: .*c has no tokenizer"):
        merged(world, "tokenizer_source: base", "ac")


def test_sentencepiece_alone_goes_through_where_it_is_the_same(world):
    for name in "ab":
        model(world / name, None, 3, rows=6)
        (world / name / "tokenizer.json").unlink()
        (world / name / "tokenizer.model").write_bytes(b"pieces")
    notes, _, _ = merged(world, "tokenizer_source: union")
    assert any("byte by byte" in n for n in notes)
    assert (world / "out" / "tokenizer.model").read_bytes() == b"pieces"
    (world / "b" / "tokenizer.model").write_bytes(b"others")
    with pytest.raises(InputError, match="sentencepiece, which is not read"):
        merged(world, "tokenizer_source: union")


REFUSED = {
    "tokenizer_source: $nobody": "the tokenizer of '.*nobody': it is no model of this recipe",
    "tokenizer_source: bsae": "the tokenizer of 'bsae': .*did you mean 'base'",
    "tokenizer: {source: base, pad_to_multiple_of: 0}": "pad_to_multiple_of must be 1 to",
    "tokenizer: {source: base, pad_to_multiple_of: x}": "pad_to_multiple_of must be 1 to",
    "tokenizer: {source: base, tokens: {x: {source: $c}}}": "'x' of '.*c': it is no model of this",
    "tokenizer: {source: union, tokens: {z: {source: $a, force: true}}}": "a has no token 'z'",
    "tokenizer: {tokens: {z: {source: {kind: model_token, model: $a, token: zz}}}}": "a has no token 'zz'",
    "tokenizer: {tokens: {z: {source: {kind: model_token, model: $a, token_id: 6}}}}": "no row 6; .* has 6",
    "tokenizer: {tokens: {z: {source: {kind: model_token, model: $a, token_id: -1}}}}": "whole number from 0",
    "tokenizer: {tokens: {z: {source: {kind: model_token, model: $a}}}}": "either token or token_id",
    "tokenizer: {tokens: {z: {source: {kind: nought}}}}": "zero or model_token, not 'nought'",
    "tokenizer: {tokens: {z: {force: true}}}": "'z' is forced, so it needs a source",
    "tokenizer: {tokens: {z: {source: $a, force: 3}}}": "force must be true or false",
    "tokenizer: {sauce: base}": "tokenizer has no key 'sauce'; did you mean 'source'",
    "tokenizer: {source: base}\ntokenizer_source: base": "not both",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refused_with_the_line(world, text):
    with pytest.raises(InputError, match=r"r.yml, line \d+: .*" + REFUSED[text]):
        merged(world, text)
    assert not (world / "out").exists()


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"{", "no JSON"),
        (b"[]", "must hold a JSON object"),
        (b'{"model": {}}', "no model with a vocab"),
        (b'{"model": {"vocab": {"a": "b"}}}', "the id of 'a' is 'b'"),
        (b'{"model": {"vocab": {"a": 0}, "merges": ["a b c"]}}', "no merge of two pieces"),
        (b'{"model": {"vocab": [["a"]]}}', r"a piece is not \[text, score\]"),
        (b'{"model": {"vocab": {}}, "added_tokens": [{"id": -1, "content": "a"}]}', "no added token"),
        (b"\xff", "no UTF-8 text"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_damaged_tokenizers_are_told(world, raw, why):
    (world / "b" / "tokenizer.json").write_bytes(raw)
    with pytest.raises(InputError, match=why):
        merged(world, "tokenizer_source: union")


def test_bytes_do_not_depend_on_blocks_and_a_stop(world, monkeypatch):
    text = "tokenizer: {source: union, pad_to_multiple_of: 32}"
    merged(world, text)
    whole = every_byte(world / "out")
    monkeypatch.setattr(rows, "BLOCK", 3)

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge_recipe(world / "r.yml", world / "again", report=stop)
    assert (world / ".again.merging").is_dir()
    merge_recipe(world / "r.yml", world / "again")
    assert every_byte(world / "again") == whole
    assert not (world / ".again.merging").exists()


def test_a_tensor_with_tokens_along_another_axis_is_refused(tmp_path):
    words = [f"w{i}" for i in range(300)]
    for seed, name in enumerate("ab"):
        model(tmp_path / name, bpe(words[seed:]), seed, others={"final_logits_bias": (1, 303 - seed)})
    with pytest.raises(InputError, match=r"final_logits_bias of .* has an entry for each token, but no row"):
        merged(tmp_path, "tokenizer_source: union")


def test_adapter_that_brings_tokens_brings_its_tokenizer(world):
    folder = world / "lora"
    folder.mkdir()
    told = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["up_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_{}.weight"
    rng = np.random.default_rng(3)
    shapes = {name.format("A"): (1, 4), name.format("B"): (4, 1)}
    shapes |= {f"base_model.model.{n}": (7, 4) for n in (EMBED, HEAD)}
    tensors = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    header = write_header(((n, "F32", s) for n, s in shapes.items()), {})
    (folder / "adapter_model.safetensors").write_bytes(
        header + b"".join(x.tobytes() for x in tensors.values())
    )
    (folder / "tokenizer.json").write_text(json.dumps(bpe(["x", "y", "xy"], [("x", "y")], ["<n>"])))
    (world / "r.yml").write_text(f"merge_method: passthrough\nmodels: [{{model: {world / 'a'}+{folder}}}]\n")
    merge_recipe(world / "r.yml", world / "out")
    assert json.loads((world / "out" / "config.json").read_text())["vocab_size"] == 7
    assert read_vocabulary(world / "out").ids["<n>"] == 6
    _, found, vocabulary = merged(world, "tokenizer_source: union", ["b", "a+" + str(folder)], base="b")
    np.testing.assert_array_equal(row(found, vocabulary.ids, "<n>"), tensors[f"base_model.model.{EMBED}"][6])


def test_sizes_that_differ_are_refused_without_a_source(world):
    with pytest.raises(InputError, match=r"nothing is cut silently: .*tokenizer: \{source: base\}"):
        merged(world, "")
    assert not (world / "out").exists()
