"""Transplants of files and folders: layout, types, vocabularies, classes, hostile and damaged input."""

import json
import resource

import numpy as np
import pytest

from conjoin.errors import FileError, InputError
from conjoin.transfer.checkpoints import open_checkpoint, write_header
from conjoin.transfer.checkpoints.checkpoint import INDEX
from conjoin.transfer.checkpoints.dtypes import read_as, write_as
from conjoin.transfer.transplant import transplant

DIM, ROWS = 4, 6


def tensors(rows=ROWS, layers=2, dim=DIM, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"model.embed_tokens.weight": (rows, dim)}
    for i in range(layers):
        shapes[f"model.layers.{i}.self_attn.q_proj.weight"] = (dim, dim)
        shapes[f"model.layers.{i}.self_attn.o_proj.weight"] = (dim, dim)
        shapes[f"model.layers.{i}.mlp.down_proj.weight"] = (dim, 2 * dim)
    shapes |= {"model.norm.weight": (dim,), "lm_head.weight": (rows, dim)}
    return {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}


def raw(found, dtype="F32", metadata=None):
    header = write_header(((n, dtype, x.shape) for n, x in found.items()), metadata or {"format": "pt"})
    return header + b"".join(
        write_as(np.ascontiguousarray(x), "F32", dtype).tobytes() for x in found.values()
    )


