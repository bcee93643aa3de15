"""`conjoin merge` on two small models."""

import numpy as np
import pytest

from conjoin.transfer.checkpoints import open_checkpoint, write_header

RECIPE = "merge_method: linear\nmodels:\n- model: one\n- model: two\nparameters: {weight: 1}\n"


@pytest.fixture
def recipe(tmp_path):
    for value, name in ((1, "one"), (3, "two")):
        (tmp_path / name).mkdir()
        raw = write_header([("h.0.w", "F32", (2,)), ("h.1.w", "F32", (2,))], {})
        raw += np.full(4, value, np.float32).tobytes()
        (tmp_path / name / "model.safetensors").write_bytes(raw)
    (tmp_path / "recipe.yml").write_text(RECIPE)
    return tmp_path / "recipe.yml"


def test_merge(command, recipe, tmp_path):
    done = command("merge", recipe, tmp_path / "out", "--threads", "1")
    assert done.status == 0, done.err
    assert "linear of 2 models, 2 tensors" in done.out
    assert open_checkpoint(tmp_path / "out").array("h.1.w").tolist() == [2, 2]
    again = command("merge", recipe, tmp_path / "out")
    assert again.status == 2
    assert "already there" in again.err
    found = command("merge", recipe, tmp_path / "out", "--force", "--json", "--shard-size", "8B").json
    assert (found["method"], found["tensors"]) == ("linear", 2)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 2


def test_a_typing_error_names_the_line(command, recipe, tmp_path):
    recipe.write_text(RECIPE.replace("weight", "wieght"))
    done = command("merge", recipe, tmp_path / "out")
    assert done.status == 2
    assert "line 5" in done.err
    assert "did you mean 'weight'" in done.err
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_there(command, recipe, tmp_path):
    (tmp_path / "two" / "model.safetensors").unlink()
    done = command("merge", recipe, tmp_path / "out")
    assert done.status == 3
    assert "no safetensors" in done.err
