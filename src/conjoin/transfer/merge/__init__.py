"""Merging of checkpoints: a recipe, a plan from headers, run in a stream."""

from __future__ import annotations

from conjoin.transfer.merge.memory import greedy_soup
from conjoin.transfer.merge.models import Merged, merge, merge_recipe
from conjoin.transfer.merge.plan import Plan, plan
from conjoin.transfer.merge.recipe import Recipe, read_recipe
from conjoin.transfer.merge.stream import Progress, Source, Task, run

__all__ = [
    "Merged",
    "Plan",
    "Progress",
    "Recipe",
    "Source",
    "Task",
    "greedy_soup",
    "merge",
    "merge_recipe",
    "plan",
    "read_recipe",
    "run",
]
