"""Only for the import."""

from mergekit.absent import absent

TensorDictWrapper = absent("TensorDictWrapper")
