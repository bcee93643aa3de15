import math
import time

import pytest

from conjoin.errors import InputError
from conjoin.train.budget import Clock, Memory, available, resident


def test_parts_of_a_clock_end_with_it_and_earlier():
    clock = Clock.seconds(10)
    assert 9 < clock.left() <= 10
    assert clock.within(100).left() <= 10
    assert clock.within(1).left() <= 1
    assert 6 < clock.before(3).left() <= 7
    assert Clock.seconds(0).over()
    assert Clock.endless().left() == math.inf


def test_stopping_ends_all_parts_at_once():
    clock = Clock.seconds(100)
    part = clock.within(50)
    clock.stopped.set()
    assert part.over()
    assert part.left() == 0


def test_a_clock_runs_out():
    clock = Clock.seconds(0.02)
    assert not clock.over()
    time.sleep(0.03)
    assert clock.over()


def test_memory():
    held = resident()
    assert held > 10**7
    assert available() > 0
    memory = Memory.of(2 * held / 1e6)
    assert memory.allows(held / 2)
    assert not memory.allows(2 * held)
    assert Memory.of(held / 2e6).left() == 0
    assert Memory().allows(1e18)
    with pytest.raises(InputError, match="megabytes"):
        Memory.of(0)
