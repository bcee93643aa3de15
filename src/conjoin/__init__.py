"""conjoin: several models work as one. Many models, one answer.

The map, from what a user touches first to what everything stands on:

    conjoin.fit         train several models on a table and fuse them
    conjoin.wrap        a member of a model that is already there; conjoin.remote: of one on a server
    conjoin.Ensemble    members and a fuser, together one member
    conjoin.fusion      fusers: means, pools, votes, and functions that fit one
    conjoin.save        a member as a bundle; conjoin.load reads it, conjoin.inspect looks without loading
    conjoin.export      a member as one ONNX graph
    conjoin.merge       the weights of several models of one architecture as one model
    conjoin.transplant  weights of one architecture into another
    conjoin.distil      a small model learns what any member answers
    conjoin.finetune    a trained torch module learns a new task
    conjoin.evaluate    the leaderboard of a member on rows whose truth is known
    conjoin.as_estimator    an estimator of scikit-learn
    conjoin.scores      how good outputs are, with intervals
    conjoin.checks      the laws that members, learners and fusers keep
    conjoin.outputs     the kinds of answer
    conjoin.contracts   Member, Learner, Fuser: start reading the code here
    conjoin.errors      every error that is raised on purpose

Nothing is imported before it is used: `import conjoin` loads the standard library alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conjoin import checks, contracts, errors, fusion, outputs, scores
    from conjoin.bundle import export, inspect, load, save
    from conjoin.compose import Ensemble
    from conjoin.estimator import as_estimator
    from conjoin.members import remote, wrap
    from conjoin.report import evaluate
    from conjoin.train import fit
    from conjoin.transfer.distil import distil
    from conjoin.transfer.finetune import finetune
    from conjoin.transfer.merge import merge
    from conjoin.transfer.transplant import transplant

_HOMES: dict[str, str] = {
    "Ensemble": "conjoin.compose",
    "as_estimator": "conjoin.estimator",
    "distil": "conjoin.transfer.distil",
    "evaluate": "conjoin.report",
    "export": "conjoin.bundle",
    "finetune": "conjoin.transfer.finetune",
    "fit": "conjoin.train",
    "inspect": "conjoin.bundle",
    "load": "conjoin.bundle",
    "merge": "conjoin.transfer.merge",
    "remote": "conjoin.members",
    "save": "conjoin.bundle",
    "transplant": "conjoin.transfer.transplant",
    "wrap": "conjoin.members",
}
"""Public name -> the module that it comes from."""

_PARTS = ("checks", "contracts", "errors", "fusion", "outputs", "scores")
"""Modules that are public."""

__all__ = [
    "Ensemble",
    "as_estimator",
    "checks",
    "contracts",
    "distil",
    "errors",
    "evaluate",
    "export",
    "finetune",
    "fit",
    "fusion",
    "inspect",
    "load",
    "merge",
    "outputs",
    "remote",
    "save",
    "scores",
    "transplant",
    "wrap",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in _PARTS:
        return importlib.import_module(f"conjoin.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'conjoin' has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
