"""The golden bundle of format 1: every later version reads it and gives the same answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conjoin import bundle

GOLDEN = Path(__file__).parent / "bundle-1"
BESIDE = json.loads(GOLDEN.with_suffix(".json").read_text(encoding="utf-8"))
BATCH = {n: np.array(v, dtype=object) for n, v in BESIDE["rows"].items()}


@pytest.fixture(scope="module")
def member():
    return bundle.load(GOLDEN)


def test_it_answers_as_it_always_did(member):
    np.testing.assert_allclose(member.predict(BATCH).values, BESIDE["answers"]["golden"], atol=2e-6)


def test_so_does_each_ensemble_inside(member):
    outputs = member.outputs(BATCH)
    assert {*outputs, "golden"} == BESIDE["answers"].keys()
    for name, output in outputs.items():
        np.testing.assert_allclose(output.values, BESIDE["answers"][name], atol=2e-6, err_msg=name)


def test_it_is_written_as_it_was_read(member, tmp_path):
    """Arrays and parts; the document says who wrote it."""
    bundle.save(member, tmp_path / "again")
    wanted, found = bundle.inspect(GOLDEN), bundle.inspect(tmp_path / "again")
    assert found["parts"] == wanted["parts"]
    arrays = "arrays.safetensors"
    assert (tmp_path / "again" / arrays).read_bytes() == (GOLDEN / arrays).read_bytes()


def test_it_is_small_and_holds_most_kinds_of_parts():
    assert sum(p.stat().st_size for p in GOLDEN.iterdir()) < 200_000
    assert len({p["type"] for p in bundle.inspect(GOLDEN)["parts"]}) >= 15
