"""Minimum Bayes risk and scores of sentences beside what mbrs 0.1.8 calls for them: fastchrf and sacrebleu.

mbrs itself adds its own work (tensors, and a pool of processes for BLEU and TER), which is not counted here.
Sentences are made with a seed: words of a Zipfian vocabulary, hypotheses with one to four words changed,
dropped or swapped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import fastchrf
import numpy as np
from sacrebleu.metrics import BLEU, CHRF, TER

from conjoin.fusion.texts import expected_utilities, minimum_bayes_risk
from conjoin.outputs import Texts
from conjoin.scores import score_of

FASTCHRF, SACREBLEU = "fastchrf 0.2.1 (of mbrs 0.1.8)", "sacrebleu 2.6.0 (of mbrs 0.1.8)"
LETTERS = "eaoisrntdlcmupvgbfhqzjxáéãçê"


def sentences(rows: int, hypotheses: int, seed: int = 0) -> list[list[str]]:
    """For each row its hypotheses, about 120 characters long."""
    rng = np.random.default_rng(seed)
    share = 1.0 / np.arange(1, len(LETTERS) + 1) ** 0.7
    share /= share.sum()
    words = ["".join(rng.choice(list(LETTERS), rng.integers(1, 10), p=share)) for _ in range(4000)]
    often = 1.0 / np.arange(1, 4001)
    often /= often.sum()
    out = []
    for _ in range(rows):
        base = [str(w) for w in rng.choice(words, 20, p=often)] + ["."]
        row = []
        for _ in range(hypotheses):
            said = list(base)
            for _ in range(rng.integers(1, 5)):
                k, j = rng.integers(0, len(said), 2)
                luck = rng.random()
                if luck < 0.3:
                    del said[k]
                elif luck < 0.7:
                    said[k] = str(rng.choice(words))
                else:
                    said[k], said[j] = said[j], said[k]
            row.append(" ".join(said))
        out.append(row)
    return out


def outputs_of(rows: list[list[str]]) -> dict[str, Texts]:
    return {f"h{k:03d}": Texts([row[k] for row in rows]) for k in range(len(rows[0]))}


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.process_time()
    found = run()
    return time.process_time() - begin, found


def interleaved(
    mine: Callable[[], Any], peer: Callable[[], Any], repeats: int = 3
) -> tuple[float, float, Any]:
    """Least CPU seconds of both, and the peer's answer."""
    mine()
    times = []
    found = None
    for _ in range(repeats):
        first = timed(mine)[0]
        second, found = timed(peer)
        times.append((first, second))
    return min(t[0] for t in times), min(t[1] for t in times), found


def row(
    operator: str, workload: str, peer: str, times: tuple[float, float], asked: str, same: str
) -> dict[str, Any]:
    return {
        "operator": operator,
        "workload": workload,
        "peer": peer,
        "conjoin_cpu": times[0],
        "peer_cpu": times[1],
        "ratio": times[1] / times[0],
        "same": same,
        "asked": asked,
    }


def risk(
    utility: str,
    rows: list[list[str]],
    peer: str,
    values: Callable[[], Any],
    *,
    aggregate: bool = False,
    asked: str = "",
) -> dict[str, Any]:
    """One line: the choice for all rows beside the peer's expected utilities (n, H)."""
    outputs = outputs_of(rows)
    mine, theirs, found = interleaved(
        lambda: minimum_bayes_risk(outputs, utility=utility, aggregate=aggregate), values
    )
    fused = minimum_bayes_risk(outputs, utility=utility, aggregate=aggregate)
    table = np.array([*expected_utilities(outputs, utility=utility, aggregate=aggregate).values()]).T
    found = np.asarray(found, np.float64)
    picked = [r[k] for r, k in zip(rows, found.argmax(axis=1), strict=True)]
    same = sum(a == b for a, b in zip(fused.texts, picked, strict=True))
    told = f"{same} of {len(rows)} choices equal, utilities within {np.abs(table - found).max():.0e}"
    how = "aggregated" if aggregate else "exact"
    load = f"{len(rows)} sentences x {len(rows[0])}"
    return row(f"minimum_bayes_risk, {utility}, {how}", load, peer, (mine, theirs), asked, told)


def each_pair(metric: Any, rows: list[list[str]], sign: float = 1.0) -> list[list[float]]:
    """Mean sentence score of each hypothesis against all."""
    return [
        [sign * float(np.mean([metric.sentence_score(h, [r]).score for r in texts])) for h in texts]
        for texts in rows
    ]


def corpus(name: str, metric: Any, rows: list[list[str]]) -> dict[str, Any]:
    """One line: a score of a corpus."""
    answers, truths = ([texts[k] for texts in rows] for k in (0, 1))
    score = score_of(name, "texts")
    a, b = Texts(answers), Texts(truths)
    mine, theirs, found = interleaved(
        lambda: score.value(a, b), lambda: metric.corpus_score(answers, [truths]).score
    )
    told = f"difference {abs(score.value(a, b) - found):.0e}"
    return row(f"score {name}", f"{len(rows)} sentences", "sacrebleu 2.6.0", (mine, theirs), "", told)


def run() -> list[dict[str, Any]]:
    """The lines of the table."""
    logging.disable(logging.WARNING)
    rows = sentences(200, 32)
    options = {"char_order": 6, "beta": 2.0, "remove_whitespace": True, "eps_smoothing": False}
    out = [
        risk(
            "chrf",
            rows,
            FASTCHRF,
            lambda: np.mean(fastchrf.pairwise_chrf(rows, rows, **options), axis=2),
            asked="25 times",
        ),
        risk(
            "chrf",
            rows,
            FASTCHRF,
            lambda: fastchrf.aggregate_chrf(rows, rows, **options),
            aggregate=True,
        ),
        risk(
            "bleu",
            rows,
            SACREBLEU,
            lambda: each_pair(BLEU(effective_order=True), rows),
            asked="30 times",
        ),
        risk("ter", rows[:4], SACREBLEU, lambda: each_pair(TER(), rows[:4], -1.0)),
    ]
    many = sentences(3000, 2, seed=1)
    return [*out, *(corpus(n, m, many) for n, m in (("chrf", CHRF()), ("bleu", BLEU()), ("ter", TER())))]
