"""A plan repeats a run: the whole bundle, byte for byte, though the clock ran otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import conjoin

datasets = pytest.importorskip("sklearn.datasets", reason="training needs conjoin[train]")


def _files(bundle: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(bundle.iterdir())}


def test_the_bundle_of_a_plan_is_the_same_to_the_byte(tmp_path: Path) -> None:
    frame = datasets.load_diabetes(as_frame=True).frame.iloc[:250]
    first = conjoin.fit(frame, target="target", time_limit=6, seed=3)
    conjoin.save(first, tmp_path / "first.conjoin")
    plan = conjoin.inspect(tmp_path / "first.conjoin")["plan"]
    again = conjoin.fit(frame, target="target", time_limit=600, seed=99, plan=plan)
    conjoin.save(again, tmp_path / "again.conjoin")
    assert _files(tmp_path / "first.conjoin") == _files(tmp_path / "again.conjoin")


def test_a_plan_on_other_rows_is_measured_anew() -> None:
    frame = datasets.load_diabetes(as_frame=True).frame
    first = conjoin.fit(frame.iloc[:150], target="target", time_limit=5, members=["linear", "neighbours"])
    plan = first.card.provenance["plan"]
    again = conjoin.fit(frame.iloc[150:300], target="target", plan=plan)
    assert again.card.provenance["plan"]["data"] != plan["data"]
    assert "the plan was made on other data" in again.card.provenance["notes"]
    rows = dict(frame.iloc[300:].drop(columns="target").items())
    assert not np.array_equal(first.predict(rows).values, again.predict(rows).values)
