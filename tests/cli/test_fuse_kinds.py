"""`conjoin fuse` and `conjoin score` on the files of every kind."""

from __future__ import annotations

import json

import numpy as np
import pytest

WORDS = (
    "the cat sat on the mat",
    "a dog ran to the old house",
    "ein Haus am See",
    "日本 の 猫",
    "two birds sing",
)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def ranking(folder):
    rng = np.random.default_rng(0)
    for name, noise in (("bm25", 0.5), ("dense", 1.0), ("third run", 2.0)):
        lines = []
        for q in range(12):
            scores = (np.arange(8) == q % 8) * 2 + noise * rng.normal(size=8)
            order = np.argsort(-scores)
            lines += [f"q{q} Q0 d{d} {r + 1} {scores[d]:.6f} {name.split()[0]}" for r, d in enumerate(order)]
        yield write(folder / f"{name}.run", "\n".join(lines) + "\n")
    write(folder / "truth", "".join(f"q{q} 0 d{q % 8} 1\n" for q in range(10)))


def labels(folder):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 40)
    for name, skill in (("a", 0.9), ("b", 0.7), ("c", 0.6)):
        said = np.where(rng.random(40) < skill, truth, 1 - truth)
        rows = [f"t{t},{name},{'yes' if said[t] else 'no'}" for t in range(40) if rng.random() < 0.9]
        yield write(folder / f"{name}.csv", "task,worker,label\n" + "\n".join(rows) + "\n")
    rows = "".join(f"t{t},{'yes' if truth[t] else 'no'}\n" for t in range(30))
    write(folder / "truth", "task,label\n" + rows)


def boxes(folder):
    rng = np.random.default_rng(0)
    at = rng.uniform(0, 60, (12, 2))
    truth = {
        "images": [{"id": i, "width": 100, "height": 100, "file_name": f"{i}.jpg"} for i in range(12)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            {
                "id": i + 1,
                "image_id": i,
                "category_id": 1 + 2 * (i % 2),
                "bbox": [*map(float, at[i]), 20.0, 30.0],
                "area": 600.0,
                "iscrowd": 0,
            }
            for i in range(12)
        ],
    }
    for name, noise in (("yolo", 1.0), ("nano det", 4.0)):
        found = []
        for i in range(12):
            corner = at[i] + noise * rng.normal(size=2)
            box = [*map(float, corner), 20.0, 30.0]
            found.append({"image_id": i, "category_id": 1 + 2 * (i % 2), "bbox": box, "score": 0.8})
        yield write(folder / f"{name}.json", json.dumps(found))
    write(folder / "truth", json.dumps(truth))


def spans(folder):
    texts = [f"{WORDS[i % 5]} number {i}" for i in range(12)]

    def lines(shift):
        for i, text in enumerate(texts):
            start = text.index(" ") + 1 if i % shift else 0
            yield json.dumps(
                {
                    "id": i,
                    "text": text,
                    "spans": [{"start": start, "end": len(text), "label": "x", "score": 0.5}],
                }
            )

    for name, shift in (("a", 2), ("b", 3), ("c", 13)):
        yield write(folder / f"{name}.jsonl", "\n".join(lines(shift)) + "\n")
    write(folder / "truth", "\n".join(lines(13)) + "\n")


def texts(folder):
    for name, at in (("a", 0), ("b", 1), ("c", 2)):
        lines = [f"{w} {'x' * (at * (i % 3))}".strip() for i, w in enumerate(WORDS * 3)]
        yield write(folder / f"{name}.txt", "\n".join(lines) + "\n")
    write(folder / "truth", "\n".join(WORDS * 3) + "\n")


def speech(folder):
    for name, wrong in (("a", 0), ("b", 3), ("c", 2)):
        lines = []
        for u, text in enumerate(WORDS * 2):
            for k, word in enumerate(text.split()):
                said = "uh" if wrong and (u + k) % wrong == 0 else word
                lines.append(f"utt{u} 1 {k / 2:.2f} 0.40 {said} {0.3 if said == 'uh' else 0.9}")
        yield write(folder / f"{name}.ctm", "\n".join(lines) + "\n")
    stm = "".join(f"utt{u} 1 spk 0.00 9.00 {t}\n" for u, t in enumerate(WORDS * 2))
    write(folder / "truth.stm", stm)


def embeddings(folder):
    rng = np.random.default_rng(0)
    gold, shared = rng.uniform(0, 1, 40), rng.normal(size=(40, 8))
    for name, noise in (("a", 0.3), ("b", 1.0)):
        near = gold[:, None] * shared + (1 - gold[:, None]) * rng.normal(size=(40, 8))
        pair = [v + noise * rng.normal(size=v.shape) for v in (shared, near)]
        np.savez(folder / f"{name}.npz", emb1=pair[0], emb2=pair[1], gold=gold)
        yield folder / f"{name}.npz"


