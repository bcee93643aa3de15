"""`conjoin transplant` on small models."""

import numpy as np
import pytest

from conjoin.transfer.checkpoints import open_checkpoint, write_header


def save(path, shapes, seed=0):
    """A file with random weights of these shapes."""
    rng = np.random.default_rng(seed)
    raw = write_header([(n, "F32", s) for n, s in shapes.items()], {"format": "pt"})
    path.write_bytes(
        raw + b"".join(rng.standard_normal(s).astype(np.float32).tobytes() for s in shapes.values())
    )
    return path


@pytest.fixture
def pair(tmp_path):
    """A network, and one of another width and head."""
    old = {
        "body.weight": (6, 4),
        "body.bias": (6,),
        "head.weight": (3, 6),
        "head.bias": (3,),
        "ganz alt": (2,),
    }
    new = {"body.weight": (9, 4), "body.bias": (9,), "head.weight": (2, 9), "head.bias": (2,), "新": (5,)}
    del old["ganz alt"]
    return save(tmp_path / "old.safetensors", old), save(tmp_path / "new.safetensors", new, 1)


def test_every_layer_is_told(command, pair, tmp_path):
    out = tmp_path / "out.safetensors"
    done = command("transplant", *pair, "-o", out)
    assert done.status == 0, done.err
    assert "rows (classes, tokens" in done.out
    assert "grown" in done.out
    assert "2 tensors adapted, 3 tensors fresh" in " ".join(done.out.split())
    assert "not used of the source: head.weight (3, 6), head.bias (3,)" in " ".join(done.out.split())
    assert open_checkpoint(out)["body.weight"].entry.shape == (9, 4)
    again = command("transplant", *pair, "-o", out)
    assert again.status == 2
    assert "already there" in again.err
    found = command("transplant", *pair, "-o", out, "--force", "--json", "--leave", "body.bias").json
    assert found["tensors"] == {"carried": 0, "adapted": 1, "fresh": 4}
    assert found["fates"][0]["from"] == [6, 4]
    assert found["matched"] == "name"


def test_classes_and_maps_come_from_files(command, pair, tmp_path):
    (tmp_path / "old.txt").write_text("a\nb\nc\n")
    (tmp_path / "new.txt").write_text("c\nd\n")
    (tmp_path / "map.yml").write_text("'head.*': head.*\n")
    options = ("--source-classes", tmp_path / "old.txt", "--target-classes", tmp_path / "new.txt")
    found = command(
        *("transplant", *pair, "-o", tmp_path / "out", *options, "--map", tmp_path / "map.yml", "--json")
    ).json
    assert found["fates"][2]["how"] == "grown, 1 of 2 classes by name, 3 x 6 to 2 x 9"
    got = open_checkpoint(tmp_path / "out").array("head.bias")
    assert got[0] == open_checkpoint(pair[0]).array("head.bias")[2]


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (("--match", "nmae"), 2, "did you mean 'name'"),
        (("--width", "importence"), 2, "did you mean 'importance'"),
        (("--leave", "boddy.weight"), 2, "did you mean 'body.weight'"),
        (("--map", "nowhere.yml"), 3, "nowhere.yml cannot be read"),
        (("--match", "none"), 2, "no layer in common"),
        (("--source-tokenizer", "nowhere.json"), 2, "the target has no tokenizer.json"),
    ],
)
def test_bad_options_are_told(command, pair, tmp_path, options, status, says):
    done = command("transplant", *pair, "-o", tmp_path / "out", *options)
    assert done.status == status, done.err
    assert says in done.err
    assert not (tmp_path / "out").exists()


def test_a_pickle_in_disguise_is_refused(command, pair, tmp_path):
    pair[0].write_bytes(b"\x80\x02}q\x00.")
    done = command("transplant", *pair, "-o", tmp_path / "out")
    assert done.status == 3
    assert "pickle" in done.err