def save(folder, found, dtype="F32", shards=1, **files):
    folder.mkdir()
    names = list(found)
    parts = [names[i::shards] for i in range(shards)]
    files_of = [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
    files_of = ["model.safetensors"] if shards == 1 else files_of
    for name, part in zip(files_of, parts, strict=True):
        (folder / name).write_bytes(raw({n: found[n] for n in part}, dtype))
    if shards > 1:
        where = {n: f for f, part in zip(files_of, parts, strict=True) for n in part}
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    for name, document in files.items():
        (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def read(path):
    found = open_checkpoint(path)
    return {n: read_as(found.array(n), p.entry.dtype, "F32") for n, p in found.items()}


def bpe(*tokens, added=()):
    vocab = {t: i for i, t in enumerate(tokens)}
    extra = [{"id": len(vocab) + i, "content": t} for i, t in enumerate(added)]
    return {"model": {"type": "BPE", "vocab": vocab}, "added_tokens": extra}


def test_a_folder_has_the_targets_layout_types_and_files(tmp_path):
    old = tensors(layers=4)
    source = save(tmp_path / "quelle 源", old, "BF16", config={"num_attention_heads": 2})
    target = save(tmp_path / "target", tensors(seed=1), "F16", shards=3, config={"who": "target"})
    (target / "run.py").write_text("raise SystemExit")
    (target / "tokenizer.json").symlink_to(target / "config.json")
    done = transplant(source, target, out=tmp_path / "out")
    out = tmp_path / "out"
    assert done.model == out
    assert sorted(p.name for p in out.iterdir()) == sorted(
        p.name for p in target.iterdir() if p.name != "run.py"
    )
    assert json.loads((out / "config.json").read_text()) == {"who": "target"}
    new = open_checkpoint(out)
    assert {p.entry.dtype for p in new.values()} == {"F16"}
    assert {n: p.path.name for n, p in new.items()} == {
        n: p.path.name for n, p in open_checkpoint(target).items()
    }
    got = read(out)
    name = "model.layers.1.mlp.down_proj.weight"
    wide = read(source)["model.layers.3.mlp.down_proj.weight"]
    np.testing.assert_array_equal(got[name], wide.astype(np.float16))
    assert not list(tmp_path.glob(".*"))


def test_a_file_into_a_file(tmp_path):
    for name, seed in (("a.safetensors", 0), ("b.safetensors", 1)):
        (tmp_path / name).write_bytes(raw(tensors(seed=seed)))
    out = tmp_path / "sub" / "c.safetensors"
    done = transplant(tmp_path / "a.safetensors", tmp_path / "b.safetensors", out=out)
    assert out.read_bytes() == raw(tensors())
    assert done.tensors()["carried"] == len(tensors())
    mixed = transplant(tensors(), tmp_path / "b.safetensors", out=out, force=True)
    assert mixed.model == out
    state = transplant(tmp_path / "a.safetensors", tensors(seed=3)).model
    np.testing.assert_array_equal(state["model.norm.weight"], tensors()["model.norm.weight"])


def test_checkpoints_of_torch_become_safetensors(tmp_path):
    torch = pytest.importorskip("torch")
    for name, seed in (("s", 0), ("t", 1)):
        (tmp_path / name).mkdir()
        found = {n: torch.from_numpy(x) for n, x in tensors(seed=seed).items()}
        torch.save(found, tmp_path / name / "pytorch_model.bin")
    transplant(tmp_path / "s", tmp_path / "t", out=tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["model.safetensors"]
    for name, array in read(tmp_path / "out").items():
        np.testing.assert_array_equal(array, tensors()[name])
    with pytest.raises(InputError, match="answers are safetensors"):
        transplant(tmp_path / "s", tmp_path / "t", out=tmp_path / "out.bin")


def test_hostile_names_and_maps_cost_little(tmp_path):
    names = {f"h.{'9' * 5000}.a.weight": np.ones((2, 2)), f"h.{'8' * 5000}.a.weight": np.ones((2, 2))}
    assert transplant(names, names, match="structure").tensors()["carried"] == 2
    with pytest.raises(InputError, match="more than 4 stars"):
        transplant(names, names, mapping={"*" * 30: "*" * 30})
    many = {f"b{i}.weight": np.ones((1, i % 7 + 1)) for i in range(3000)}
    with pytest.raises(InputError, match="too many to be matched by structure"):
        transplant(many, many, match="structure")
    bomb = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    (tmp_path / "bomb.yml").write_text(bomb)
    with pytest.raises(InputError, match="must hold names"):
        transplant(names, names, mapping=tmp_path / "bomb.yml")
    (tmp_path / "tokenizer.json").write_text('{"a":' * 90_000)
    with pytest.raises(FileError, match="cannot be read as JSON"):
        transplant(names, names, source_tokenizer=tmp_path, target_tokenizer=tmp_path)


def test_blocks_are_added_to_folders(tmp_path):
    source = save(tmp_path / "s", tensors())
    target = save(tmp_path / "t", tensors(layers=4, seed=1))
    done = transplant(source, target, out=tmp_path / "out")
    got = read(tmp_path / "out")
    assert not got["model.layers.1.self_attn.o_proj.weight"].any()
    assert not got["model.layers.3.mlp.down_proj.weight"].any()
    np.testing.assert_array_equal(
        got["model.layers.2.self_attn.q_proj.weight"], tensors()["model.layers.1.self_attn.q_proj.weight"]
    )
    assert "model.layers: 4 blocks from model.layers 0, 0, 1, 1" in done.notes


def test_a_head_of_its_own_takes_the_tied_embedding(tmp_path):
    old = tensors()
    del old["lm_head.weight"]
    source = save(tmp_path / "s", old)
    target = save(tmp_path / "t", tensors(seed=1))
    done = transplant(source, target, out=tmp_path / "out")
    got = read(tmp_path / "out")
    np.testing.assert_array_equal(got["lm_head.weight"], old["model.embed_tokens.weight"])
    assert any("tied" in n for n in done.notes)
    (source / "config.json").write_text('{"tie_word_embeddings": false}')
    fresh = transplant(source, target, out=tmp_path / "out", force=True)
    assert fresh.tensors()["fresh"] == 1


def test_rows_go_by_token_whatever_the_marks_for_spaces(tmp_path):
    ours = bpe("a", "b", "\u0120c", "d", "\u0120", "c")
    ours["pre_tokenizer"] = {"type": "ByteLevel"}
    theirs = bpe("\u2581c", "ab", "b", "?", added=("<s>",))
    source = save(tmp_path / "s", tensors(), tokenizer=ours)
    target = save(tmp_path / "t", tensors(rows=5, seed=1), tokenizer=theirs)
    done = transplant(source, target, out=tmp_path / "out")
    old, new, own = (read(tmp_path / n)["model.embed_tokens.weight"] for n in ("s", "out", "t"))
    np.testing.assert_array_equal(new[0], old[2])
    np.testing.assert_allclose(new[1], (old[0] + old[1]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(new[2], old[1])
    np.testing.assert_allclose(new[3], old.mean(axis=0), rtol=1e-5)
    assert "rows by token, 6 x 4 to 5 x 4" in str(done)
    for unseen, want in (("zero", np.zeros(DIM)), ("fresh", own[3]), ("mean", old.mean(axis=0))):
        transplant(source, target, out=tmp_path / "out", unseen=unseen, force=True)
        np.testing.assert_allclose(read(tmp_path / "out")["lm_head.weight"].shape, (5, DIM))
        np.testing.assert_allclose(read(tmp_path / "out")["model.embed_tokens.weight"][3], want, rtol=1e-5)
    wide = save(tmp_path / "w", tensors(rows=5, seed=1, dim=8), tokenizer=theirs)
    transplant(source, wide, out=tmp_path / "out", force=True)
    np.testing.assert_array_equal(
        read(tmp_path / "out")["model.embed_tokens.weight"][2], np.concatenate([old[1], old[1]])
    )


def test_tokenizers_of_other_makes_are_read(tmp_path):
    from conjoin.transfer.transplant.tokens import pieces_of, read_vocabulary

    def rows(document):
        (tmp_path / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
        return read_vocabulary(tmp_path).rows

    words = rows(
        {
            "model": {"type": "WordPiece", "vocab": {"[CLS]": 0, "ab": 1, "##c": 2}},
            "added_tokens": [{"id": 0, "content": "[CLS]"}],
        }
    )
    assert words == {"[CLS]": 0, " ab": 1, "c": 2}
    pairs = rows(
        {"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["\u2581ab", -1.0], ["<0x0A>", -2.0]]}}
    )
    assert pairs == {"<unk>": 0, " ab": 1, "\n": 2}
    assert pieces_of({"ab": 0, "a": 1}, {"aba": 0, "zz": 1}) == {"aba": ["ab", "a"], "zz": []}
    for bad, says in (
        ({}, "holds no vocabulary"),
        ({"model": {"vocab": {}}}, "empty vocabulary"),
        ({"model": {"vocab": {"a": "x"}}}, "holds no vocabulary"),
        ({"model": {"vocab": {"a": -1}}}, "below 0"),
        ({"model": {"vocab": {"a": 0}}, "added_tokens": [3]}, "holds no vocabulary"),
        ([], "JSON object"),
    ):
        with pytest.raises(FileError, match=says):
            rows(bad)
    with pytest.raises(FileError, match="no tokenizer"):
        read_vocabulary(tmp_path / "nowhere")


def test_tokenizers_that_fit_no_table_are_told(tmp_path):
    source = save(tmp_path / "s", tensors(), tokenizer=bpe(*"abcdefgh"))
    target = save(tmp_path / "t", tensors(), tokenizer=bpe("a"))
    with pytest.raises(InputError, match="8 and 1 tokens"):
        transplant(source, target, out=tmp_path / "out", source_tokenizer=source / "tokenizer.json")
    (target / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="the target has no tokenizer"):
        transplant(source, target, out=tmp_path / "out", source_tokenizer=source)


def test_classes_come_from_the_configs_or_from_files(tmp_path):
    old = {"body.weight": np.ones((3, 2), np.float32), "classifier.weight": np.eye(3, dtype=np.float32)}
    new = {"body.weight": np.zeros((3, 2), np.float32), "classifier.weight": np.zeros((2, 3), np.float32)}
    source = save(tmp_path / "s", old, config={"id2label": {"0": "cat", "10": "emu", "2": "dog"}})
    target = save(tmp_path / "t", new, config={"id2label": {"0": "dog", "1": "ox"}})
    transplant(source, target, out=tmp_path / "out")
    np.testing.assert_array_equal(read(tmp_path / "out")["classifier.weight"], [[0, 1, 0], [0, 0, 0]])
    (tmp_path / "names.txt").write_text("ox\n\nemu\n")
    transplant(source, target, out=tmp_path / "out", target_classes=tmp_path / "names.txt", force=True)
    np.testing.assert_array_equal(read(tmp_path / "out")["classifier.weight"], [[0, 0, 0], [0, 0, 1]])
    (target / "config.json").write_text('{"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}')
    done = transplant(source, target, out=tmp_path / "out", force=True)
    assert done.fates[1].kind == "fresh"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda r: r[:-4], "a|leave the file|reach"),
        (lambda r: r[:12], "no safetensors|cut off"),
        (lambda r: b"\xff" * 8 + r[8:], "no safetensors"),
        (lambda r: r.replace(b'"F32"', b'"F64"', 1), "offsets|shape|bytes"),
        (lambda r: r.replace(b"[0,", b"[4,", 1), "offset|overlap|shape|bytes|gap"),
        (lambda r: b"\x80\x02" + r, "pickle"),
    ],
    ids=["truncated", "no header", "huge header", "lying type", "overlap", "pickle"],
)
def test_damaged_files_are_refused_before_anything_is_written(tmp_path, damage, says):
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    good.write_bytes(raw(tensors()))
    bad.write_bytes(damage(raw(tensors())))
    for pair in ((bad, good), (good, bad)):
        with pytest.raises(FileError, match=says):
            transplant(*pair, out=tmp_path / "out.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.safetensors", "good.safetensors"]


def test_out_is_kept_and_nothing_is_left_behind(tmp_path):
    source, target = save(tmp_path / "s", tensors()), save(tmp_path / "t", tensors(seed=1))
    with pytest.raises(InputError, match="give out="):
        transplant(source, target)
    for place, says in ((target, "is, or holds, the target"), (source, "the source"), (tmp_path, "holds")):
        with pytest.raises(InputError, match=says):
            transplant(source, target, out=place, force=True)
    with pytest.raises(InputError, match="is, or holds, the target"):
        transplant(source, target / "model.safetensors", out=target, force=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="already there"):
        transplant(source, target, out=tmp_path / "out")
    broken = tensors()
    broken["model.norm.weight"][2] = np.nan
    with pytest.raises(InputError, match=r"model.norm.weight: NaN or infinite.*\(2,\)"):
        transplant(save(tmp_path / "nan", broken), target, out=tmp_path / "out", force=True)
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
    assert not list(tmp_path.glob(".*"))
    transplant(source, target, out=tmp_path / "out", force=True)
    assert not (tmp_path / "out" / "mine.txt").exists()


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    source, target = save(tmp_path / "s", tensors()), save(tmp_path / "t", tensors(seed=1))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(FileError, match="the disk is full"):
        transplant(source, target, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_empty_models_are_told(tmp_path):
    for name, found in (("empty", {}), ("full", tensors())):
        (tmp_path / f"{name}.safetensors").write_bytes(raw(found))
    for pair in (("empty", "full"), ("full", "empty"), ("empty", "empty")):
        with pytest.raises(InputError, match="no layer in common"):
            transplant(*(tmp_path / f"{n}.safetensors" for n in pair), out=tmp_path / "out")


def test_memory_stays_small(tmp_path):
    wide = {f"l{i}.weight": np.ones((1024, 4096), np.float32) for i in range(12)}
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(raw(wide))
    del wide
    before = _anonymous()
    transplant(tmp_path / "a.safetensors", tmp_path / "b.safetensors", out=tmp_path / "c.safetensors")
    assert _anonymous() - before < 64_000_000
    assert resource.getpagesize() > 0


def _anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))
