"""Expected scores: conjoin's weighted sums over the references of one row."""

import numpy as np
import torch

from conjoin.fusion.texts.risk import weighted
from conjoin.scores.sentence import Group


def expectation(matrix, lprobs=None):
    count, references = matrix.shape
    if lprobs is not None and list(lprobs.shape) != [references]:
        raise ValueError(f"{references} references need as many log-probabilities, not {list(lprobs.shape)}")
    mass = np.full(references, 1 / references) if lprobs is None else lprobs.double().softmax(-1).numpy()
    wide = max(count, references)
    table = np.zeros((wide, wide))
    table[:count, :references] = matrix.numpy()
    group = Group([""] * wide, np.arange(wide), np.array([0, wide]))
    found = weighted(group, table.reshape(-1), np.concatenate([mass, np.zeros(wide - references)]))
    return torch.tensor(found[:count]).to(matrix)
