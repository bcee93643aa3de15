"""ROVER on a frame of task, worker and text."""

import pandas as pd

from conjoin.fusion.texts import rover
from conjoin.outputs import Texts


class ROVER:
    """One task at a time: its texts are aligned in the order of the frame."""

    def __init__(self, tokenizer, detokenizer, silent=True):
        self.tokenizer, self.detokenizer = tokenizer, detokenizer

    def fit_predict(self, data):
        found = {}
        for task, frame in data.groupby("task"):
            texts = {f"{k:06d}": " ".join(self.tokenizer(t)) for k, t in enumerate(frame["text"])}
            outputs = {name: Texts([text]) for name, text in texts.items()}
            fused = rover(outputs, case_sensitive=True, order=list(outputs)).texts[0]
            found[task] = self.detokenizer(fused.split(" ") if fused else [])
        return pd.Series(found.values(), index=pd.Index(found, name="task"), name="agg_text")
