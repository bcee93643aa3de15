"""What lies beside the weights: chat templates, config, recipe, card."""

import json

import pytest
from tests.transfer.merge.vocabularies import bpe, model

from conjoin.errors import InputError
from conjoin.transfer.merge import merge, merge_recipe
from conjoin.transfer.merge.chat import TEMPLATES

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi "},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Bye"},
]
TEXTS = {
    "chatml": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi <|im_end|>\n"
    "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "<s> [INST] Be kind.\n\nHi  [/INST] Hello.</s> [INST] Bye [/INST]",
    "exaone": "[|system|]Be kind.[|endofturn|]\n[|user|]Hi \n[|assistant|]Hello.[|endofturn|]\n"
    "[|user|]Bye\n[|assistant|]",
    "alpaca": "Be kind.\n\n### Instruction:\nHi\n\n### Response:\nHello.\n\n"
    "### Instruction:\nBye\n\n### Response:\n",
}


@pytest.fixture
def world(tmp_path):
    for seed, name in enumerate("abc"):
        model(tmp_path / name, bpe(["x", "y"]), seed, torch_dtype="bfloat16")
    return tmp_path


def merged(world, text, models="abc", head="merge_method: linear"):
    lines = [head, "models:", *(f"- {{model: {world / m}, parameters: {{weight: 1}}}}" for m in models), text]
    (world / "r.yml").write_text("\n".join(lines), encoding="utf-8")
    return merge_recipe(world / "r.yml", world / "out", force=True)


def config(folder, name="config.json"):
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_write_the_format_of_their_models(name):
    jinja2 = pytest.importorskip("jinja2")
    for options in ({}, {"trim_blocks": True, "lstrip_blocks": True}):
        made = jinja2.Environment(**options).from_string(TEMPLATES[name])
        told = made.render(messages=TALK, add_generation_prompt=True, bos_token="<s>", eos_token="</s>")
        assert told == TEXTS[name]


@pytest.mark.parametrize("wanted", ["chatml", "{{ messages[0].content }} привет"])
def test_template_lies_where_transformers_reads_it(world, wanted):
    merged(world, f"chat_template: {wanted!r}")
    expected = TEMPLATES.get(wanted, wanted)
    assert (world / "out" / "chat_template.jinja").read_text(encoding="utf-8") == expected
    assert config(world / "out", "tokenizer_config.json")["chat_template"] == expected
    transformers = pytest.importorskip("transformers")
    assert transformers.AutoTokenizer.from_pretrained(world / "out").chat_template == expected


def test_auto_takes_the_template_of_most_models(world):
    (world / "a" / "chat_template.jinja").write_text("{{ 'a' }}")
    for name in "bc":
        told = config(world / name, "tokenizer_config.json") | {
            "chat_template": [{"name": "default", "template": "{{ 'bc' }}"}]
        }
        (world / name / "tokenizer_config.json").write_text(json.dumps(told))
    merged(world, "chat_template: auto")
    assert (world / "out" / "chat_template.jinja").read_text() == "{{ 'bc' }}"


def test_auto_without_any_is_told(world):
    assert "no model has a chat template; the answer has none" in merged(world, "chat_template: auto").notes
    assert not (world / "out" / "chat_template.jinja").exists()


def test_unknown_template_is_refused_with_its_line(world):
    with pytest.raises(InputError, match=r"line 6: no chat template 'chatlm'; did you mean 'chatml'"):
        merged(world, "chat_template: chatlm")


def test_config_has_the_type_of_the_weights(world):
    merged(world, "out_dtype: float16")
    assert config(world / "out")["torch_dtype"] == "float16"
    merged(world, "")
    assert config(world / "out")["torch_dtype"] == "float32"  # as stored, whatever the base's config says


def test_layers_and_lists_by_layer_follow_the_slices(world):
    model(
        world / "a",
        bpe(["x", "y"]),
        0,
        layer_types=["full", "sliding"],
        mlp_only_layers=[1],
        architectures=["A", "B"],
    )
    model(world / "b", bpe(["x", "y"]), 1, layer_types=["other", "last"])
    part = "- sources: [{{model: {}, layer_range: [{}, {}]}}]"
    lines = [part.format(world / m, a, b) for m, a, b in (("a", 0, 2), ("a", 1, 2), ("b", 0, 1))]
    (world / "r.yml").write_text("merge_method: passthrough\nslices:\n" + "\n".join(lines))
    merge_recipe(world / "r.yml", world / "out")
    found = config(world / "out")
    assert found["num_hidden_layers"] == 4
    assert found["layer_types"] == ["full", "sliding", "sliding", "other"]
    assert found["mlp_only_layers"] == [1, 2]
    assert found["architectures"] == ["A", "B"]


def test_recipe_and_card_lie_beside(world):
    merged(world, "# конец ``` \ndtype: bfloat16")
    assert (world / "out" / "recipe.yml").read_bytes() == (world / "r.yml").read_bytes()
    card = (world / "out" / "README.md").read_text(encoding="utf-8")
    assert "- a\n- b\n- c\n" in card
    assert "````yaml\nmerge_method: linear" in card
    assert "license" not in card


def test_call_without_a_recipe_writes_one_that_does_the_same(world):
    folders = [world / "a", world / "b"]
    first = merge(folders, "linear", parameters={"weight": [1, 3]}, out=world / "one")
    done = merge_recipe(first / "recipe.yml", world / "two")
    assert done.tensors
    assert (first / "model.safetensors").read_bytes() == (world / "two" / "model.safetensors").read_bytes()


def test_generation_config_comes_with_the_tokenizer(world):
    (world / "a" / "generation_config.json").write_text('{"eos_token_id": [2]}')
    model(world / "b", bpe(["x"], extra=["<|end|>"]), 1)
    merged(world, f"base_model: {world / 'a'}\ntokenizer_source: {world / 'b'}", "ab")
    assert config(world / "out", "generation_config.json") == {"eos_token_id": 2}  # as b's config says
    (world / "b" / "generation_config.json").write_text('{"eos_token_id": 4}')
    merged(world, f"base_model: {world / 'a'}\ntokenizer_source: {world / 'b'}", "ab")
    assert config(world / "out", "generation_config.json") == {"eos_token_id": 4}


@pytest.mark.parametrize(("raw", "why"), [(b"{", "no JSON"), (b"[]", "must hold a JSON object")])
def test_damaged_config_is_told(world, raw, why):
    (world / "a" / "config.json").write_bytes(raw)
    with pytest.raises(InputError, match=why):
        merged(world, "")
