import inspect
import subprocess
import sys
import types

import pytest

import conjoin

HEAVY = ("numpy", "onnx", "onnxruntime", "scipy", "sklearn", "pandas", "duckdb", "narwhals", "typer", "rich")


@pytest.mark.parametrize("name", conjoin.__all__)
def test_every_name_is_there_and_says_what_it_is(name):
    thing = getattr(conjoin, name)
    assert inspect.getdoc(thing)
    assert name in dir(conjoin)


def test_the_map_names_each_of_them():
    for name in conjoin.__all__:
        assert f"conjoin.{name}" in conjoin.__doc__


def test_names_are_what_their_home_says():
    for name, home in conjoin._HOMES.items():
        assert getattr(sys.modules[home], name) is getattr(conjoin, name)


def test_modules_are_modules():
    for name in conjoin._PARTS:
        assert isinstance(getattr(conjoin, name), types.ModuleType)
    assert sorted([*conjoin._HOMES, *conjoin._PARTS]) == sorted(conjoin.__all__)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'ensemble'"):
        conjoin.ensemble  # noqa: B018


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_loads_nothing_heavy():
    assert run(f"import conjoin, sys; print([m for m in {HEAVY} if m in sys.modules])") == "[]"


def test_import_is_quick():
    code = (
        "import numpy, time; begin = time.process_time(); import conjoin; print(time.process_time() - begin)"
    )
    assert min(float(run(code)) for _ in range(3)) < 0.15


def test_star_import():
    assert (
        run("from conjoin import *; print(wrap.__module__, Ensemble.__name__)") == "conjoin.members Ensemble"
    )
