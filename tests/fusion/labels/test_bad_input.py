"""Hostile and empty input, for every operator."""

from __future__ import annotations

import numpy as np
import pytest

from conjoin.errors import OutputsError
from conjoin.fusion.labels import FIT_FUSERS, FUSERS, Triples
from conjoin.outputs import Labels, Values

EVERY = pytest.mark.parametrize("fuser", FUSERS.values(), ids=FUSERS)
YES_NO = ("n", "y")


def two() -> dict[str, Labels]:
    return {"ann": Labels.of(list("ynyn")), "no one": Labels.of(list("yyyn"), YES_NO)}


@EVERY
@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"ann": -1, "no one": 1}, "must not be negative"),
        ({"ann": 0, "no one": 0}, "all weights are 0"),
        ([1.0], "1 weights for 2 members"),
        ({"an": 1, "no one": 1}, "did you mean 'ann'"),
        ({"ann": 1}, "no weight for no one"),
        ({"ann": np.nan, "no one": 1}, "finite"),
    ],
)
def test_bad_weights(fuser, weights, told) -> None:
    with pytest.raises(OutputsError, match=told):
        fuser(two(), weights=weights)
    if not isinstance(weights, list):
        triples = Triples.of(
            *zip(*[(i, n, c) for n, o in two().items() for i, c in enumerate(o.names())], strict=True)
        )
        with pytest.raises(OutputsError, match=told):
            fuser(triples, weights=weights)


@EVERY
def test_wrong_outputs(fuser) -> None:
    with pytest.raises(OutputsError, match="no outputs to fuse"):
        fuser({})
    with pytest.raises(OutputsError, match="answered with values"):
        fuser({"a": Values(np.zeros(2))})
    with pytest.raises(OutputsError, match="same rows"):
        fuser({**two(), "c": Labels.of(["y"])})
    with pytest.raises(OutputsError, match="named by strings"):
        fuser({1: Labels.of(["y"])})


@EVERY
def test_all_abstain(fuser) -> None:
    found = fuser({"a": Labels.of([None, None], YES_NO), "b": Labels.of([None, None], YES_NO)})
    assert not found.answered.any()
    assert found.values.shape == (2, 2)


@EVERY
def test_a_task_without_answer_stays_so(fuser) -> None:
    found = fuser({"a": Labels.of(["y", None, "n"]), "b": Labels.of(["y", None, None], YES_NO)})
    assert found.answered.tolist() == [True, False, True]
    assert np.isnan(found.values[1]).all()
    assert np.isfinite(found.values[[0, 2]]).all()


@EVERY
@pytest.mark.parametrize("classes", [(), YES_NO])
def test_no_rows(fuser, classes) -> None:
    found = fuser({"a": Labels(np.zeros(0, int), classes), "b": Labels(np.zeros(0, int), classes)})
    assert len(found) == 0
    assert found.classes == classes


@EVERY
def test_one_class_one_row_one_member(fuser) -> None:
    found = fuser({"a": Labels.of(["y"])})
    assert found.values.tolist() == [[1.0]]
    assert fuser({"a": Labels.of(["y"]), "b": Labels.of(["y"])}).values.tolist() == [[1.0]]


@EVERY
def test_a_worker_with_one_answer(fuser) -> None:
    outputs = {f"w{i}": Labels.of(list("ynynynyn")) for i in range(3)}
    outputs["once"] = Labels.of(["n", *[None] * 7], YES_NO)
    assert fuser(outputs).labels().names().tolist() == list("ynynynyn")


@EVERY
def test_a_class_that_nobody_says(fuser) -> None:
    if fuser is FUSERS["kos"]:
        pytest.skip("for two classes only")
    outputs = {f"w{i}": Labels.of(list("ynyn"), ("never", *YES_NO)) for i in range(3)}
    found = fuser(outputs)
    assert found.labels().names().tolist() == list("ynyn")
    assert np.allclose(found.values.sum(axis=1), 1)


@EVERY
def test_workers_who_always_differ(fuser) -> None:
    found = fuser({"a": Labels.of(list("ynyn")), "b": Labels.of(list("nyny"))})
    assert np.isfinite(found.values).all()
    assert np.allclose(found.values.sum(axis=1), 1)


@pytest.mark.parametrize("fit", FIT_FUSERS.values(), ids=FIT_FUSERS)
def test_fits_of_little(fit) -> None:
    outputs = {"a": Labels.of(["y"], YES_NO), "b": Labels.of([None], YES_NO)}
    found = fit(outputs, Labels.of(["y"], YES_NO))(outputs)
    assert found.labels().names().tolist() == ["y"]
    one = {"a": Labels.of(["y", "y"]), "b": Labels.of(["y", None], ["y"])}
    assert fit(one, Labels.of(["y", "y"]))(one).values.tolist() == [[1.0], [1.0]]


def test_kos_takes_two_classes() -> None:
    with pytest.raises(OutputsError, match="two classes, not a, b, c"):
        FUSERS["kos"]({"w": Labels.of(list("abc"))})
