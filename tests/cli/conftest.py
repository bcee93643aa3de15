"""Bundles and tables for the tests of the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conjoin import bundle
from conjoin.cli import run
from conjoin.compose import Ensemble
from conjoin.fusion import Plain

ATTACKS = Path(__file__).parents[2] / "attacks"
Run = Callable[..., "Done"]
FAST = ("--members", "linear", "--preset", "fast", "--time-limit", "10", "--folds", "2")


class Done:
    """What a command line did: its exit status, stdout and stderr."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line in this process; an error is told in one message, without a traceback."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("CONJOIN_DEBUG", raising=False)

    def call(*words: object) -> Done:
        capsys.readouterr()
        status = run([str(w) for w in words])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Done(status, out, err)

    return call


@pytest.fixture(scope="session")
def good() -> Iterator[Any]:
    """The module with a small sound member."""
    sys.path.insert(0, str(ATTACKS))
    try:
        import good

        yield good
    finally:
        sys.path.remove(str(ATTACKS))


@pytest.fixture(scope="session")
def pair(good: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of an ensemble of two members, that reads the columns age and job and answers no or yes."""
    folder = tmp_path_factory.mktemp("pair") / "pair.conjoin"
    members = {"first": good.member("first"), "second": good.member("second")}
    bundle.save(Ensemble(members, Plain("mean", {"first": 0.5, "second": 0.5}, "probabilities")), folder)
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A table of 6 rows with the columns id, age, job and status."""
    path = tmp_path / "rows.csv"
    lines = [f"{i},{20 + 7 * i},job {40 * i},{'yes' if i % 2 else 'no'}" for i in range(6)]
    path.write_text("id,age,job,status\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_loans(path: Path, *, rows: int = 60, seed: int = 0) -> Path:
    """A table to learn from: age, income, job and status."""
    rng = np.random.default_rng(seed)
    age, income = rng.integers(18, 80, rows), rng.normal(3000, 900, rows)
    job = rng.choice(["clerk", "cook", "pilot"], rows)
    paid = (age / 80 + income / 3000 + (job == "pilot") + rng.normal(0, 0.3, rows)) > 1.8
    lines = [
        f"{a},{i:.2f},{j},{'paid' if p else 'late'}"
        for a, i, j, p in zip(age, income, job, paid, strict=True)
    ]
    path.write_text("age,income,job,status\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def make_loans() -> Callable[..., Path]:
    """`write_loans`."""
    return write_loans


@pytest.fixture(scope="session")
def fast() -> tuple[str, ...]:
    """Options of a fit that takes a second."""
    return FAST


@pytest.fixture
def loans(tmp_path: Path) -> Path:
    """`write_loans` in a temporary folder."""
    return write_loans(tmp_path / "loans.csv")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a fit of `write_loans`."""
    folder = tmp_path_factory.mktemp("trained")
    table = write_loans(folder / "loans.csv")
    assert run(["fit", str(table), "-t", "status", "-o", str(folder / "loans.conjoin"), *FAST, "--json"]) == 0
    return folder / "loans.conjoin"
