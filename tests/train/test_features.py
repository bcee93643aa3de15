"""Fitting the encoder: what columns become, and that target statistics stay honest."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from conjoin.contracts import Column
from conjoin.errors import ColumnError, TruthError
from conjoin.graph.builder import Graph
from conjoin.graph.encoder import Encoder
from conjoin.graph.session import Session
from conjoin.outputs import Labels, Probabilities, Values
from conjoin.tables import columns_of, conform, read_table
from conjoin.train.features import encode, fit_dense_view, fit_encoder

DATA = Path(__file__).parents[3] / "shared" / "data" / "tables"
RNG = np.random.default_rng(0)
N = 600


def obj(values):
    values = list(values)
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def table(n=N, seed=0):
    rng = np.random.default_rng(seed)
    town = obj(f"town {k}" for k in rng.integers(0, 60, n))
    town[:5] = None
    batch = {
        "größe cm": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
        "count": rng.integers(0, 9, n),
        "yes 🐟": rng.random(n) < 0.3,
        "job": obj(rng.choice(["cook", "clerk", "smith"], n)),
        "month": obj(f"m{k}" for k in rng.integers(0, 12, n)),
        "town": town,
        "day": np.datetime64("2020-01-01T00:00") + rng.integers(0, 10**6, n).astype("timedelta64[m]"),
        "note": obj(" ".join(rng.choice(["Red", "green,", "blue", "big", "Small"], 4)) for _ in range(n)),
    }
    chance = 1 / (1 + np.exp(-(batch["count"] - 4) * 0.5 - (batch["job"] == "cook")))
    return batch, obj(np.where(rng.random(n) < chance, "yes", "no"))


TYPES = ["number", "number", "boolean", "category", "category", "category", "date", "text"]
BATCH, ANSWERS = table()
COLUMNS = tuple(Column(n, t) for n, t in zip(BATCH, TYPES, strict=True))
FOLDS = np.arange(N) % 4
TRUTH = Labels.of(ANSWERS)


def test_the_types_are_those_of_the_table():
    assert columns_of(BATCH)[:7] == COLUMNS[:7]


def test_every_kind_of_column():
    fitted = fit_encoder(BATCH, COLUMNS, TRUTH, folds=FOLDS)
    names = fitted.encoder.names
    assert names[:9] == (
        "größe cm", "count", "yes 🐟", "job", "month", "month:yes", "town:yes", "town:frequency", "day.year"
    )  # fmt: skip
    assert fitted.X.shape == (N, len(names))
    assert fitted.X.dtype == np.float32
    assert fitted.notes == []
    assert fitted.encoder.codes == {3: 3, 4: 12}
    again = encode(fitted.encoder, BATCH)
    differ = {n for n, a, b in zip(names, fitted.X.T, again.T, strict=True) if not np.array_equal(a, b, True)}
    assert differ == {"month:yes", "town:yes"}  # the cross-fitted ones
    by_job = {j: again[ANSWERS == "yes", 3][BATCH["job"][ANSWERS == "yes"] == j] for j in ("cook", "clerk")}
    assert by_job["cook"].min() == by_job["cook"].max() == 2  # codes are in the order of the target


def test_same_seed_same_bytes():
    first = fit_encoder(BATCH, COLUMNS, TRUTH, seed=3, threads=1)
    again = fit_encoder(BATCH, COLUMNS, TRUTH, seed=3, threads=2)
    assert first.X.tobytes() == again.X.tobytes()
    (a, m), (b, k) = first.encoder.pack(), again.encoder.pack()
    assert m == k
    assert all(a[n].tobytes() == b[n].tobytes() for n in a)
    back = Encoder.unpack(a, m, {})
    assert encode(back, BATCH).tobytes() == encode(first.encoder, BATCH).tobytes()


def statistic(fitted, name):
    return fitted.X[:, fitted.encoder.names.index(name)]


def test_a_row_never_sees_the_truth_of_its_own_fold():
    turned = np.where((FOLDS == 2) & (RNG.random(N) < 0.5), 1 - TRUTH.codes, TRUTH.codes)
    before = fit_encoder(BATCH, COLUMNS, TRUTH, folds=FOLDS)
    after = fit_encoder(BATCH, COLUMNS, Labels(turned, TRUTH.classes), folds=FOLDS)
    for name in ("month:yes", "town:yes"):
        a, b = statistic(before, name), statistic(after, name)
        np.testing.assert_array_equal(a[FOLDS == 2], b[FOLDS == 2])
        assert (a[FOLDS != 2] != b[FOLDS != 2]).any()


def test_statistics_are_smoothed_means_of_the_other_folds():
    fitted = fit_encoder(BATCH, COLUMNS, TRUTH, folds=FOLDS)
    month, y = BATCH["month"], TRUTH.codes
    for row in (0, 1, 2, 3, 77):
        others = FOLDS[row] != FOLDS
        same = others & (month == month[row])
        p = 1 / (1 + np.exp(-statistic(fitted, "month:yes")[row]))
        low, high = sorted([y[others].mean(), y[same].mean()])
        assert low - 1e-6 <= p <= high + 1e-6


def test_noise_of_many_levels_tells_nothing_about_training_rows():
    rng = np.random.default_rng(1)
    batch = {"id": obj(f"i{k}" for k in rng.integers(0, 400, 2000)), "x": rng.normal(size=2000)}
    y = rng.random(2000) < 0.5
    fitted = fit_encoder(
        batch, columns_of(batch), Labels(y.astype(int), ["0", "1"]), folds=np.arange(2000) % 5
    )
    own = statistic(fitted, "id:1")
    naive = encode(fitted.encoder, batch)[:, fitted.encoder.names.index("id:1")]
    assert np.corrcoef(naive, y)[0, 1] > 0.2
    assert np.corrcoef(own, y)[0, 1] < 0.05


def test_unseen_and_missing_categories():
    fitted = fit_encoder(BATCH, COLUMNS, TRUTH, folds=FOLDS)
    one = {n: v[:1] for n, v in BATCH.items()}
    names = list(fitted.encoder.names)
    for new in ("never seen", None, "", 5):
        found = encode(fitted.encoder, one | {"town": obj([new]), "month": obj([new]), "job": obj([new])})[0]
        assert found[names.index("job")] in (0, 1, 2)
        assert found[names.index("month")] == 11
        assert np.isfinite(found[names.index("town:yes")])
    gone = encode(fitted.encoder, one | {"town": obj([None])})[0]
    unseen = encode(fitted.encoder, one | {"town": obj(["never seen"])})[0]
    assert gone[names.index("town:frequency")] > unseen[names.index("town:frequency")]


def test_columns_that_tell_nothing_are_left_out():
    batch = {
        "x": np.arange(50.0),
        "same": np.ones(50),
        "gone": np.full(50, np.nan),
        "word": obj(["a"] * 50),
        "nothing": obj([None] * 50),
        "id": obj(f"id{k}" for k in range(50)),
        "day": np.full(50, np.datetime64("2020-01-01")),
        "no day": np.full(50, np.datetime64("NaT"), dtype="datetime64[s]"),
        "text": obj(f"{k}a {k}b {k}c" for k in range(50)),
        "holes": np.where(np.arange(50) < 9, np.nan, 1.0),
    }
    columns = columns_of(batch)
    assert columns[8].type == "text"
    fitted = fit_encoder(batch, columns, Values(np.arange(50.0)))
    assert fitted.encoder.names == ("x", "holes")
    assert [c.name for c in fitted.encoder.columns] == ["x", "holes"]
    said = "\n".join(fitted.notes)
    for name in ("same", "gone", "word", "nothing", "id", "day", "no day", "text"):
        assert f"column {name!r} is left out" in said
    with pytest.raises(ColumnError, match="no column tells rows apart: same, gone"):
        fit_encoder(batch, columns[1:3], Values(np.arange(50.0)))


def test_a_column_may_be_called_anything():
    batch = {n: np.arange(9.0) for n in ("features", "#", "x", "a b", "a\nb")}
    fitted = fit_encoder(batch, columns_of(batch), Values(np.arange(9.0)))
    np.testing.assert_array_equal(fitted.X, np.stack([np.arange(9.0)] * 5, axis=1))


def test_float32_keeps_what_double_tells_apart():
    stamp = 1.6e9 + np.arange(200) * 7
    infinite = np.r_[np.inf, -np.inf, np.arange(198.0)]
    batch = {"stamp": stamp, "plain": np.arange(200) / 7, "infinite": infinite, "vast": stamp * 1e290}
    fitted = fit_encoder(batch, columns_of(batch), Values(stamp))
    assert [len(np.unique(fitted.X[:, k])) for k in (0, 1, 3)] == [200, 200, 200]
    np.testing.assert_array_equal(fitted.X[:, 1], batch["plain"].astype(np.float32))
    assert np.isfinite(fitted.X).all()
    assert any("infinit" in n for n in fitted.notes)


def test_words_count():
    rng = np.random.default_rng(0)
    good = rng.random(400) < 0.5
    text = obj(f"this film was {'Wonderful!' if g else 'awful'} {rng.integers(99)}" for g in good)
    fitted = fit_encoder({"t": text}, (Column("t", "text"),), Labels(good.astype(int), ["n", "y"]))
    vary = [x for x in fitted.X.T if x.std() > 0]
    best = max(abs(np.corrcoef(x, good)[0, 1]) for x in vary)
    assert best > 0.95
    spelled = encode(fitted.encoder, {"t": ["a Wonderful! film", "a wonderful film", "A  wonderful film"]})
    np.testing.assert_array_equal(spelled[0], spelled[1])
    np.testing.assert_array_equal(spelled[1, :-1], spelled[2, :-1])


@pytest.mark.parametrize("classes", [3, 10, 26])
def test_several_classes(classes):
    rng = np.random.default_rng(2)
    y = rng.integers(0, classes, 3000)
    batch = {
        "many": obj(f"l{k}" for k in (y * 20 + rng.integers(0, 20, 3000))),
        "few": obj(f"f{k}" for k in np.minimum(y, 3)),
        "x": rng.normal(size=3000),
    }
    truth = Labels(y, [f"c{k:02}" for k in range(classes)])
    fitted = fit_encoder(batch, columns_of(batch), truth, folds=np.arange(3000) % 3)
    assert sum(n.startswith("many:c") for n in fitted.encoder.names) == min(classes, 10)
    own = statistic(fitted, f"many:{truth.classes[0]}" if classes <= 10 else fitted.encoder.names[-3])
    assert np.isfinite(own).all()
    assert own.max() <= 0


def test_numbers_as_target():
    rng = np.random.default_rng(3)
    level = rng.integers(0, 50, 1500)
    y = level * 2.0 + rng.normal(size=1500)
    y[:3] = [1e9, np.nan, np.inf]
    batch = {"c": obj(f"l{k}" for k in level)}
    fitted = fit_encoder(batch, columns_of(batch), Values(y), folds=np.r_[[-1] * 3, np.arange(1497) % 5])
    assert np.corrcoef(statistic(fitted, "c:target")[3:], y[3:])[0, 1] > 0.99
    wide = fit_encoder(batch, columns_of(batch), Values(np.stack([level, -level], axis=1)))
    assert wide.encoder.names == ("c:target0", "c:target1", "c:frequency")
    with pytest.raises(TruthError, match="missing"):
        fit_encoder(batch, columns_of(batch), Values(np.full(1500, np.nan)))
    with pytest.raises(TruthError, match="probabilities"):
        fit_encoder(batch, columns_of(batch), Probabilities(np.ones((1500, 1)), ["a"]))


def test_rows_without_truth_count_for_nothing():
    codes = TRUTH.codes.copy()
    codes[:50] = -1
    fitted = fit_encoder(BATCH, COLUMNS, Labels(codes, TRUTH.classes), folds=FOLDS)
    rest = {n: v[50:] for n, v in BATCH.items()}
    fewer = fit_encoder(rest, COLUMNS, Labels(codes[50:], TRUTH.classes), folds=FOLDS[50:])
    np.testing.assert_allclose(statistic(fitted, "month:yes")[50:], statistic(fewer, "month:yes"), rtol=1e-5)


def dense(encoder, view, batch):
    graph = Graph()
    graph.output("out!", view.emit(graph, encoder.emit(graph)), 1)
    feeds = conform(batch, encoder.columns)
    return Session(graph.build().SerializeToString(), threads=1).run(feeds)[0]


def test_the_dense_view_is_finite_and_of_one_size():
    fitted = fit_encoder(BATCH, COLUMNS, TRUTH, folds=FOLDS)
    view = fit_dense_view(fitted.encoder, fitted.X)
    found = dense(fitted.encoder, view, BATCH)
    assert found.shape == (N, view.width)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 3
    assert len(view.flags) == 1
    assert len(view.code) == 3 + 12
    np.testing.assert_array_equal(found[:, -15:-12].sum(axis=1), 1)
    hostile = {
        "größe cm": [np.inf], "count": [-np.inf], "yes 🐟": [None], "job": ["?"], "month": [None],
        "town": [7], "day": [None], "note": [""],
    }  # fmt: skip
    assert np.isfinite(dense(fitted.encoder, view, hostile)).all()


def test_one_row_is_cheap():
    fitted = fit_encoder(BATCH, COLUMNS, TRUTH, folds=FOLDS)
    graph = Graph()
    graph.output("out!", fitted.encoder.emit(graph), 1)
    session = Session(graph.build().SerializeToString(), threads=1)
    feeds = conform({n: v[:1] for n, v in BATCH.items()}, fitted.encoder.columns)
    start = time.process_time()
    for _ in range(500):
        session.run(feeds)
    assert (time.process_time() - start) / 500 < 500e-6  # about 60 on a free machine


@pytest.mark.skipif(not DATA.is_dir(), reason="the development tables are not here")
def test_a_real_table_is_fast():
    batch = read_table(DATA / "adult.csv")
    truth = Labels.of(batch.pop("target"))
    start = time.process_time()
    fitted = fit_encoder(batch, columns_of(batch), truth, threads=1)
    spent = time.process_time() - start
    assert fitted.X.shape == (48842, 15)
    assert spent < 3  # 0.3 on a free machine
    arrays, _ = fitted.encoder.pack()
    assert sum(a.nbytes for a in arrays.values()) < 10_000
