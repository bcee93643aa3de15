"""How answers are taken from expected scores."""

from mbrs.selectors.nbest import Selector, SelectorNbest


class SelectorDiverse(Selector):
    """A name that tests import; conjoin gives one answer."""


__all__ = ["Selector", "SelectorDiverse", "SelectorNbest"]
