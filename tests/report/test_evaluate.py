"""The leaderboard: every member, simple fusions, the whole; on rows whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from conjoin.compose import Ensemble
from conjoin.errors import ColumnError, InputError, TruthError
from conjoin.fusion import Plain
from conjoin.members import wrap
from conjoin.outputs import Labels, Values
from conjoin.report import evaluate, tables
from conjoin.scores import SCORES

X = np.linspace(0, 1, 40)
Y = np.array(["yes" if x > 0.5 else "no" for x in X], dtype=object)


def member(sharp):
    return wrap(lambda batch: 1 / (1 + np.exp(-sharp * (batch["x"] - 0.5))), classes=["no", "yes"])


@pytest.fixture
def ensemble():
    members = {"sharp": member(20), "blunt": member(2)}
    return Ensemble(members, Plain("linear_pool", {"sharp": 0.7, "blunt": 0.3}, "probabilities"))


def test_every_member_every_fusion_and_the_whole(ensemble):
    record = evaluate(ensemble, {"x": X, "y": Y}, target="y")
    roles = {r["name"]: r["role"] for r in record["leaderboard"]}
    assert roles == {
        "ensemble": "fused",
        "sharp": "member",
        "blunt": "member",
        "mean": "fusion",
        "log_pool": "fusion",
    }
    values = [r["value"] for r in record["leaderboard"][1:]]
    assert values == sorted(values)
    assert (record["metric"], record["better"], record["rows"], record["notes"]) == (
        "log_loss",
        "lower",
        40,
        [],
    )


def test_values_are_those_of_the_scores(ensemble):
    for metric in ("log_loss", "auc", "accuracy", "brier"):
        record = evaluate(ensemble, {"x": X}, truth=Labels.of(Y), metric=metric)
        score = SCORES[metric]
        outputs = ensemble.outputs({"x": X})
        for row in record["leaderboard"]:
            if row["role"] == "member":
                assert row["value"] == pytest.approx(score.value(outputs[row["name"]], Labels.of(Y)))
                assert row["low"] <= row["value"] <= row["high"]


def test_a_difference_above_0_is_worse_than_the_whole(ensemble):
    for metric in ("log_loss", "auc"):
        rows = {
            r["name"]: r
            for r in evaluate(ensemble, {"x": X, "y": Y}, target="y", metric=metric)["leaderboard"]
        }
        assert "difference" not in rows["ensemble"]
        assert rows["blunt"]["difference"]["mean"] >= 0
    assert rows["sharp"]["difference"]["p_value"] == 1


def test_a_user_metric(ensemble):
    def wrong(truth, answer):
        return float(np.mean((answer > 0.5) != (truth == "yes")))

    record = evaluate(ensemble, {"x": X, "y": Y}, target="y", metric=wrong)
    assert record["metric"] == "wrong"
    assert record["leaderboard"][0]["value"] == 0


def test_rows_without_truth_do_not_count(ensemble):
    y = Y.copy()
    y[:10] = None
    record = evaluate(ensemble, {"x": X, "y": y}, target="y")
    alone = evaluate(ensemble, {"x": X[10:], "y": Y[10:]}, target="y")
    assert record["rows"] == 30
    assert record["leaderboard"][0]["value"] == pytest.approx(alone["leaderboard"][0]["value"])
    assert record["notes"] == ["10 rows have no truth and are not scored"]


def test_a_class_that_the_model_does_not_know_is_told(ensemble):
    y = Y.copy()
    y[0] = "maybe"
    record = evaluate(ensemble, {"x": X, "y": y}, target="y")
    assert "maybe" in record["notes"][0]
    assert math.isfinite(record["leaderboard"][0]["value"])


def test_numbers_and_weights():
    pair = Ensemble(
        {"low": wrap(lambda b: b["x"] - 1, kind="values"), "high": wrap(lambda b: b["x"] + 2, kind="values")},
        Plain("mean", {"low": 1.0, "high": 1.0}, "values"),
    )
    batch = {"x": X, "y": X, "w": np.ones(40)}
    for weights in (None, "w", np.ones(40)):
        record = evaluate(pair, batch, target="y", weights=weights)
        assert record["metric"] == "rmse"
        found = {r["name"]: r["value"] for r in record["leaderboard"]}
        assert found == pytest.approx({"ensemble": 0.5, "low": 1, "high": 2, "mean": 0.5, "median": 0.5})
    assert evaluate(pair, batch, truth=Values(X))["leaderboard"][0]["value"] == pytest.approx(0.5)


def test_a_single_member_has_a_leaderboard_of_one():
    record = evaluate(member(20), {"x": X, "y": Y}, target="y")
    assert [r["role"] for r in record["leaderboard"]] == ["fused"]


def test_what_cannot_be_scored(ensemble):
    with pytest.raises(InputError, match="--target"):
        evaluate(ensemble, {"x": X, "y": Y})
    with pytest.raises(ColumnError, match="did you mean 'y'"):
        evaluate(ensemble, {"x": X, "y": Y}, target="Y")
    with pytest.raises(TruthError, match="missing in every row"):
        evaluate(ensemble, {"x": X, "y": np.array([None] * 40, dtype=object)}, target="y")
    with pytest.raises(TruthError, match="none is the same"):
        evaluate(ensemble, {"x": X, "y": np.arange(40.0)}, target="y")
    with pytest.raises(InputError, match="log_loss"):
        evaluate(ensemble, {"x": X, "y": Y}, target="y", metric="logloss")


def test_tables_fit_80_columns_and_read_no_markup(capsys):
    from rich.console import Console

    name = "[red]a very long name of a model that nobody would ever give to anything[/]\x1b[31m"
    rows = [
        {"name": name, "role": "fused", "value": 0.123456789, "low": 0.1, "high": 0.2, "bytes": 123456789},
        {
            "name": "b",
            "role": "member",
            "value": 1234567.9,
            "low": 1e6,
            "high": 2e6,
            "bytes": 1,
            "difference": {"mean": 1e-9, "p_value": 1e-9},
            "cpu_seconds_per_row": 0.00123,
        },
    ]
    Console(width=80).print(tables.leaderboard(rows, metric="root_mean_squared_error"))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("[red]a" in line for line in lines)
    assert "\x1b" not in "".join(lines)
