"""Only for the import."""

from mergekit.absent import absent

Executor = absent("Executor")
