"""ROVER beside crowd-kit, which takes texts alone: 200 utterances of 20 words by 5 systems, with a seed.

crowd-kit aligns at unit costs and breaks ties another way, so that answers are compared by their word error
rate: the difference of the two rates, and the share of texts that are equal.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
from crowdkit.aggregation import ROVER

from conjoin.fusion.texts import rover
from conjoin.outputs import Texts
from conjoin.scores.words import SCORES

PEER = "crowd-kit 1.4.2"


def world(rows: int, systems: int, length: int, seed: int = 0) -> tuple[dict[str, Texts], Texts]:
    """Systems that say a sentence with a third of its words wrong, left out or doubled, and the sentences."""
    rng = np.random.default_rng(seed)
    words = np.array([f"w{k}" for k in range(2000)])
    true = [words[rng.integers(0, 2000, length)] for _ in range(rows)]
    outputs = {}
    for m in range(systems):
        texts = []
        for row in true:
            said = []
            for word, luck in zip(row, rng.random(length), strict=True):
                if luck > 0.33:
                    said.append(word)
                elif luck > 0.22:
                    said.append(words[rng.integers(0, 2000)])
                elif luck > 0.11:
                    said += [word, words[rng.integers(0, 2000)]]
            texts.append(" ".join(said))
        outputs[f"system {m}"] = Texts(texts)
    return outputs, Texts([" ".join(row) for row in true])


def run() -> list[dict[str, Any]]:
    """The line of the table."""
    outputs, truth = world(200, 5, 20)
    frame = pd.DataFrame(
        [(i, name, text) for i in range(200) for name, o in outputs.items() for text in [o.texts[i]]],
        columns=["task", "worker", "text"],
    )
    mine, theirs = [], []
    for _ in range(3):
        begin = time.process_time()
        fused = rover(outputs)
        mine.append(time.process_time() - begin)
        begin = time.process_time()
        peer = ROVER(tokenizer=str.split, detokenizer=" ".join).fit_predict(frame)
        theirs.append(time.process_time() - begin)
    answers = Texts(peer.sort_index().tolist())
    rates = [SCORES["wer"].value(o, truth) for o in (fused, answers)]
    equal = float(np.mean(fused.texts == answers.texts))
    return [
        {
            "operator": "rover",
            "workload": "200 utterances x 5 systems x 20 words",
            "peer": PEER,
            "conjoin_cpu": min(mine),
            "peer_cpu": min(theirs),
            "ratio": min(theirs) / min(mine),
            "same": f"WER {rates[0]:.4f}, peer {rates[1]:.4f}; {equal:.0%} of texts equal",
            "asked": "",
        }
    ]
