"""`run_merge` through a recipe in a file, as people run it."""

import tempfile
from pathlib import Path

from conjoin.transfer.merge import merge_recipe
from mergekit.config import recipe_of
from mergekit.options import MergeOptions

__all__ = ["MergeOptions", "run_merge"]


def run_merge(merge_config, out_path, options, config_source=None):
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yml"
        recipe.write_text(recipe_of(merge_config))
        merge_recipe(recipe, Path(out_path))