def masks(folder):
    rng = np.random.default_rng(0)
    truth = np.zeros((6, 16, 16), np.uint8)
    truth[:, 4:10, 5:12] = 1
    for name, flips in (("a", 0.02), ("b", 0.1), ("c", 0.2)):
        np.savez(folder / f"{name}.npz", masks=np.where(rng.random(truth.shape) < flips, 1 - truth, truth))
        yield folder / f"{name}.npz"
    np.savez(folder / "truth.npz", masks=truth)


FILES = {
    "ranking": (ranking, "truth", "fused.run", "ndcg@10"),
    "labels": (labels, "truth", "fused.csv", "accuracy"),
    "boxes": (boxes, "truth", "fused.json", "ap50"),
    "spans": (spans, "truth", "fused.jsonl", "f1"),
    "texts": (texts, "truth", "fused.txt", "chrf"),
    "speech": (speech, "truth.stm", "fused.ctm", "wer"),
    "embeddings": (embeddings, None, "fused.npz", "spearman"),
    "masks": (masks, "truth.npz", "fused.npz", "dice"),
}


@pytest.fixture
def case(tmp_path):
    """kind -> (the word on the command line, files, options of the truth, the answer's file, the metric)."""

    def made(name):
        make, truth, out, metric = FILES[name]
        folder = tmp_path / "mit Leerzeichen и кириллица"
        folder.mkdir()
        files = list(make(folder))
        options = () if truth is None else ("--truth", folder / truth)
        return "texts" if name == "speech" else name, files, options, folder / out, metric

    return made


@pytest.mark.parametrize("name", FILES)
def test_auto_with_the_truth_shows_the_table_and_does_no_harm(command, case, name):
    kind, files, truth, out, metric = case(name)
    done = command("fuse", kind, *files, *truth, "-o", out, "--json")
    assert done.status == 0, done.err
    record = done.json
    assert record["metric"] == metric
    tried = {c["name"]: c for c in record["choice"]["candidates"]}
    assert tried["best_single"]["score"] is not None
    assert record["method"] in tried
    assert tried[record["method"]]["outcome"] == "chosen"
    scored = command("score", kind, out, *files, *truth, "--metric", metric, "--json").json
    values = [f["scores"][metric]["value"] for f in scored["files"]]
    better = min if metric == "wer" else max
    assert better(values[0], better(values[1:]) + (1e-6 if metric == "wer" else -1e-6)) == values[0]


@pytest.mark.parametrize("name", FILES)
def test_without_truth_the_trusted_operator_answers(command, case, name):
    kind, files, _, out, _ = case(name)
    if name == "embeddings":
        pytest.skip("these files hold their truth")
    done = command("fuse", kind, *files, "-o", out, "--json")
    assert done.status == 0, done.err
    assert done.json["method"] not in ("auto", "best_single")
    again = command("fuse", kind, *files, "-o", out, "--force", "--json", "-m", done.json["method"])
    assert again.json["rows"] == done.json["rows"]


def test_weights_and_parameters(command, case):
    kind, files, _, out, _ = case("ranking")
    words = ("-m", "rrf", "--set", "k=10", "--weights", "bm25=2,dense=1,third run=0")
    done = command("fuse", kind, *files, "-o", out, *words, "--json")
    assert done.json["weights"] == {"bm25": 2.0, "dense": 1.0, "third run": 0.0}
    best = out.read_text().splitlines()[0].split()
    assert float(best[4]) <= 3 / 11 + 1e-9
    wrong = command("fuse", kind, *files, "-o", out, "--force", "-m", "rrf", "--set", "kk=10")
    assert wrong.status == 2
    assert "no option 'kk'" in wrong.err
    assert (
        "--set must be such as k=60" in command("fuse", kind, *files, "-o", out, "--force", "--set", "k").err
    )


def test_scores_of_a_kind(command, case):
    kind, files, truth, _, _ = case("ranking")
    done = command("score", kind, *files, *truth)
    assert "ndcg@10" in done.out
    assert "mrr" in done.out
    wrong = command("score", kind, *files, *truth, "--metric", "ndgc@10")
    assert wrong.status == 2
    assert "did you mean 'ndcg@10'" in wrong.err
    assert command("score", kind, *files).status == 2


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("ranking", "q1 Q0 d1 1 not-a-number x\n", "line 1"),
        ("labels", "task,worker\nt,w\n", "label"),
        ("boxes", '[{"image_id": 1}]', "a.bad"),
        ("spans", '{"id": 1, "text": "x", "spans": [{"start": 0, "end": 9, "label": "a"}]}\n', "line 1"),
        ("speech", "utt 1 0.0 -1 word 0.5\n", "line 1"),
    ],
)
def test_bad_files_are_told_with_their_line(command, tmp_path, name, line, message):
    bad = write(tmp_path / ("a.bad.ctm" if name == "speech" else "a.bad"), line)
    kind = "texts" if name == "speech" else name
    done = command("fuse", kind, bad, "-o", tmp_path / "out.ctm")
    assert done.status in (2, 3), done.out + done.err
    assert "a.bad" in done.err
    assert message in done.err
    assert not (tmp_path / "out.ctm").exists()
