"""Adapters of LoRA in a view are what peft's own merging makes of them; other kinds are refused in words."""

import json
import math
import shutil

import numpy as np
import pytest

from conjoin.errors import FileError
from conjoin.transfer.checkpoints import open_checkpoint, write_header
from conjoin.transfer.checkpoints.dtypes import read_as
from conjoin.transfer.merge import merge_recipe
from conjoin.transfer.merge.adapters import adapted

DTYPES = {"F32": np.float32, "F64": np.float64}


def write(path, tensors):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = write_header(((n, "F32", x.shape) for n, x in tensors.items()), {"format": "pt"})
    path.write_bytes(
        header + b"".join(np.ascontiguousarray(x, np.float32).tobytes() for x in tensors.values())
    )


def plain(tmp_path, change=None, tensors=None, rank=2, name="proj"):
    """A model of one layer (4, 6) with an adapter; what it holds and what its config says can be changed."""
    rng = np.random.default_rng(0)
    base = {f"{name}.weight": rng.standard_normal((4, 6)), f"{name}.bias": rng.standard_normal(4)}
    write(tmp_path / "base" / "model.safetensors", base)
    a, b = rng.standard_normal((rank, 6)), rng.standard_normal((4, rank))
    start = f"base_model.model.{name}"
    given = {f"{start}.lora_A.weight": a, f"{start}.lora_B.weight": b}
    given |= tensors or {}
    write(tmp_path / "lora" / "adapter_model.safetensors", {n: x for n, x in given.items() if x is not None})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 3} | (change or {})
    (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps(config))
    wide = {n: x.astype(np.float32).astype(np.float64) for n, x in (base | {"a": a, "b": b}).items()}
    return open_checkpoint(tmp_path / "base"), wide


@pytest.mark.parametrize(
    ("change", "scale"),
    [
        ({}, 1.5),
        ({"use_rslora": True}, 3 / math.sqrt(2)),
        ({"r": 7, "rank_pattern": {"proj": 2}}, 1.5),
        ({"alpha_pattern": {"oj": 100, "pro.": 8}}, 4),
        ({"alpha_pattern": {"^proj": 8}}, 4),
    ],
)
def test_scales(tmp_path, change, scale):
    model, x = plain(tmp_path, change)
    found = adapted(model, tmp_path / "lora", tmp_path)
    np.testing.assert_allclose(
        found.array("proj.weight"), x["proj.weight"] + scale * x["b"] @ x["a"], rtol=1e-5, atol=1e-6
    )
    assert found.array("proj.bias").tolist() == x["proj.bias"].tolist()
    assert {p.name for p in tmp_path.iterdir()} == {"base", "lora"}  # scratch has no name


START = "base_model.model.proj"


@pytest.mark.parametrize(
    ("change", "tensors", "told"),
    [
        ({"peft_type": "LOHA"}, {}, "'LOHA' are not merged in"),
        ({"peft_type": None}, {}, "None are not merged in"),
        ({"layer_replication": [[0, 4]]}, {}, "LoRA with layer_replication"),
        ({"trainable_token_indices": [1]}, {}, "trainable_token_indices"),
        ({"init_lora_weights": "pissa_niter_4"}, {}, "changes the model's own weights"),
        ({"lora_alpha": None}, {}, "lora_alpha must be a number"),
        ({"lora_alpha": True}, {}, "lora_alpha must be a number"),
        ({"r": 3}, {}, "proj has rank 2, adapter_config.json says 3"),
        ({"rank_pattern": {"(a+)+": 3}}, {}, "too involved"),
        ({"rank_pattern": {"[": 3}}, {}, "is no pattern"),
        ({"rank_pattern": [1]}, {}, "must be an object"),
        ({}, {f"{START}.lora_B.weight": None}, "proj lacks lora_B"),
        ({}, {f"{START}.lora_B.weight": np.zeros((5, 2))}, r"shape \[4, 6\], the adapter makes \[5, 6\]"),
        ({}, {f"{START}.lora_B.weight": np.zeros((4, 3))}, "are no LoRA"),
        ({}, {"base_model.model.prj.lora_A.weight": np.zeros((2, 6))}, "prj lacks lora_B"),
        (
            {},
            {
                "base_model.model.prj.lora_A.weight": np.zeros((2, 6)),
                "base_model.model.prj.lora_B.weight": np.zeros((4, 2)),
            },
            r"no tensor prj.weight; did you mean 'proj.weight'",
        ),
        ({"use_dora": True}, {}, "do not go together"),
        ({}, {f"{START}.lora_magnitude_vector": np.ones(4)}, "do not go together"),
        ({"use_dora": True}, {f"{START}.lora_magnitude_vector": np.ones(5)}, "5 lengths for 4 outputs"),
        ({}, {f"{START}.lora_B.bias": np.ones(5)}, "no bias of its shape"),
        ({}, {f"{START}.weight": np.ones((4, 6))}, "both saved whole and changed"),
    ],
)
def test_refused(tmp_path, change, tensors, told):
    model, _ = plain(tmp_path, change, tensors)
    with pytest.raises(FileError, match=told):
        adapted(model, tmp_path / "lora")


