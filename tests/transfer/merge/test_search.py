"""Search of coefficients and choice of a method: better than the start, the same for a seed, no worse than
the plain average.
"""

import numpy as np
import pytest
import yaml

from conjoin.errors import InputError
from conjoin.outputs import Values
from conjoin.transfer.merge.choose import choose
from conjoin.transfer.merge.evidence import HeldOut
from conjoin.transfer.merge.models import merge
from conjoin.transfer.merge.recipe import parse
from conjoin.transfer.merge.searching import Budget, coefficients, opened, placed, search

RNG = np.random.default_rng(0)
TRUE = np.array([1.0, 2.0, 3.0])
X = RNG.standard_normal((400, 3))
Y = X @ TRUE + 0.3 * RNG.standard_normal(400)
BASE = {"h.0.w": np.zeros(2), "h.1.w": np.zeros(1)}
MODELS = {"a": {"h.0.w": np.array([2.0, 0.0]), "h.1.w": np.array([1.0])},
          "b": {"h.0.w": np.array([0.0, 2.0]), "h.1.w": np.array([1.0])}}  # fmt: skip


def predict(state):
    return Values(X @ np.concatenate([state["h.0.w"], state["h.1.w"]]))


HELD = HeldOut(predict, Values(Y), "mse")


def test_numbers_are_found_and_the_same_for_a_seed():
    pytest.importorskip("cma")
    seen = []
    done = search(MODELS, "task_arithmetic", HELD, base=BASE, budget=Budget(60), seed=3, watch=seen.append)
    found, given = done.standings[0], done.standings[1]
    assert (found.name, given.name, done.chosen) == ("found", "as given", "found")
    assert found.value.value < given.value.value
    assert found.gain is None
    assert given.gain.low > 0
    assert (done.evaluations, seen[-1].done, seen[-1].total) == (60, 60, 60)
    assert seen[-1].best >= seen[0].best
    again = search(MODELS, "task_arithmetic", HELD, base=BASE, budget=Budget(60), seed=3)
    assert again.recipe == done.recipe
    np.testing.assert_array_equal(again.model["h.0.w"], done.model["h.0.w"])
    assert parse(done.recipe).method.name == "task_arithmetic"


def test_layers_of_their_own():
    pytest.importorskip("cma")
    done = search(MODELS, "task_arithmetic", HELD, base=BASE, layers=2, budget=Budget(150))
    weights = [m["parameters"]["weight"] for m in yaml.safe_load(done.recipe)["models"]]
    assert [len(w) for w in weights] == [2, 2]
    np.testing.assert_allclose(done.model["h.0.w"], [2 * weights[0][0], 2 * weights[1][0]], rtol=1e-6)
    np.testing.assert_allclose(done.model["h.1.w"], [weights[0][1] + weights[1][1]], rtol=1e-6)
    assert done.standings[0].value.value < 0.5


def test_one_number_needs_no_library(monkeypatch):
    one = {"a": {"w": np.array([4.0, 8.0, 12.0])}}
    held = HeldOut(lambda s: Values(X @ s["w"]), Values(Y), "mse")
    found = search(one, "slerp", held, base={"w": np.array([1.0, 0.0, 0.0])}, parameters={"t": 0.5})
    assert 0 < found.evaluations <= 20
    assert yaml.safe_load(found.recipe)["merge_method"] == "slerp"


def test_it_falls_back():
    pytest.importorskip("cma")
    best = {"a": {"w": TRUE}, "b": {"w": -TRUE}}
    held = HeldOut(lambda s: Values(X @ s["w"]), Values(X @ TRUE), "mse")
    done = search(best, "task_arithmetic", held, base={"w": np.ones(3)}, budget=Budget(4))
    assert done.chosen == "a"
    np.testing.assert_array_equal(done.model["w"], TRUE)


def test_which_numbers_are_searched():
    document = {
        "merge_method": "ties",
        "base_model": "z",
        "models": [
            {"model": "x", "parameters": {"weight": [{"filter": "mlp", "value": [0.1, 1]}, {"value": 0.5}]}},
            {"model": "y"},
            {"model": "z"},
        ],
        "parameters": {"weight": 0.7, "int8_mask": True, "density": 0.4, "normalize": True},
    }
    found = list(coefficients(opened(document)))
    starts = {".".join(map(str, c.path)): c.start for c in found}
    assert starts == {
        "models.0.parameters.weight.0.value.0": 0.1,
        "models.0.parameters.weight.0.value.1": 1.0,
        "models.0.parameters.weight.1.value": 0.5,
        "models.1.parameters.weight": 0.7,
        "parameters.density": 0.4,
        "parameters.lambda": 1.0,
    }
    moved = placed(opened(document), found, [9.0] * len(found))
    assert moved["parameters"]["density"] == 1.0
    assert document["parameters"]["weight"] == 0.7


def test_what_has_no_numbers():
    with pytest.raises(InputError, match="has no number to search"):
        search(MODELS, "model_stock", HELD, base=BASE)
    with pytest.raises(InputError, match="did you mean"):
        search(MODELS, "tise", HELD, base=BASE)
    with pytest.raises(InputError, match="layers must be"):
        search(MODELS, "linear", HELD, layers=0)


def test_choice():
    far = {"a": {"w": TRUE + np.array([1.0, 0, 0])}, "b": {"w": TRUE - np.array([1.0, 0, 0])}}
    held = HeldOut(lambda s: Values(X @ s["w"]), Values(Y), "mse")
    assert choose(far, held, base={"w": np.zeros(3)}).chosen == "plain average"
    found = merge(far, "auto", score=lambda s: -float(((X @ s["w"] - Y) ** 2).mean()))
    np.testing.assert_array_equal(found["w"], TRUE)
    np.testing.assert_array_equal(merge(far, "auto")["w"], TRUE)
    with pytest.raises(InputError, match="takes no parameters"):
        merge(far, "auto", parameters={"weight": 1})
    rich = choose(MODELS, HELD, base=BASE)
    average = next(s for s in rich.standings if s.name == "plain average")
    assert average.gain is not None
    assert average.gain.mean > 0
    assert {s.role for s in rich.standings} == {"merged", "average", "model", "base", "tried"}
    by_number = choose(MODELS, lambda s: -float(((predict(s).values - Y) ** 2).mean()), base=BASE)
    assert by_number.optimistic
