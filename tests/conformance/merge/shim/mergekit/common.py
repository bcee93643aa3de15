"""Only for the import."""

from mergekit.absent import absent

ModelReference = absent("ModelReference")
