"""Fitted models of other libraries as parts of a graph."""

from conjoin.members.convert.catboost import catboost_trees
from conjoin.members.convert.forests import forest_trees
from conjoin.members.convert.lightgbm import lightgbm_trees
from conjoin.members.convert.xgboost import xgboost_trees

__all__ = ["catboost_trees", "forest_trees", "lightgbm_trees", "xgboost_trees"]
