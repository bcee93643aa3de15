"""Merging of folders by recipes, and of state dicts: what comes out, and what is told before anything is
written.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import conjoin
from conjoin.errors import InputError
from conjoin.transfer.merge import merge_recipe
from conjoin.transfer.merge.stacks import Layout

SPEC = importlib.util.spec_from_file_location("world_of_merging", Path(__file__).parent / "world.py")
world = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(world)


@pytest.fixture
def here(tmp_path):
    for seed, name in enumerate(("base", "one", "two")):
        world.model(tmp_path / name, seed)
    return tmp_path


def merged(here, text, **options):
    (here / "recipe.yml").write_text(text)
    done = merge_recipe(here / "recipe.yml", here / "out", **options)
    return world.arrays(done.path), done


LINEAR = "merge_method: linear\nmodels:\n- model: one\n- model: two\n"


def test_a_recipe_with_filters_gradients_and_levels(here):
    text = """
merge_method: task_arithmetic
base_model: base
parameters: {weight: 0.5}
models:
- model: one
  parameters:
    weight: [{filter: mlp, value: [0, 1]}]
- model: two
- model: base
"""
    found, _ = merged(here, text)
    base, one, two = (world.arrays(here / n) for n in ("base", "one", "two"))
    for name, x in found.items():
        layer = int(name.split(".")[2]) if "layers" in name else None
        weight = layer / 2 if "mlp" in name else 0.5
        wanted = base[name] + weight * (one[name] - base[name]) + 0.5 * (two[name] - base[name])
        np.testing.assert_allclose(x, wanted, atol=2e-6)


def test_slices_stack_layers(here):
    text = """
merge_method: passthrough
slices:
- sources: [{model: one, layer_range: [0, 2]}]
- sources: [{model: two, layer_range: [1, 3]}]
  parameters: {scale: [{filter: up_proj, value: 0.5}, {value: 1}]}
