"""Files of the fields: what several systems answered, laid side by side, and the fused answer written back.

`FORMATS` names the module of each kind; `format_of` gives its `Format`. Formats know outputs, not formulas.
"""

from __future__ import annotations

import importlib

from conjoin.errors import InputError, listed, nearest
from conjoin.formats.record import Format, Found, place, read_bytes, read_text, write_text

FORMATS: dict[str, str] = {
    "labels": "crowd",
    "ranking": "trec",
    "boxes": "coco",
    "masks": "masks",
    "spans": "spans",
    "texts": "lines",
    "words": "ctm",
    "embeddings": "vectors",
}
"""Kind -> the module of this package with its `FORMAT`. `words` are texts of speech recognisers."""


def format_of(kind: str) -> Format:
    """The files of a kind. Raises InputError with the nearest name.

    >>> format_of("ranking").kind
    'ranking'
    """
    if kind not in FORMATS:
        raise InputError(f"no files of {kind!r}{nearest(kind, FORMATS)}; there are {listed(FORMATS)}")
    found: Format = importlib.import_module(f"conjoin.formats.{FORMATS[kind]}").FORMAT
    return found


__all__ = ["FORMATS", "Format", "Found", "format_of", "place", "read_bytes", "read_text", "write_text"]
