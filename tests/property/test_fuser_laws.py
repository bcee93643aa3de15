"""Laws of fusers over random outputs (hypothesis)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conjoin.fusion import FUSERS, LinearPool, LogPool, Plain
from conjoin.outputs import Probabilities, Quantiles, Values

ONLY_CLASSES = ("log_pool", "product", "vote")
FAST = settings(max_examples=25, deadline=None)


@st.composite
def worlds(draw: st.DrawFn, kind: str, members: int = 4) -> tuple[dict, dict[str, float]]:
    """Outputs of up to four members on up to six rows, some skipped, with weights."""
    n = draw(st.integers(0, 6))
    width = draw(st.integers(1, 4))
    seed = draw(st.integers(0, 2**31))
    hard = draw(st.booleans())
    rng = np.random.default_rng(seed)
    names = [f"m{i}" for i in rng.permutation(members)[: draw(st.integers(1, members))]]
    outputs = {}
    for name in names:
        answered = rng.random(n) > draw(st.sampled_from([0.0, 0.4]))
        if kind == "probabilities":
            p = rng.dirichlet(np.full(width, 0.05 if hard else 1.0), size=n).reshape(n, width)
            outputs[name] = Probabilities(p, "abcd"[:width], answered)
        elif kind == "values":
            outputs[name] = Values(rng.normal(size=n) * 10 ** rng.uniform(-3, 6), answered)
        else:
            rising = np.sort(rng.normal(size=(n, 3)), axis=1)
            outputs[name] = Quantiles(rising, (0.1, 0.5, 0.9), answered)
    weights = {m: float(w) for m, w in zip(names, 10 ** rng.uniform(-6, 6, len(names)), strict=True)}
    return outputs, weights


CASES = [
    (name, kind)
    for name in FUSERS
    for kind in ("probabilities", "values", "quantiles")
    if kind == "probabilities" or name not in ONLY_CLASSES
]


@pytest.mark.parametrize(("name", "kind"), CASES)
@given(data=st.data())
@FAST
def test_plain_fusers(name: str, kind: str, data: st.DataObject) -> None:
    outputs, weights = data.draw(worlds(kind))
    fuser = FUSERS[name]
    fused = fuser(outputs, weights=weights)
    some = np.logical_or.reduce([o.answered for o in outputs.values()])
    assert (fused.answered == some).all()
    assert np.isnan(fused.values[~some]).all()
    assert np.isfinite(fused.values[some]).all()
    check_order(fuser, outputs, weights, fused)
    check_absent(fuser, outputs, weights, fused)
    check_chunks(fuser, outputs, weights, fused)
    check_record(name, kind, outputs, weights, fused)
    if kind == "probabilities":
        assert fused.values[some].sum(axis=1) == pytest.approx(np.ones(int(some.sum())))
        assert (fused.values[some] >= 0).all()


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.array_equal(a, b, equal_nan=True))


def check_order(fuser, outputs, weights, fused) -> None:
    backwards = dict(reversed(outputs.items()))
    assert same(fuser(backwards, weights=weights).values, fused.values)
    listed = [weights[n] for n in backwards]
    assert same(fuser(backwards, weights=listed).values, fused.values)


def check_absent(fuser, outputs, weights, fused) -> None:
    extra = next(iter(outputs.values()))
    loud = {**outputs, "a": extra}
    assert same(fuser(loud, weights={**weights, "a": 0.0}).values, fused.values)


def check_chunks(fuser, outputs, weights, fused) -> None:
    n = len(fused)
    cuts = [slice(0, n // 2), slice(n // 2, n)]
    parts = [fuser({m: o.take(c) for m, o in outputs.items()}, weights=weights).values for c in cuts]
    assert same(np.concatenate(parts), fused.values)


def check_record(name, kind, outputs, weights, fused) -> None:
    record = Plain(name, weights, kind)
    again = Plain.unpack(*record.pack(), {})
    assert same(again(outputs).values, fused.values)


@pytest.mark.parametrize(("name", "kind"), [c for c in CASES if c[0] != "vote"])
@given(data=st.data())
@FAST
def test_one_member_is_itself(name: str, kind: str, data: st.DataObject) -> None:
    outputs, _ = data.draw(worlds(kind, members=1))
    (member,) = outputs.values()
    fused = FUSERS[name](outputs)
    assert np.allclose(fused.values, member.values, rtol=1e-12, atol=1e-12, equal_nan=True)
    assert (fused.answered == member.answered).all()


@given(data=st.data())
@FAST
def test_pools_lie_between_their_members(data: st.DataObject) -> None:
    outputs, weights = data.draw(worlds("values"))
    each = np.array([np.where(o.answered, o.values, np.nan) for o in outputs.values()])
    for name in ("linear_pool", "median", "trimmed_mean"):
        fused = FUSERS[name](outputs, weights=weights)
        for i in np.flatnonzero(fused.answered):
            column = each[:, i][~np.isnan(each[:, i])]
            slack = 1e-12 * max(np.abs(column).max(), 1e-300)
            assert column.min() - slack <= fused.values[i] <= column.max() + slack


@given(data=st.data(), zero=st.booleans())
@FAST
def test_pool_records(data: st.DataObject, zero: bool) -> None:
    outputs, weights = data.draw(worlds("probabilities"))
    classes = next(iter(outputs.values())).classes
    if zero:
        weights = {**weights, "a": 0.0}
    for record in (
        LinearPool(weights, "probabilities", classes),
        LogPool({n: w / max(weights.values()) for n, w in weights.items()}, classes, 1e-3),
    ):
        fused = record(outputs)
        some = fused.answered
        assert np.isfinite(fused.values[some]).all()
        assert fused.values[some].sum(axis=1) == pytest.approx(np.ones(int(some.sum())))
        assert same(type(record).unpack(*record.pack(), {})(outputs).values, fused.values)
        assert set(record.needs) <= set(outputs)
