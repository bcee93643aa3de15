"""Plain fusers: what they compute, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from conjoin.errors import BundleError, NotExportableError, OutputsError
from conjoin.fusion import (
    FUSERS,
    Plain,
    linear_pool,
    log_pool,
    maximum,
    mean,
    median,
    minimum,
    plain,
    product,
    trimmed_mean,
    vote,
    weighted_sum,
)
from conjoin.outputs import Labels, Probabilities, Quantiles, Values

from .worlds import KINDS, numbers, single_precision, through_onnx, world

P = {"a": Probabilities([[0.8, 0.2]], "xy"), "b": Probabilities([[0.6, 0.4]], "xy")}
V = {"a": Values([1.0, 5.0]), "b": Values([2.0, 7.0]), "c": Values([9.0, 6.0])}


def test_linear_pool_is_the_weighted_mean() -> None:
    assert linear_pool(P, weights=[3, 1]).values[0].tolist() == pytest.approx([0.75, 0.25])
    assert linear_pool(P, weights={"b": 1, "a": 3}).values[0].tolist() == pytest.approx([0.75, 0.25])
    assert mean(V).values.tolist() == pytest.approx([4.0, 6.0])


def test_log_pool_is_the_normalised_geometric_mean() -> None:
    raw = np.sqrt([0.8 * 0.6, 0.2 * 0.4])
    assert log_pool(P).values[0] == pytest.approx(raw / raw.sum())
    both = np.array([0.8 * 0.6, 0.2 * 0.4])
    assert product(P).values[0] == pytest.approx(both / both.sum())


def test_a_certain_member_is_no_veto_and_all_certain_is_no_nan() -> None:
    sure = {"a": Probabilities([[1.0, 0.0]], "xy"), "b": Probabilities([[0.0, 1.0]], "xy")}
    assert log_pool(sure).values[0] == pytest.approx([0.5, 0.5])
    assert minimum(sure).values[0] == pytest.approx([0.5, 0.5])  # all zero: the mean stands in
    assert np.isfinite(product({**sure, "c": P["a"]}, weights=[500, 1, 1]).values).all()


def test_median_and_trimmed_mean_are_those_of_numpy_and_scipy() -> None:
    rng = np.random.default_rng(0)
    for members in (1, 2, 5, 11):
        x = rng.normal(size=(members, 40))
        outputs = {f"m{i:02d}": Values(v) for i, v in enumerate(x)}
        assert median(outputs).values == pytest.approx(np.median(x, axis=0))
        for trim in (0.0, 0.1, 0.25, 0.45):
            assert trimmed_mean(outputs, trim=trim).values == pytest.approx(stats.trim_mean(x, trim, axis=0))


def test_weighted_median_is_the_median_of_repeated_members() -> None:
    rng = np.random.default_rng(1)
    x, counts = rng.normal(size=(4, 30)), [3, 1, 2, 4]
    outputs = {f"m{i}": Values(v) for i, v in enumerate(x)}
    assert median(outputs, weights=counts).values == pytest.approx(np.median(np.repeat(x, counts, 0), axis=0))


def test_votes() -> None:
    labels = {n: Labels([c], "xy") for n, c in (("a", 0), ("b", 1), ("c", 1))}
    assert vote(labels).values[0] == pytest.approx([1 / 3, 2 / 3])
    assert vote(labels, weights={"a": 3, "b": 1, "c": 1}).values[0] == pytest.approx([0.6, 0.4])
    abstains = {**labels, "c": Labels([-1], "xy")}
    assert vote(abstains).values[0] == pytest.approx([0.5, 0.5])
    assert vote({n: o.take([0]) for n, o in P.items()}).labels().codes.tolist() == [0]


def test_extremes_and_sums() -> None:
    assert maximum(V).values.tolist() == [9.0, 7.0]
    assert minimum(V).values.tolist() == [1.0, 5.0]
    assert weighted_sum(V, weights=[1, -1, 2]).values.tolist() == [17.0, 10.0]
    assert weighted_sum(P, weights=[2, -1]).values[0].sum() == pytest.approx(1.0)


def test_quantiles_are_averaged_level_by_level() -> None:
    outputs = {
        "a": Quantiles([[0.0, 1.0, 2.0]], [0.1, 0.5, 0.9]),
        "b": Quantiles([[2.0, 3.0, 8.0]], [0.1, 0.5, 0.9]),
    }
    assert mean(outputs).values[0].tolist() == [1.0, 2.0, 5.0]
    assert mean(outputs).levels == (0.1, 0.5, 0.9)
    with pytest.raises(OutputsError, match="probabilities, not quantiles"):
        log_pool(outputs)


def test_values_keep_their_shape() -> None:
    outputs = {n: Values(np.tile(v.values[:, None], 3)) for n, v in V.items()}
    assert mean(outputs).values.shape == (2, 3)
    assert mean(V).values.shape == (2,)


def test_classes_are_aligned_by_name() -> None:
    outputs = {
        "a": Probabilities([[0.9, 0.1]], ["no", "yes"]),
        "b": Probabilities([[0.3, 0.7]], ["yes", "no"]),
    }
    fused = mean(outputs)
    assert fused.classes == ("no", "yes")
    assert fused.values[0] == pytest.approx([0.8, 0.2])
    more = mean({**outputs, "c": Probabilities([[1.0]], ["maybe"])})
    assert more.classes == ("no", "yes", "maybe")
    assert more.values[0] == pytest.approx([1.6 / 3, 0.4 / 3, 1 / 3])


@pytest.mark.parametrize("name", FUSERS)
def test_rows_that_some_or_all_skipped(name: str) -> None:
    a = Probabilities([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5]], "xy", [True, False, False])
    b = Probabilities([[0.7, 0.3], [0.2, 0.8], [0.5, 0.5]], "xy", [True, True, False])
    fused = FUSERS[name]({"a": a, "b": b}, weights={"a": 0.7, "b": 0.3})
    alone = FUSERS[name]({"b": b}, weights={"b": 0.3})
    assert fused.answered.tolist() == [True, True, False]
    assert np.isnan(fused.values[2]).all()
    if name != "product":  # its exponents keep their sum
        assert fused.values[1] == pytest.approx(alone.values[1])


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"a": 1.0, "x": 1.0}, "weights for x, who did not answer"),
        ({"a": 1.0}, "no weight for b"),
        ([1.0], "1 weights for 2 members"),
        ([0.0, 0.0], "all weights are 0"),
        ([1.0, float("nan")], "finite"),
        ([1.0, -1.0], "must not be negative"),
    ],
)
def test_wrong_weights_are_refused(weights, words: str) -> None:
    with pytest.raises(OutputsError, match=words):
        linear_pool(P, weights=weights)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({}, "no outputs"),
        ({"a": P["a"], "b": V["a"]}, "one kind"),
        ({"a": Values([1.0]), "b": Values([1.0, 2.0])}, "same rows"),
        ({"a": Values([[1.0, 2.0]]), "b": Values([1.0])}, "same number of targets"),
        ({"a": Quantiles([[1.0]], [0.1]), "b": Quantiles([[1.0]], [0.2])}, "same quantile levels"),
        ({"a": Probabilities([[3.0, -2.0]], "xy")}, "does not answer probabilities"),
        ({1: Values([1.0])}, "named by strings"),
        ({"a": [1.0]}, "answered with list"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(outputs, words: str) -> None:
    with pytest.raises(OutputsError, match=words):
        mean(outputs)


@pytest.mark.parametrize("name", FUSERS)
@pytest.mark.parametrize("kind", KINDS)
def test_records_agree_with_functions_and_with_their_graph(name: str, kind: str) -> None:
    if kind in ("values", "quantiles") and name in ("log_pool", "product", "vote"):
        pytest.skip("for probabilities only")
    outputs = single_precision(world(kind)[0])
    weights = dict(zip(outputs, [0.5, 0.0, 1.0, 1.25], strict=True))
    record = plain(FUSERS[name], weights=weights, kind=outputs["ash"].kind)
    fused = numbers(record(outputs))
    assert (fused == numbers(FUSERS[name](outputs, weights=weights))).all()
    assert through_onnx(record, outputs).reshape(fused.shape) == pytest.approx(fused, abs=1e-6, rel=1e-9)
    back = Plain.unpack(*record.pack(), {})
    assert (numbers(back(outputs)) == fused).all()
    assert record.needs == ("ash", "cedar", "elm")


def test_records_without_weights_take_any_members() -> None:
    outputs, _ = world("binary")
    assert numbers(plain(mean)(outputs)) == pytest.approx(numbers(mean(outputs)))
    with pytest.raises(NotExportableError, match="kind"):
        through_onnx(plain(mean), outputs)
    with pytest.raises(OutputsError, match="no weight for x"):
        Plain("mean", {"a": 1.0})({"x": V["a"]})
    assert np.isnan(Plain("mean", {"a": 0.0, "b": 1.0})({"a": V["a"]}).values).all()


def test_damaged_records_are_refused() -> None:
    arrays, meta = plain(mean, weights={"a": 1.0}).pack()
    for a, m in (
        ({}, meta),
        (arrays, {**meta, "name": "nonsense"}),
        (arrays, {**meta, "members": ["a", "b"]}),
        (arrays, {**meta, "members": "a"}),
        ({"weights": np.array([np.nan])}, meta),
        (arrays, {**meta, "trim": "wide"}),
    ):
        with pytest.raises(BundleError):
            Plain.unpack(a, m, {})
    with pytest.raises(OutputsError, match="not a plain fuser"):
        plain(print)
    with pytest.raises(OutputsError, match="did you mean 'median'"):
        Plain("medain", {})
