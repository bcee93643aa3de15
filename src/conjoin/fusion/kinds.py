"""The families of fusers: for each kind of output, the package with its tables.

A family's package holds FUSERS (plain operators by name), FIT_FUSERS (functions that fit one), PARTS (its
records), TRUSTED (the operator that its field trusts most without truth), SCORE (the default score) and
CANDIDATES (what an automatic choice tries, simple first). It is imported when it is first asked for, since
its compiled loops need numba.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from conjoin.errors import OutputsError, listed, nearest

FAMILIES: dict[str, str] = {
    "labels": "conjoin.fusion.labels",
    "ranking": "conjoin.fusion.ranking",
    "boxes": "conjoin.fusion.boxes",
    "masks": "conjoin.fusion.masks",
    "spans": "conjoin.fusion.spans",
    "texts": "conjoin.fusion.texts",
    "embeddings": "conjoin.fusion.embeddings",
}
"""Kind -> package. Probabilities, values and quantiles are this package's own: `fusion.FUSERS`."""


def family(kind: str) -> ModuleType:
    """The package of a kind. Raises OutputsError with the nearest name.

    >>> family("ranking").TRUSTED in family("ranking").FUSERS
    True
    """
    if kind not in FAMILIES:
        raise OutputsError(f"no fusers of {kind!r}{nearest(kind, FAMILIES)}; there are {listed(FAMILIES)}")
    return importlib.import_module(FAMILIES[kind])


def operator_names(kind: str) -> tuple[str, ...]:
    """Names of all operators of a kind, plain ones first."""
    found = family(kind)
    return tuple(dict.fromkeys([*found.FUSERS, *found.FIT_FUSERS]))
