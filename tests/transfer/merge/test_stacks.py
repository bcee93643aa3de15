"""Models of several stacks: gradients, slices, modules, heads that are tied."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from conjoin.errors import InputError
from conjoin.transfer.checkpoints import open_checkpoint, write_header
from conjoin.transfer.merge import merge_recipe, plan
from conjoin.transfer.merge.recipe import parse
from conjoin.transfer.merge.stacks import Layout, owners

SPEC = importlib.util.spec_from_file_location("world_of_merging", Path(__file__).parent / "world.py")
world = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(world)


def layered(prefix, count, *rests):
    return [f"{prefix}{i}.{r}" for i in range(count) for r in rests]


T5 = [
    "shared.weight",
    *layered("encoder.block.", 3, "layer.0.q.weight", "layer.1.wi.weight"),
    "encoder.final_layer_norm.weight",
    *layered("decoder.block.", 2, "layer.0.q.weight", "layer.1.k.weight", "layer.2.wi.weight"),
    "decoder.final_layer_norm.weight",
]
LLAVA = [
    "vision_tower.vision_model.embeddings.patch_embedding.weight",
    *layered("vision_tower.vision_model.encoder.layers.", 5, "q.weight", "k.weight", "mlp.fc1.weight"),
    "multi_modal_projector.linear_1.weight",
    "language_model.model.embed_tokens.weight",
    *layered(
        "language_model.model.layers.", 3, "q.weight", "mlp.experts.0.up.weight", "mlp.experts.1.up.weight"
    ),
    "language_model.lm_head.weight",
]


def write(folder, names, seed=0, config=None, values=None):
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {n: rng.standard_normal((6, 4)).astype(np.float32) for n in names} | (values or {})
    header = write_header(((n, "F32", x.shape) for n, x in tensors.items()), {})
    (folder / "model.safetensors").write_bytes(header + b"".join(x.tobytes() for x in tensors.values()))
    (folder / "config.json").write_text(json.dumps(config or {}))
    return tensors


def run(here, text):
    (here / "r.yml").write_text(text)
    return merge_recipe(here / "r.yml", here / "out")


def weights(here, names, text, model="b"):
    """The weight that each tensor of a model gets."""
    for seed, name in enumerate(("a", "b")):
        write(here / name, names, seed)
    tasks = plan(parse(text), lambda name: here / name).tasks
    return {t.name: t.each["weight"][0 if model == "a" else 1] for t in tasks}


GRADIENT = """merge_method: linear
models:
- {model: a, parameters: {weight: 1}}
- {model: b, parameters: {weight: [0, 1]}}
"""


def test_a_gradient_runs_over_each_stack(tmp_path):
    found = weights(tmp_path, T5, GRADIENT)
    assert [found[f"encoder.block.{i}.layer.1.wi.weight"] for i in range(3)] == [0, 0.5, 1]
    assert [found[f"decoder.block.{i}.layer.1.k.weight"] for i in range(2)] == [0, 1]
    assert found["shared.weight"] == 0
    found = weights(tmp_path, LLAVA, GRADIENT)
    assert [found[f"language_model.model.layers.{i}.mlp.experts.1.up.weight"] for i in range(3)] == [
        0,
        0.5,
        1,
    ]
    assert found["vision_tower.vision_model.encoder.layers.2.q.weight"] == 0.5


def test_numbers_that_are_no_layers():
    assert Layout(layered("0.model.layers.", 2, "w")).counts == {"0.model.layers.": 2}
    assert Layout(["0.weight", "2.weight"]).counts == {"": 3}
    assert Layout(LLAVA).main(LLAVA) == ("language_model.model.layers.",)
    assert set(Layout(T5).main(T5)) == {"encoder.block.", "decoder.block."}


SLICES = """
  {indent}- sources: [{{model: a, layer_range: [0, 2]}}]
  {indent}- sources: [{{model: b, layer_range: [1, 3]}}]
