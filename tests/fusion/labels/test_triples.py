"""Triples: order, names, codes, weights, memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from conjoin.errors import OutputsError
from conjoin.fusion.labels import FUSERS, Triples, dawid_skene, glad, mace, majority_vote
from conjoin.fusion.labels.triples import triples_of
from conjoin.outputs import Labels, Probabilities


def test_answers_lie_by_task_then_worker_whatever_the_order() -> None:
    rng = np.random.default_rng(0)
    tasks, workers = (a.ravel() for a in np.meshgrid(np.arange(9), np.arange(4), indexing="ij"))
    labels = rng.integers(0, 3, len(tasks))
    given = Triples(tasks, workers, labels, 9, ("d", "c", "b", "a"), ("x", "y", "z"))
    mixed = rng.permutation(len(tasks))
    again = Triples(tasks[mixed], workers[mixed], labels[mixed], 9, given.members[::-1], given.classes)
    assert again.members == given.members == ("a", "b", "c", "d")
    for name in ("tasks", "workers", "labels", "offsets"):
        assert np.array_equal(getattr(given, name), getattr(again, name))
    assert given.offsets.tolist() == [4 * i for i in range(10)]


def test_names_become_codes_and_dense_labels_again() -> None:
    said = [("t2", "Ольга", "sí"), ("t1", "no one", "no"), ("t1", "Ольга", "no"), (7, "no one", "sí")]
    t = Triples.of(*zip(*said, strict=True))
    assert t.names.tolist() == ["t2", "t1", "7"]
    assert t.classes == ("no", "sí")
    assert t.outputs()["no one"].names().tolist() == [None, "no", "sí"]
    assert np.array_equal(majority_vote(t).values, majority_vote(t.outputs()).align(t.classes).values)


def test_a_mapping_and_its_triples_fuse_alike() -> None:
    rng = np.random.default_rng(1)
    outputs = {f"w{i}": Labels(rng.integers(-1, 2, 40), ("n", "y")) for i in range(6)}
    triples, _ = triples_of(outputs)
    for name, fuser in FUSERS.items():
        a, b = fuser(outputs), fuser(triples)
        assert np.allclose(a.values, b.values, atol=1e-12, equal_nan=True), name
        assert np.array_equal(a.answered, b.answered)


def test_probabilities_count_by_their_class() -> None:
    p = Probabilities(np.array([[0.2, 0.8], [0.9, 0.1]]), ("n", "y"))
    assert majority_vote({"a": p}).labels().names().tolist() == ["y", "n"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labels": [0, 2]}, "labels must lie in 0 to 1; answer 1 has 2"),
        ({"labels": [0, -1]}, "labels must lie in 0 to 1"),
        ({"workers": [0, 5]}, "workers must lie in 0 to 1"),
        ({"tasks": [0, 3]}, "tasks must lie in 0 to 1"),
        ({"labels": [0.5, 1.0]}, "whole numbers"),
        ({"labels": [0]}, "2 tasks, 2 workers, 1 labels"),
        ({"tasks": [], "workers": [], "labels": [], "rows": -1}, "must not be negative"),
        ({"members": ("a", "a")}, "must differ"),
        ({"names": np.array(["t"], dtype=object)}, "1 names for 2 tasks"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, told: str) -> None:
    given = {
        "tasks": [0, 1],
        "workers": [0, 1],
        "labels": [0, 1],
        "rows": 2,
        "members": ("a", "b"),
        "classes": ("n", "y"),
    }
    with pytest.raises(OutputsError, match=told):
        Triples(**{**given, **change})


def test_a_label_outside_the_set_is_named() -> None:
    with pytest.raises(OutputsError, match="labels maybe are not among no, yes"):
        Triples.of(["t"], ["w"], ["maybe"], classes=["no", "yes"])
    with pytest.raises(OutputsError, match="2 tasks, 1 workers"):
        Triples.of(["t", "u"], ["w"], ["maybe"])


@pytest.mark.parametrize("fuser", [dawid_skene, glad, mace], ids=lambda f: f.__name__)
def test_memory_grows_with_the_answers(fuser) -> None:
    """200,000 tasks of 5 answers, 10,000 workers, 10 classes: dense labels would take 16 GB."""
    rng = np.random.default_rng(0)
    n, per, width, members = 200_000, 5, 10, 10_000
    tasks = np.repeat(np.arange(n), per)
    workers, labels = rng.integers(0, members, len(tasks)), rng.integers(0, width, len(tasks))
    names = tuple(f"w{i}" for i in range(members))
    triples = Triples(tasks, workers, labels, n, names, tuple(map(str, range(width))))
    options = {"n_restarts": 1} if fuser is mace else {}
    fuser(triples.kept(np.arange(len(tasks)) < 50), n_iter=1, **options)  # compile first
    tracemalloc.start()
    try:
        fuser(triples, n_iter=1, **options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * 8 * len(tasks), f"{peak / len(tasks):.0f} bytes an answer"


def test_more_members_than_bits_in_a_word() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    outputs = {
        f"w{i:03d}": Labels(np.where(rng.random(60) < 0.5, truth, rng.integers(0, 3, 60)), ("a", "b", "c"))
        for i in range(130)
    }
    for name, fuser in FUSERS.items():
        if name != "kos":
            assert (fuser(outputs).labels().codes == truth).mean() > 0.95, name
