"""Agreement of annotators, against values of the packages krippendorff, statsmodels and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from conjoin.errors import OutputsError, TruthError
from conjoin.outputs import Labels, Probabilities, Values
from conjoin.scores.agreement import cohen_kappa, fleiss_kappa, kappas, krippendorff_alpha
from conjoin.scores.labels import SCORES

CLASSES = ("0", "1", "2", "3")
SPARSE = np.array(
    [
        [3, 0, 3, 0, -1, 3, 3, -1, 3, 1, 1, 1],
        [3, 3, 2, 0, 3, -1, -1, 0, 0, 2, 3, 1],
        [2, 0, 2, 3, 1, -1, 0, 1, 0, 0, 1, 1],
        [3, -1, 0, 0, 0, 3, 0, 2, 0, 0, 1, 1],
    ]
)
FULL = np.array(
    [
        [3, 0, 0, 0, 0, 1, 3, 2, 0, 0, 0, 1],
        [3, 0, 0, 0, 0, 3, 3, 3, 0, 0, 3, 2],
        [3, 2, 2, 0, 0, 3, 3, 3, 0, 1, 1, 1],
    ]
)


def labels(rows) -> dict[str, Labels]:
    return {f"w{i}": Labels(row, CLASSES) for i, row in enumerate(rows)}


@pytest.mark.parametrize(
    ("level", "value"),
    [
        ("nominal", 0.20367454068241475),
        ("ordinal", 0.05558678231092051),
        ("interval", 0.05977443609022548),
        ("ratio", 0.17921495342731486),
    ],
)
def test_krippendorff(level, value) -> None:
    """krippendorff 0.8."""
    assert krippendorff_alpha(labels(SPARSE), level=level) == pytest.approx(value, abs=1e-12)
    counts = sum(o.one_hot() for o in labels(SPARSE).values())
    assert krippendorff_alpha(counts, level=level) == pytest.approx(value, abs=1e-12)


def test_fleiss() -> None:
    """statsmodels 0.14."""
    assert fleiss_kappa(labels(FULL)) == pytest.approx(0.3849658314350796, abs=1e-12)


@pytest.mark.parametrize(
    ("weighting", "value"),
    [("none", 0.4725274725274725), ("linear", 0.5961538461538461), ("quadratic", 0.664179104477612)],
)
def test_cohen(weighting, value) -> None:
    """scikit-learn 1.9."""
    a, b = (Labels(row, CLASSES) for row in FULL[:2])
    assert cohen_kappa(a, b, weighting=weighting) == pytest.approx(value, abs=1e-12)
    assert kappas(labels(FULL))[1, 0] == pytest.approx(0.4725274725274725)


def test_edges() -> None:
    one = Labels.of(["x", "x"])
    assert krippendorff_alpha({"a": one, "b": one}) == 1.0
    assert fleiss_kappa({"a": one, "b": one}) == 1.0
    assert cohen_kappa(one, one) == 1.0
    none = Labels.of([None, None], "xy")
    assert all(np.isnan(f({"a": one, "b": none})) for f in (krippendorff_alpha, fleiss_kappa))
    assert np.isnan(cohen_kappa(one, none))
    assert np.isnan(fleiss_kappa(np.zeros((0, 3))))
    far = {"a": Labels.of(["1", "10"]), "b": Labels.of(["1", "11"])}
    near = krippendorff_alpha(far, level="interval")
    assert near > krippendorff_alpha(far)
    assert krippendorff_alpha(far, level="interval", values=np.array([1, 10, 11])) == near


def test_what_does_not_fit_is_refused() -> None:
    a = labels(FULL)
    for bad, told in (
        ({}, "no answers"),
        ({"a": Labels.of(["x"]), "b": Labels.of(["x", "x"])}, "same rows"),
        (np.array([[-1.0, 2.0]]), "none negative"),
        (np.zeros(3), r"\(n, K\)"),
    ):
        with pytest.raises(OutputsError, match=told):
            krippendorff_alpha(bad)
    with pytest.raises(OutputsError, match="level must be"):
        krippendorff_alpha(a, level="cardinal")
    with pytest.raises(OutputsError, match="are not numbers"):
        krippendorff_alpha({"a": Labels.of(["x", "y"]), "b": Labels.of(["x", "y"])}, level="interval")
    with pytest.raises(OutputsError, match="values must be 4 numbers"):
        krippendorff_alpha(a, level="interval", values=np.arange(3))
    with pytest.raises(OutputsError, match="weighting must be"):
        cohen_kappa(a["w0"], a["w1"], weighting="cubic")
    with pytest.raises(OutputsError, match="2 and 1 rows"):
        cohen_kappa(Labels.of(["x", "x"]), Labels.of(["x"]))


def test_kappa_as_a_score() -> None:
    score, (a, b, _) = SCORES["cohen_kappa"], (Labels(row, CLASSES) for row in FULL)
    assert score.value(a, b) == pytest.approx(cohen_kappa(a, b), abs=1e-12)
    fused = Probabilities(a.one_hot(), CLASSES)
    assert score.value(fused, b) == pytest.approx(cohen_kappa(a, b), abs=1e-12)
    assert score.loss(b, b) == 0.0
    rows = score.rows(a, b)
    assert rows.mean() == pytest.approx(score.loss(a, b), abs=1e-9)
    with pytest.raises(TruthError, match="truth of labels"):
        score.value(a, Values(np.zeros(12)))
    with pytest.raises(OutputsError, match="not values"):
        score.value(Values(np.zeros(12)), a)