"""


def test_slices_are_of_the_text_stack(tmp_path):
    given = [
        write(tmp_path / n, LLAVA, i, {"text_config": {"num_hidden_layers": 3}}) for i, n in enumerate("ab")
    ]
    run(tmp_path, "merge_method: passthrough\nslices:" + SLICES.format(indent=""))
    found = world.arrays(tmp_path / "out")
    start = "language_model.model.layers."
    for new, (model, old) in enumerate([(0, 0), (0, 1), (1, 1), (1, 2)]):
        for rest in ("q.weight", "mlp.experts.1.up.weight"):
            assert (found[f"{start}{new}.{rest}"] == given[model][f"{start}{old}.{rest}"]).all()
    assert sum(n.startswith("vision_tower.vision_model.encoder") for n in found) == 15
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["text_config"]["num_hidden_layers"] == 4


def test_slices_of_two_stacks_alike_need_modules(tmp_path):
    for seed, name in enumerate("ab"):
        write(tmp_path / name, T5, seed)
    text = "merge_method: passthrough\nslices:" + SLICES.format(indent="")
    with pytest.raises(
        InputError, match=r"several stacks of layers \(decoder.block., encoder.block.\).*modules"
    ):
        run(tmp_path, text)


MODULES = """merge_method: passthrough
modules:
  encoder:
    slices:{slices}
  decoder:
    models: [{{model: b}}]
{more}"""


def test_modules(tmp_path):
    config = {"num_layers": 3, "num_decoder_layers": 2}
    given = [write(tmp_path / n, T5, i, config) for i, n in enumerate("ab")]
    run(
        tmp_path, MODULES.format(slices=SLICES.format(indent="    "), more="  shared: {models: [{model: a}]}")
    )
    found = world.arrays(tmp_path / "out")
    assert (found["shared.weight"] == given[0]["shared.weight"]).all()
    assert (found["encoder.block.3.layer.0.q.weight"] == given[1]["encoder.block.2.layer.0.q.weight"]).all()
    assert (found["encoder.final_layer_norm.weight"] == given[1]["encoder.final_layer_norm.weight"]).all()
    assert len(found) == len(T5) + 2
    for name in T5[8:]:
        assert (found[name] == given[1][name]).all()
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == config | {"num_layers": 4, "num_decoder_layers": 2}


def test_modules_by_their_role(tmp_path):
    found, none = owners(LLAVA, ["vision_tower", "multi_modal_projector", "text_decoder"])
    assert not none
    assert [sum(o == m for o in found.values()) for m in ("vision_tower", "multi_modal_projector")] == [16, 1]
    qwen = ["visual.blocks.0.w", "visual.merger.mlp.0.w", "model.layers.0.w", "lm_head.weight"]
    found, _ = owners(qwen, ["text_decoder", "vision_tower", "multi_modal_projector"])
    assert list(found.values()) == ["vision_tower", "multi_modal_projector", "text_decoder", "text_decoder"]
    assert owners(qwen, ["visual"])[1] == qwen[2:]
    assert owners(["model.layers.0.w", "a.b"], ["model.layers", "default"])[0]["a.b"] == "default"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "modules: {encodr: {models: [{model: a}]}, decoder: {models: [{model: a}]}}",
            "line 2: no tensor belongs to the module 'encodr'; did you mean 'encoder'",
        ),
        (
            "modules: {encoder: {models: [{model: a}]}}",
            r"line 2: tensors that belong to no module: shared.weight, .*more; a module called default",
        ),
        (
            "modules: {encoder: {models: [{model: a}, {model: b}]}, default: {models: [{model: a}]}}",
            "line 2: passthrough takes 1 model",
        ),
    ],
)
def test_modules_refused(tmp_path, text, told):
    for seed, name in enumerate("ab"):
        write(tmp_path / name, T5, seed)
    with pytest.raises(InputError, match=told):
        run(tmp_path, f"merge_method: passthrough\n{text}\n")


def test_parameters_of_modules(tmp_path):
    text = """merge_method: linear
parameters: {weight: 1}
modules:
  encoder: {models: [{model: a}, {model: b}], parameters: {weight: 2}}
  default: {models: [{model: a}, {model: b, parameters: {weight: 3}}]}
"""
    found = weights(tmp_path, T5, text)
    assert found["encoder.block.0.layer.0.q.weight"] == 2
    assert found["decoder.block.0.layer.0.q.weight"] == 3
    assert weights(tmp_path, T5, text, "a")["shared.weight"] == 1


# heads

BODY = ["model.embed_tokens.weight", *layered("model.layers.", 2, "q.weight"), "model.norm.weight"]
HEAD = "lm_head.weight"
LINEAR = "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: a}, {model: b}]\n"


def test_a_head_that_one_model_leaves_out_is_its_embedding(tmp_path):
    a = write(tmp_path / "a", [*BODY, HEAD], 0, {"tie_word_embeddings": False})
    b = write(tmp_path / "b", BODY, 1, {"tie_word_embeddings": True})
    done = run(tmp_path, LINEAR)
    wanted = (a[HEAD] + b["model.embed_tokens.weight"]) / 2
    np.testing.assert_allclose(world.arrays(tmp_path / "out")[HEAD], wanted, rtol=1e-6)
    assert any("tied to model.embed_tokens.weight there" in n for n in done.notes)


def test_the_config_says_that_heads_were_untied(tmp_path):
    write(tmp_path / "a", BODY, 0, {"tie_word_embeddings": True})
    write(tmp_path / "b", [*BODY, HEAD], 1, {"tie_word_embeddings": False})
    run(tmp_path, LINEAR)
    assert HEAD in open_checkpoint(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False


def test_heads_that_are_the_embedding_stay_tied(tmp_path):
    write(tmp_path / "a", BODY, 0, {})
    b = write(tmp_path / "b", BODY, 1)
    write(tmp_path / "b", BODY, 1, {}, {HEAD: b["model.embed_tokens.weight"]})
    done = run(tmp_path, LINEAR)
    assert HEAD not in open_checkpoint(tmp_path / "out")
    assert any("left out: it is tied" in n for n in done.notes)


@pytest.mark.parametrize("config", [{"tie_word_embeddings": False}, {}])
def test_a_head_that_is_missing_is_refused(tmp_path, config):
    write(tmp_path / "a", [*BODY, HEAD], 0)
    write(tmp_path / "b", BODY, 1, config)
    with pytest.raises(
        InputError, match=r"line 3: .*lm_head.weight; b lacks lm_head.weight; it may be tied .* b does"
    ):
        run(tmp_path, LINEAR)
