"""Fixtures of mbrs' tests: only what needs no model to be downloaded."""

import pytest
from mbrs.selectors import SelectorNbest


@pytest.fixture
def selector():
    return SelectorNbest()


@pytest.fixture
def metric_comet():
    pytest.skip("COMET is a model of 2 GB that has to be downloaded")
