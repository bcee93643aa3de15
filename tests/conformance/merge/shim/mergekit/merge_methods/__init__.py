"""Only for the import."""

from mergekit.absent import absent

TensorBatch, TensorGroup = absent("TensorBatch"), absent("TensorGroup")
merge_state_dicts = absent("merge_state_dicts")
