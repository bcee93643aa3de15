"""Rows that are made of a table's rows."""

import numpy as np
import pytest

from conjoin.errors import InputError
from conjoin.transfer.distil.augment import augmented, munge, neighbours, spunge


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    n = 60
    date = np.datetime64("2024-01-01") + rng.integers(0, 300, n).astype("timedelta64[D]")
    date[3] = np.datetime64("NaT")
    number = rng.normal(size=n)
    number[:5] = np.nan
    return {
        "größe": number,
        "count": rng.integers(0, 9, n),
        "job": np.array([None, "cook", "judge"], dtype=object)[rng.integers(0, 3, n)],
        "day": date,
        "open": rng.random(n) < 0.5,
        "image": rng.random((n, 2, 3)),
    }


def made_by(how, batch, size=300, seed=0):
    features = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)
    return augmented(batch, lambda: features, how, size, seed=seed)


@pytest.mark.parametrize("how", ["munge", "spunge"])
def test_made_rows_look_like_the_table(batch, how):
    made, origin = made_by(how, batch)
    assert list(made) == list(batch)
    assert len(origin) == 300
    for name, column in batch.items():
        assert made[name].dtype == column.dtype
        assert made[name].shape == (300, *column.shape[1:])
    assert set(made["job"].tolist()) <= {None, "cook", "judge"}
    assert set(made["count"].tolist()) <= set(range(9))
    assert np.nanmin(made["größe"]) >= np.nanmin(batch["größe"])
    assert np.nanmax(made["day"]) <= np.nanmax(batch["day"])
    assert np.isnan(made["größe"]).any()
    assert (np.stack([made["count"]]) != batch["count"][origin]).any()


@pytest.mark.parametrize("how", ["munge", "spunge"])
def test_the_seed_decides(batch, how):
    a, b, other = (made_by(how, batch, seed=s)[0] for s in (0, 0, 1))
    assert all(np.array_equal(a[k], b[k], equal_nan=a[k].dtype.kind in "fM") for k in a)
    assert not np.array_equal(a["image"], other["image"])


def test_munge_takes_cells_of_neighbours_only():
    batch = {"job": np.array(["a", "b", "c", "d"], dtype=object)}
    made, origin = munge(batch, np.array([[1], [0], [3], [2]]), 400, seed=0)
    pairs = {(batch["job"][o], v) for o, v in zip(origin, made["job"], strict=True)}
    assert pairs == {(a, b) for pair in ("ab", "cd") for a in pair for b in pair}


def test_spunge_swaps_few_columns():
    batch = {f"x{j}": np.arange(50) * (j + 1) for j in range(20)}
    made, origin = spunge(batch, 500, seed=0, noise=0.0)
    changed = sum((made[k] != batch[k][origin]).astype(int) for k in batch)
    assert changed.max() <= 2


def test_neighbours_are_other_rows():
    x = np.array([[0.0], [0.0], [0.0], [5.0], [5.1]], dtype=np.float32)
    near = neighbours(x, seed=0, k=1)
    assert near.shape == (5, 1)
    assert (near[:, 0] != np.arange(5)).all()
    assert near[3, 0] == 4
    assert neighbours(x[:1], seed=0).tolist() == [[0]]


def test_nothing_is_made_of_nothing(batch):
    made, origin = made_by("none", batch)
    assert len(origin) == 0 == len(made["count"])
    made, origin = augmented({"x": np.zeros(1)}, lambda: np.zeros((1, 1)), "munge", 5, seed=0)
    assert len(origin) == 0


def test_an_unknown_way():
    with pytest.raises(InputError, match="did you mean 'munge'"):
        augmented({"x": np.zeros(3)}, lambda: np.zeros((3, 1)), "mung", 5, seed=0)
