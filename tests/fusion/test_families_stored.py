"""Fitted fusers of every kind go into a bundle with their members, and come out answering the same."""

from __future__ import annotations

import numpy as np
import pytest

from conjoin.bundle import parts
from conjoin.fusion.kinds import FAMILIES, family


@pytest.mark.parametrize("kind", FAMILIES)
def test_records_of_a_family_have_a_place_in_bundles(kind):
    known = {target.partition(":")[2]: name for name, target in parts.PARTS.items()}
    for record in family(kind).PARTS.values():
        assert parts.class_of(known[record.__name__]) is record
        assert known[record.__name__] in parts.FUSERS


def test_an_ensemble_of_rankers_survives_saving(tmp_path):
    import conjoin
    from conjoin.fusion.applied import Applied
    from conjoin.outputs import Ranking

    rng = np.random.default_rng(0)
    outputs = {}
    for name in ("bm25", "dense"):
        scores = -np.sort(-rng.random(12))
        outputs[name] = Ranking(rng.permutation(12).astype(str), scores, [0, 4, 8, 12])
    members = {n: conjoin.wrap(o, key="query", keys=["a", "b", "c"]) for n, o in outputs.items()}
    ensemble = conjoin.Ensemble(
        members, fuser=Applied("ranking", "rrf", {"bm25": 2.0, "dense": 1.0}, {"k": 10})
    )
    conjoin.save(ensemble, tmp_path / "r.conjoin")
    batch = {"query": np.array(["c", "unknown", "a"], dtype=object)}
    mine, again = ensemble.predict(batch), conjoin.load(tmp_path / "r.conjoin").predict(batch)
    assert mine.ids.tolist() == again.ids.tolist()
    np.testing.assert_array_equal(mine.scores, again.scores)
    assert mine.answered.tolist() == [True, False, True]
    assert np.diff(mine.offsets).tolist()[1] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "os"},
        {"kind": ["ranking"]},
        {"name": "__import__"},
        {"name": "fit_rrf"},
        {"options": {"weights": {"a": 1}}},
        {"options": {"batch": {}}},
        {"options": {"no such": 1}},
        {"options": None},
        {"members": ["a", "a"]},
        {"members": ["a"]},
    ],
)
def test_a_packed_operator_that_makes_no_sense_is_refused(change):
    from conjoin.errors import BundleError
    from conjoin.fusion.applied import Applied

    arrays, meta = Applied("ranking", "rrf", {"a": 1.0, "b": 2.0}, {"k": 60}).pack()
    assert Applied.unpack(arrays, meta, {}).options == {"k": 60}
    with pytest.raises(BundleError):
        Applied.unpack(arrays, {**meta, **change}, {})
    with pytest.raises(BundleError):
        Applied.unpack({"weights": np.array([1.0, np.nan])}, meta, {})
