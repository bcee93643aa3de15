"""What the values of a table are called: how a category is spelled, which words say that nothing is there."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np

GONE = frozenset(
    {"", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "Null", "null", "None"}
)
"""Texts that mean "missing" in an input column of any type (the same ones that pandas takes so)."""

GONE_NUMBER = GONE | {"?", "-", "na", "none", "NAN", "NONE", "N/a", "#N/A N/A", "#NA"}
"""Texts that mean "missing" in a column whose other values are numbers, dates or booleans."""

TRUE = frozenset({"true", "t", "yes", "y", "1", "1.0", "on"})
FALSE = frozenset({"false", "f", "no", "n", "0", "0.0", "off"})
_TRUTHS = {"true": "True", "TRUE": "True", "false": "False", "FALSE": "False"}


def name_of(value: Any) -> str:
    """The spelling of a category or class: 3, 3.0, "3" and "3.0" are one, so are True, "true" and "TRUE".

    Missing values (None, NaN, NaT, and the texts of `GONE`) give "".

    >>> [name_of(v) for v in (3, 3.0, "3.0", True, "true", " a ", None, "NA")]
    ['3', '3', '3', 'True', 'True', 'a', '', '']
    """
    if type(value) is not str:
        return _name_of_other(value)
    if value in GONE:
        return ""
    if value in _TRUTHS:
        return _TRUTHS[value]
    text = value.strip()
    if text.endswith("0") and "." in text:
        whole, _, rest = text.partition(".")
        if not rest.strip("0") and whole.lstrip("-").isdigit() and _plain_digits(whole):
            return whole
    return text if text not in GONE else ""


def _plain_digits(whole: str) -> bool:
    digits = whole.removeprefix("-")
    return digits == "0" or not digits.startswith("0")


def _name_of_other(value: Any) -> str:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, float | np.floating):
        number = float(value)
        if number != number:
            return ""
        return str(int(number)) if number.is_integer() and abs(number) < 1e16 else repr(number)
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, bytes | bytearray | np.bytes_):
        return name_of(bytes(value).decode(errors="replace"))
    if isinstance(value, np.datetime64):
        return "" if np.isnat(value) else str(value).replace("T", " ")
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    return name_of(str(value))
