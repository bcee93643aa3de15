"""NaN and infinite weights, a full disk, models that do not fit: told, and nothing is put in place."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conjoin.errors import FileError, InputError
from conjoin.transfer.checkpoints import open_checkpoint, write_header
from conjoin.transfer.checkpoints.dtypes import write_as
from conjoin.transfer.merge import merge_recipe
from conjoin.transfer.merge.finite import EXPONENTS, copied_any, count, has_any
from conjoin.transfer.weights import METHODS

SPEC = importlib.util.spec_from_file_location("world_of_merging", Path(__file__).parent / "world.py")
world = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(world)

NAME = "model.layers.1.mlp.up_proj.weight"


def spoil(folder, name=NAME, numbers=(np.nan,), dtype="F32"):
    """Put numbers at the start of a tensor."""
    found = open_checkpoint(folder)
    place = found[name]
    raw = np.ascontiguousarray(write_as(np.array(numbers, np.float32), "F32", dtype)).tobytes()
    with place.path.open("r+b") as file:
        file.seek(place.data + place.entry.start + 16)
        file.write(raw)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "one", "two")):
        world.model(tmp_path / name, seed, dtype="BF16")
    return tmp_path


def recipe(here, method="linear", extra="", models=("one", "two")):
    base = "" if METHODS[method].base == "none" else "base_model: base\n"
    listed = "".join(f"- {{model: {m}, parameters: {{weight: 1, density: 0.5}}}}\n" for m in models)
    (here / "r.yml").write_text(f"merge_method: {method}\n{base}models:\n{listed}{extra}")
    return here / "r.yml"


@pytest.mark.parametrize("dtype", EXPONENTS)
def test_every_type_of_number(dtype):
    numbers = np.array([1, -2, 0, 3e-5, 400, 7, -7, 1], np.float64)
    for bad, many in ((np.nan, 1), (np.inf, 0 if dtype in ("F8_E4M3",) else 1)):
        if dtype == "F8_E5M2" and bad == np.inf:
            continue  # too large a number becomes the largest finite one
        for place in (0, 5, 7):
            x = numbers.copy()
            x[place] = bad
            for n in (8, 8 * 7, 8 * 7 + 8):
                stored = write_as(np.resize(x, n), "F64", dtype)
                assert has_any(stored, dtype) == copied_any(stored, dtype) == bool(many)
                assert (count(stored, dtype) > 0) == bool(many)
    assert not has_any(write_as(numbers, "F64", dtype), dtype)
    assert not has_any(write_as(numbers[:3], "F64", dtype), dtype)


@pytest.mark.parametrize(
    "method", [m for m in METHODS if m not in ("passthrough", "slerp", "nearswap", "arcee_fusion")]
)
def test_are_told_with_tensor_model_and_number(here, method):
    spoil(here / "two", numbers=(np.nan, np.inf), dtype="BF16")
    with pytest.raises(InputError, match=rf"({NAME} \(two: 2 of 64\)|NaN)") as caught:
        merge_recipe(recipe(here, method), here / "out")
    assert not (here / "out").exists()
    if "(two: " in str(caught.value):
        assert "Nothing was written" in str(caught.value)
        done = merge_recipe(recipe(here, method), here / "out", allow_nan=True)
        assert any(f"{NAME} (two: 2 of 64)" in n for n in done.notes)
        assert not (here / "out" / "not-finite.txt").exists()


def test_of_the_base_too(here):
    spoil(here / "base", dtype="BF16")
    with pytest.raises(InputError, match=r"base: 1 of 64"):
        merge_recipe(recipe(here, "ties"), here / "out")


def test_a_merge_that_goes_on_knows_what_it_saw(here):
    spoil(here / "one", dtype="BF16")
    for _ in range(2):  # the second run finds every tensor merged
        with pytest.raises(InputError, match=r"one: 1 of 64"):
            merge_recipe(recipe(here), here / "out")


def test_numbers_too_large_for_the_type_of_the_answer(here):
    spoil(here / "one", numbers=(1e30,), dtype="BF16")
    with pytest.raises(InputError, match=r"no model holds any.*F16 cannot hold"):
        merge_recipe(recipe(here, extra="dtype: float16\n"), here / "out")


def test_an_older_model_at_its_place_stays(here):
    merge_recipe(recipe(here), here / "out")
    before = world.every_byte(here / "out")
    spoil(here / "one", dtype="BF16")
    with pytest.raises(InputError, match="NaN"):
        merge_recipe(recipe(here), here / "out", force=True)
    assert world.every_byte(here / "out") == before


LIMITED = """
import resource, sys
from pathlib import Path
from conjoin.errors import FileError
from conjoin.transfer.merge import merge_recipe
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
try:
    merge_recipe(Path("r.yml"), Path("out"))