def test_folders_that_are_no_adapters(tmp_path):
    model, _ = plain(tmp_path)
    with pytest.raises(FileError, match="it has no adapter_config"):
        adapted(model, tmp_path / "base")
    (tmp_path / "lora" / "adapter_config.json").write_text("[")
    with pytest.raises(FileError, match="no JSON"):
        adapted(model, tmp_path / "lora")
    (tmp_path / "lora" / "adapter_config.json").write_text("[]")
    with pytest.raises(FileError, match="JSON object"):
        adapted(model, tmp_path / "lora")


def test_bias_of_lora_and_whole_tensors(tmp_path):
    whole = {"base_model.model.head.weight": np.ones((7, 6)), f"{START}.lora_B.bias": np.ones(4)}
    model, x = plain(tmp_path, {"modules_to_save": ["head"]}, whole)
    found = adapted(model, tmp_path / "lora")
    np.testing.assert_allclose(found.array("proj.bias"), x["proj.bias"] + 1.5, rtol=1e-6)
    assert found["head.weight"].entry.shape == (7, 6)
    assert (found.array("head.weight") == 1).all()


def test_prefixes_that_only_one_of_the_two_writes(tmp_path):
    model, x = plain(tmp_path, name="transformer.h.0.proj")
    shutil.rmtree(tmp_path / "base")
    tensors = {n.removeprefix("transformer."): v for n, v in x.items() if "." in n}
    write(tmp_path / "base" / "model.safetensors", tensors)
    model = open_checkpoint(tmp_path / "base")
    found = adapted(model, tmp_path / "lora")
    wanted = x["transformer.h.0.proj.weight"] + 1.5 * x["b"] @ x["a"]
    np.testing.assert_allclose(found.array("h.0.proj.weight"), wanted, rtol=1e-5, atol=1e-6)


def test_in_a_recipe(tmp_path):
    _, x = plain(tmp_path)
    (tmp_path / "r.yml").write_text(
        "merge_method: linear\nmodels:\n- {model: base+lora, parameters: {weight: 1}}\n"
        "- {model: {model: {path: base}, lora: {path: lora}}, parameters: {weight: 1}}\n"
        "- {model: base, parameters: {weight: 2}}\n"
    )
    merge_recipe(tmp_path / "r.yml", tmp_path / "out")
    found = open_checkpoint(tmp_path / "out")
    wanted = x["proj.weight"] + 0.75 * x["b"] @ x["a"]
    np.testing.assert_allclose(found.array("proj.weight"), wanted, rtol=1e-5, atol=1e-6)


# against peft


def model_of(torch, transformers, kind):
    if kind == "llama":
        config = transformers.LlamaConfig(
            vocab_size=40,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            attention_bias=True,
        )
        return transformers.LlamaForCausalLM(config)
    config = transformers.GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=20)
    return transformers.GPT2LMHeadModel(config)


CASES = [
    ("llama", "float32", {"target_modules": ["q_proj", "down_proj"]}),
    ("llama", "bfloat16", {"target_modules": ["q_proj", "down_proj"]}),
    ("llama", "float16", {"target_modules": ["k_proj"], "use_rslora": True}),
    (
        "llama",
        "float32",
        {
            "target_modules": ["q_proj", "up_proj"],
            "rank_pattern": {"layers.1.self_attn.q_proj": 3},
            "alpha_pattern": {"up_proj": 9},
        },
    ),
    ("llama", "float32", {"target_modules": ["q_proj", "embed_tokens"], "modules_to_save": ["lm_head"]}),
    ("llama", "float32", {"target_modules": ["q_proj"], "bias": "all"}),
    ("llama", "float32", {"target_modules": ["q_proj"], "lora_bias": True}),
    ("llama", "float32", {"target_modules": ["q_proj", "down_proj"], "use_dora": True}),
    ("llama", "bfloat16", {"target_modules": ["q_proj", "down_proj"], "use_dora": True}),
    ("gpt2", "float32", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    ("gpt2", "float32", {"target_modules": ["c_attn"], "fan_in_fan_out": True, "use_dora": True}),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "dtype", "options"), CASES)
def test_as_peft_merges(tmp_path, kind, dtype, options):
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = model_of(torch, transformers, kind).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(r=2, lora_alpha=5, **options)
    lora = peft.get_peft_model(model, config, autocast_adapter_dtype=False)
    for name, value in lora.named_parameters():
        if "lora_" in name or "modules_to_save" in name or (options.get("bias") and name.endswith("bias")):
            with torch.no_grad():
                value += (0.3 * torch.randn(value.shape)).to(value.dtype)
    lora.save_pretrained(tmp_path / "lora")
    fresh = type(model).from_pretrained(tmp_path / "base", dtype=getattr(torch, dtype))
    wanted = peft.PeftModel.from_pretrained(fresh, tmp_path / "lora", autocast_adapter_dtype=False)
    wanted = wanted.merge_and_unload().state_dict()
    found = adapted(open_checkpoint(tmp_path / "base"), tmp_path / "lora")
    assert len(found) >= 10
    step = {"float32": 1e-6, "bfloat16": 2**-7, "float16": 2**-10}[dtype]
    changed = 0
    for name in found:
        entry = found[name].entry
        ours = np.asarray(read_as(found.array(name), entry.dtype, "F32"))
        theirs = wanted[name].float().numpy()
        np.testing.assert_allclose(ours, theirs, rtol=step * 2, atol=step, err_msg=name)
        changed += name in found.patches
    assert changed >= 2
