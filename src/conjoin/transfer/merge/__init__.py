"""Merging of checkpoints: a recipe, a plan from headers, run in a stream; judging and searching of merges."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from conjoin.transfer.merge.memory import greedy_soup
from conjoin.transfer.merge.models import Merged, merge, merge_recipe
from conjoin.transfer.merge.plan import Plan, plan
from conjoin.transfer.merge.recipe import Recipe, read_recipe
from conjoin.transfer.merge.stream import Progress, Source, Task, run

if TYPE_CHECKING:
    from conjoin.transfer.merge.evidence import HeldOut
    from conjoin.transfer.merge.judging import Judgement, judge, judge_recipe
    from conjoin.transfer.merge.searching import Budget, search, search_recipe

_LATER = {
    "Budget": "searching",
    "HeldOut": "evidence",
    "Judgement": "judging",
    "judge": "judging",
    "judge_recipe": "judging",
    "search": "searching",
    "search_recipe": "searching",
}
"""Names that need scores, which a merge by itself does not load -> their file."""

__all__ = [
    "Budget",
    "HeldOut",
    "Judgement",
    "Merged",
    "Plan",
    "Progress",
    "Recipe",
    "Source",
    "Task",
    "greedy_soup",
    "judge",
    "judge_recipe",
    "merge",
    "merge_recipe",
    "plan",
    "read_recipe",
    "run",
    "search",
    "search_recipe",
]


def __getattr__(name: str) -> Any:
    """Import a name of `_LATER` when it is first used."""
    if name not in _LATER:
        raise AttributeError(f"module 'conjoin.transfer.merge' has no attribute {name!r}")
    return getattr(importlib.import_module(f"conjoin.transfer.merge.{_LATER[name]}"), name)
