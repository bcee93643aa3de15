"""The golden bundle of format 1: every later version reads it and gives the same answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conjoin import bundle
from conjoin.bundle.coding import decode
from conjoin.bundle.tensors import load

GOLDEN = Path(__file__).parent / "bundle-1"
BESIDE = json.loads(GOLDEN.with_suffix(".json").read_text(encoding="utf-8"))
BATCH = {n: np.array(v, dtype=object) for n, v in BESIDE["rows"].items()}


@pytest.fixture(scope="module")
def member():
    return bundle.load(GOLDEN)


def test_it_answers_as_it_always_did(member):
    np.testing.assert_allclose(member.predict(BATCH).values, BESIDE["answers"]["golden"], atol=1e-5)


def test_so_does_each_ensemble_inside(member):
    outputs = member.outputs(BATCH)
    assert {*outputs, "golden"} == BESIDE["answers"].keys()
    for name, output in outputs.items():
        np.testing.assert_allclose(output.values, BESIDE["answers"][name], atol=1e-5, err_msg=name)


def parts_of(folder):
    """Type, JSON, children and decoded arrays of every part."""
    tensors = load((folder / "arrays.safetensors").read_bytes(), "arrays")
    for part in bundle.inspect(folder)["parts"]:
        found = {k: decode(r, tensors[r["tensor"]]) for k, r in part["arrays"].items() if "tensor" in r}
        yield part["type"], part["meta"], part["children"], found


def test_what_is_read_is_written_again(member, tmp_path):
    """The same parts; how they are deflated may differ from one zlib to another."""
    bundle.save(member, tmp_path / "again")
    for (*wanted, arrays), (*found, again) in zip(
        parts_of(GOLDEN), parts_of(tmp_path / "again"), strict=True
    ):
        assert found == wanted
        assert again.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(again[name], array)
            assert again[name].dtype == array.dtype


def test_it_is_small_and_holds_most_kinds_of_parts():
    assert sum(p.stat().st_size for p in GOLDEN.iterdir()) < 200_000
    assert len({p["type"] for p in bundle.inspect(GOLDEN)["parts"]}) >= 15
