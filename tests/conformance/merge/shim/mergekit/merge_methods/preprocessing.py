"""Only for the import."""

from mergekit.absent import absent

truncate_vocabulary = absent("truncate_vocabulary")
