"""Systems that say a sentence with more or fewer mistakes, with scores or without any."""

from __future__ import annotations

import numpy as np

from conjoin.outputs import Texts

NAMES = ("llama #2", "Ωμέγα", "two words", "mt#1", "mt#2")
ERRORS = (0.1, 0.2, 0.3, 0.25, 0.4)
SAID = "the a cat sat on mat dog ran was in house seen by every 12 3.5 não é שלום नमस्ते cafe\u0301 , ."
WORDS = SAID.split()


def world(rng, rows=12):
    """Outputs of five members, two of them samples of one system; four skip some rows; and the true texts."""
    truth = [list(rng.choice(WORDS, int(rng.integers(3, 12)))) for _ in range(rows)]
    outputs = {}
    for m, name in enumerate(NAMES):
        texts, wrong = [], []
        for words in truth:
            hit = rng.random(len(words)) < ERRORS[m]
            said = [str(rng.choice(WORDS)) if h else w for w, h in zip(words, hit, strict=True)]
            if rng.random() < ERRORS[m] / 2:
                said = said[:-1]
            texts.append(" ".join(said))
            wrong.append(hit.mean())
        scores = np.clip(0.9 - np.array(wrong) + 0.1 * rng.normal(size=rows), 0.05, 0.99)
        if name == "two words":
            scores[:] = np.nan
        spoken = np.ones(rows, bool) if m == 0 else rng.random(rows) > 0.15
        texts = [t if s else "" for t, s in zip(texts, spoken, strict=True)]
        outputs[name] = Texts(texts, np.where(spoken, scores, np.nan), spoken)
    return outputs, Texts([" ".join(words) for words in truth])


_SHARE = {"one member is that member": "the text is that member's, the score is the share of votes"}
EXCEPT: dict[str, dict[str, str]] = {"answer_vote": _SHARE, "fit answer_vote": _SHARE}
