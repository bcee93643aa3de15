import threading
import time

import pytest

from conjoin.contracts import Engine
from conjoin.engine import ENGINES, Local


def test_results_come_in_the_order_of_the_tasks():
    def slow_first(task, shared):
        time.sleep(0.02 if task == 0 else 0)
        return task * shared

    engine: Engine = Local(threads=3)
    assert list(engine.map(slow_first, range(20), shared=2)) == [2 * k for k in range(20)]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_error_stops_the_map(threads):
    seen = []

    def fails_at_three(task):
        seen.append(task)
        if task == 3:
            raise ValueError("three")
        return task

    found = []
    with pytest.raises(ValueError, match="three"):
        found.extend(Local(threads=threads).map(fails_at_three, range(1000)))
    assert len(seen) < 100
    assert len(found) <= 3


def test_tasks_run_side_by_side():
    both = threading.Barrier(2, timeout=5)
    assert sorted(Local(threads=2).map(lambda _: both.wait(), range(2))) == [0, 1]


def test_an_endless_iterable_is_drawn_from_as_threads_become_free():
    def endless():
        k = 0
        while True:
            yield k
            k += 1

    results = Local(threads=2).map(lambda k: k, endless())
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    results.close()


def test_by_default_one_thread_per_core():
    assert Local().count >= 1
    assert ENGINES["local"] is Local
