"""The base class that crowd-kit's tests name."""

from __future__ import annotations


def options(**given):
    """Options and their defaults."""
    return given


class BaseClassificationAggregator:
    """Options are the keyword arguments; what is found has names that end in an underscore."""

    defaults = options()

    def __init__(self, *args, **given):
        given = {**self.defaults, **dict(zip(self.defaults, args, strict=False)), **given}
        unknown = set(given) - set(self.defaults)
        if unknown:
            raise TypeError(f"{type(self).__name__} has no {sorted(unknown)}")
        self.__dict__.update(given)

    def clone(self):
        return type(self)(**{name: getattr(self, name) for name in self.defaults})

    def fit_predict(self, data, *args, **more):
        return self.fit(data, *args, **more).labels_

    def fit_predict_proba(self, data, *args, **more):
        return self.fit(data, *args, **more).probas_
