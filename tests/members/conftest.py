from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from conjoin.tables import batch_of


@pytest.fixture(scope="session")
def people():
    """A small table with numbers, a category, gaps, and a class and a number to learn."""
    rng = np.random.default_rng(0)
    n = 200
    frame = pd.DataFrame(
        {
            "age": rng.normal(40, 10, n).astype(np.float32).astype(np.float64),
            "income": rng.normal(size=n).astype(np.float32).astype(np.float64),
            "city": rng.choice(["rome", "oslo", "bern"], n),
        }
    )
    frame.loc[5, "age"] = np.nan
    frame.loc[7, "city"] = None
    score = frame["age"].fillna(0) + 10 * (frame["city"] == "oslo")
    y = np.where(score > 42, "yes", "no")
    return SimpleNamespace(
        frame=frame,
        numbers=frame[["age", "income"]].fillna(0.0),
        batch=batch_of(frame),
        filled=batch_of(frame[["age", "income"]].fillna(0.0)),
        y=y,
        value=score.to_numpy() / 7 + frame["income"].to_numpy(),
    )