"""
    found, _ = merged(here, text)
    one, two = world.arrays(here / "one"), world.arrays(here / "two")
    up, q = "model.layers.{}.mlp.up_proj.weight", "model.layers.{}.self_attn.q_proj.weight"
    np.testing.assert_array_equal(found[up.format(1)], one[up.format(1)])
    np.testing.assert_array_equal(found[up.format(2)], two[up.format(1)] * np.float32(0.5))
    np.testing.assert_array_equal(found[q.format(3)], two[q.format(2)])
    np.testing.assert_array_equal(found["model.embed_tokens.weight"], one["model.embed_tokens.weight"])
    np.testing.assert_array_equal(found["lm_head.weight"], two["lm_head.weight"])
    assert len(found) == 11
    assert json.loads((here / "out" / "config.json").read_text())["num_hidden_layers"] == 4


def test_types_and_files(here):
    found, done = merged(here, LINEAR + "parameters: {weight: 1}\ndtype: float32\nout_dtype: bfloat16")
    assert {x.dtype for x in found.values()} == {np.dtype(np.uint16)}
    assert json.loads((here / "out" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert (here / "out" / "tokenizer.json").read_text() == "{}"
    assert done.tensors == len(found) == 9


def test_tied_weights_stay_tied(tmp_path):
    names = [n for n in world.NAMES if n != "lm_head.weight"]
    for seed, name in enumerate(("one", "two")):
        world.model(tmp_path / name, seed, names=names)
    found, _ = merged(tmp_path, LINEAR + "parameters: {weight: 1}")
    assert set(found) == set(names)


def refused(here, text, told):
    with pytest.raises(InputError, match=told):
        merged(here, text)
    assert not list(here.glob("*out*"))
    assert not list(here.glob(".*"))


WEIGHT = "parameters: {weight: 1}\n"


def test_what_does_not_fit_is_told_before_anything_is_written(here):
    refused(here, LINEAR, r"recipe\.yml, line 3: linear needs the parameter 'weight' for .* of one")
    refused(here, LINEAR + "parameters: {weight: 0}", "sum to 0")
    refused(here, LINEAR.replace("linear", "ties") + WEIGHT, "ties needs a base model")
    refused(here, LINEAR + WEIGHT + "base_model: base", "line 6: linear takes no base model")
    refused(here, LINEAR + WEIGHT + "tokenizer_source: three", "line 6: .*no model of this recipe")
    refused(here, LINEAR.replace("two", "tow") + WEIGHT, "no checkpoint 'tow'")
    slices = "merge_method: passthrough\nslices: [{sources: [{model: one, layer_range: [0, 9]}]}]"
    refused(here, slices, "line 2: one has 3 layers, not 9")


def test_models_that_differ(here):
    world.model(here / "two", 1, rows=25)
    refused(here, LINEAR + WEIGHT, r"embed_tokens.*one: \[24, 8\], two: \[25, 8\].*vocabularies")
    world.model(here / "two", 1, names=world.NAMES[:-1])
    refused(here, LINEAR + WEIGHT, "not all models have: lm_head.weight; two lacks .* may be tied")
    world.model(here / "two", 1, names=[n for n in world.NAMES if ".2." not in n])
    refused(here, LINEAR + WEIGHT, r"different numbers of layers \(one: 3, two: 2\)")
    world.model(here / "two", 1, names=[n.replace("model.layers", "h") for n in world.NAMES])
    refused(here, LINEAR + WEIGHT, "different architectures")


def test_layers_are_found_from_names():
    assert Layout(["model.layers.0.experts.0.w", "model.layers.1.experts.7.w"]).counts == {"model.layers.": 2}
    assert Layout(["a", "b"]).counts == {}


def test_merge_of_state_dicts_and_of_folders_are_the_same(here):
    states = {n: world.arrays(here / n) for n in ("one", "two")}
    options = {"parameters": {"weight": [0.3, 0.7], "density": 0.5}}
    found = conjoin.merge(states, "ties", base=world.arrays(here / "base"), **options)
    place = conjoin.merge(
        [here / "one", here / "two"], "ties", base=here / "base", out=here / "out", **options
    )
    there = world.arrays(place)
    assert set(there) == set(found)
    for name, x in found.items():
        np.testing.assert_array_equal(x, there[name])


def test_greedy_soup_of_folders(here):
    wanted = world.arrays(here / "one")["lm_head.weight"]

    def score(state):
        return -float(np.square(np.asarray(state["lm_head.weight"], float) - wanted).sum())

    place = conjoin.merge([here / "two", here / "one"], "greedy_soup", score=score, out=here / "out")
    for name, x in world.arrays(place).items():
        np.testing.assert_array_equal(x, world.arrays(here / "one")[name])
    with pytest.raises(InputError, match="needs score="):
        conjoin.merge([here / "one"], "greedy_soup", out=here / "more")


def test_merge_of_torch_modules():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    first, second = (torch.nn.BatchNorm1d(3).to(torch.bfloat16) for _ in range(2))
    with torch.no_grad():
        second.weight.add_(1)
    module = conjoin.merge([first, second], "linear", parameters={"weight": 1})
    assert isinstance(module, torch.nn.BatchNorm1d)
    found = module.state_dict()
    assert found["weight"].tolist() == [1.5] * 3
    assert found["weight"].dtype == torch.bfloat16
    assert found["num_batches_tracked"].dtype == torch.int64
    assert first.weight.tolist() == [1.0] * 3


def test_merge_refuses(here):
    with pytest.raises(InputError, match="give out="):
        conjoin.merge([here / "one", here / "two"], "linear", parameters={"weight": 1})
    with pytest.raises(InputError, match="all folders"):
        conjoin.merge([here / "one", {}], "linear", parameters={"weight": 1})
    with pytest.raises(InputError, match="not all models have: model 1 lacks b"):
        conjoin.merge([{"a": np.ones(2), "b": np.ones(2)}, {"a": np.ones(2)}], "linear")
    with pytest.raises(InputError, match="is a model of the recipe"):
        conjoin.merge([here / "one"], "linear", parameters={"weight": 1}, out=here / "one", force=True)


@pytest.mark.parametrize("method", ["iso_c", "iso_cts", "tsv_m", "wudi", "consensus", "uniform_soup"])
def test_methods_of_quality_work_from_recipes(here, method):
    based = "" if method == "uniform_soup" else "base_model: base\n"
    text = f"merge_method: {method}\n{based}models: [{{model: one}}, {{model: two}}]\n"
    found, _ = merged(here, text)
    base = world.arrays(here / "base") if based else None
    there = conjoin.merge([world.arrays(here / n) for n in ("one", "two")], method, base=base)
    for name, x in found.items():
        np.testing.assert_array_equal(x, there[name])


@pytest.mark.parametrize("method", ["fisher", "regmean", "regmean++", "adamerging", "greedy_soup"])
def test_methods_that_need_more_than_a_recipe_say_so(here, method):
    refused(here, LINEAR.replace("linear", method), rf"line 1: .*conjoin\.merge\(models, '{method[:6]}")
