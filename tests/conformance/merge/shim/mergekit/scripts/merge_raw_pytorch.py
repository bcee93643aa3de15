"""Only for the import."""

from mergekit.absent import absent

RawPyTorchMergeConfig, plan_flat_merge = absent("RawPyTorchMergeConfig"), absent("plan_flat_merge")