except FileError as error:
    print(error)
"""


def test_no_room_for_the_answer(here):
    recipe(here)
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False)
    assert "cannot be written: " in done.stdout, done.stderr
    assert not (here / "out").exists()
    merge_recipe(recipe(here), here / "out")  # once there is room, it goes on


@pytest.mark.parametrize(
    ("parameters", "method", "told"),
    [
        ("{weight: 1, density: 1.2}", "ties", r"line 4: .*'density' of ties must lie in 0 to 1, not 1.2"),
        ("{weight: 1, density: [0.5, -0.1]}", "dare_ties", r"line 4: .*'density' .* must lie in 0 to 1"),
        ("{weight: 1, densty: 1}", "ties", r"line 4: .*no parameter 'densty'; did you mean 'density'"),
        ("{weight: .inf}", "linear", "line 4: .*must be finite"),
    ],
)
def test_parameters_out_of_range(here, parameters, method, told):
    text = f"merge_method: {method}\nbase_model: base\nmodels:\n- {{model: one, parameters: {parameters}}}\n"
    (here / "r.yml").write_text(text)
    with pytest.raises(InputError, match=told):
        merge_recipe(here / "r.yml", here / "out")


@pytest.mark.parametrize(
    ("t", "told"), [("1.5", "'t' of slerp must lie in 0 to 1"), ("x", "must be a number")]
)
def test_t_out_of_range(here, t, told):
    models = "models: [{model: one}, {model: two}]\n"
    text = f"merge_method: slerp\nbase_model: one\nparameters: {{t: {t}}}\n{models}"
    (here / "r.yml").write_text(text)
    with pytest.raises(InputError, match=f"line 3: .*{told}"):
        merge_recipe(here / "r.yml", here / "out")


@pytest.mark.parametrize("method", ["linear", "multislerp"])
def test_weights_that_sum_to_zero_at_one_layer(here, method):
    text = f"""merge_method: {method}
models:
- {{model: one, parameters: {{weight: [1, -1]}}}}
- {{model: two, parameters: {{weight: [0, 1]}}}}
"""
    (here / "r.yml").write_text(text)
    with pytest.raises(InputError, match=r"line 1: the weights of model.layers.2.* sum to 0"):
        merge_recipe(here / "r.yml", here / "out")


def test_at_the_command_line(here):
    spoil(here / "two", dtype="BF16")
    recipe(here)
    command = [sys.executable, "-m", "conjoin", "merge", "r.yml", "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "NaN or infinite numbers" in done.stderr
    assert "Traceback" not in done.stderr
    done = subprocess.run([*command, "--allow-nan"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "NaN or infinite numbers" in done.stderr + done.stdout


def test_types_that_differ_meet_in_the_wider(here):
    world.model(here / "two", 2, dtype="F32")
    merge_recipe(recipe(here), here / "out")
    assert open_checkpoint(here / "out")[NAME].entry.dtype == "F32"


def test_whole_numbers_where_others_have_floats(here):
    header = write_header([("w", "F32", (2,)), ("v", "F32", (2,))], {})
    other = write_header([("w", "I64", (2,)), ("v", "F32", (2,))], {})
    for name, head, size in (("one", header, 16), ("two", other, 24)):
        (here / name / "model.safetensors").write_bytes(head + bytes(size))
    with pytest.raises((InputError, FileError), match=r"w .*one: F32, two: I64"):
        merge_recipe(recipe(here), here / "out")
