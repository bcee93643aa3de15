"""Small models with tokenizers that differ."""

import json
from pathlib import Path

import numpy as np

from conjoin.transfer.checkpoints import write_header
from conjoin.transfer.checkpoints.dtypes import write_as

SPECIAL = ("<unk>", "<s>", "</s>")
WIDTH = 4


def added(content, number, special=True):
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, **flags, "special": special}


def bpe(pieces, merges=(), extra=()):
    """tokenizer.json: special tokens, pieces, then tokens that are found whole."""
    words = [*SPECIAL, *pieces]
    tokens = [added(t, i) for i, t in enumerate(SPECIAL)]
    tokens += [added(t, len(words) + i) for i, t in enumerate(extra)]
    return {
        "version": "1.0",
        "added_tokens": tokens,
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {w: i for i, w in enumerate(words)},
            "merges": [list(m) for m in merges],
        },
    }


def unigram(pieces, extra=()):
    whole = bpe([], extra=())
    vocab = [["<unk>", 0.0], *([p, -float(i)] for i, p in enumerate(pieces, 1))]
    whole["model"] = {"type": "Unigram", "unk_id": 0, "vocab": vocab}
    whole["added_tokens"] = [added("<unk>", 0), *(added(t, len(vocab) + i) for i, t in enumerate(extra))]
    return whole


def model(folder: Path, tokenizer, seed=0, rows=None, dtype="F32", head=True, others=None, **config):
    """A folder; `rows` of the embedding: as many as there are tokens, if not given."""
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        vocab = tokenizer["model"]["vocab"]
        names = {t["content"] for t in tokenizer["added_tokens"]} | {
            v if isinstance(v, str) else v[0] for v in vocab
        }
        rows = rows or len(names)
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
        specials = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **specials})
        )
    shapes = {"model.embed_tokens.weight": (rows, WIDTH)}
    shapes |= {f"model.layers.{i}.mlp.up_proj.weight": (WIDTH, WIDTH) for i in range(2)}
    shapes |= {"model.norm.weight": (WIDTH,)} | ({"lm_head.weight": (rows, WIDTH)} if head else {})
    shapes |= others or {}
    rng = np.random.default_rng(seed)
    tensors = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    header = write_header(((n, dtype, x.shape) for n, x in tensors.items()), {"format": "pt"})
    data = b"".join(np.ascontiguousarray(write_as(x, "F32", dtype)).tobytes() for x in tensors.values())
    (folder / "model.safetensors").write_bytes(header + data)
    told = {"num_hidden_layers": 2, "vocab_size": rows, "bos_token_id": 1, "eos_token_id": 2} | config
    (folder / "config.json").write_text(json.dumps(told | ({} if head else {"tie_word_embeddings": True})))
    return folder
