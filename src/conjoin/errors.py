"""Every error that conjoin raises on purpose.

ConjoinError
├── InputError            the caller's data or arguments are wrong                    exit 2   HTTP 400
│   ├── ColumnError       a column is missing, doubled or of the wrong type           exit 2   HTTP 400
│   ├── TruthError        the target cannot be learned or scored                      exit 2   HTTP 400
│   ├── OutputsError      outputs that are to be fused or scored do not fit together  exit 2   HTTP 400
│   └── FileError         a file cannot be read or written                            exit 3   HTTP 400
├── BundleError           a bundle is damaged, hostile, or from a later format        exit 4   HTTP 500
├── MemberError           a member raised, or answered something else than its card   exit 5   HTTP 502
├── NotExportableError    a member or fuser has no ONNX form                          exit 6   HTTP 501
├── MissingExtraError     an optional dependency is not installed                     exit 7   HTTP 501
└── StoppedError          the work was interrupted before there was anything to keep  exit 130 HTTP 503

A message says what was wrong, what was given, and what to do.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import re
from collections.abc import Iterable
from types import ModuleType
from typing import ClassVar


class ConjoinError(Exception):
    """Root of the tree; `exit_status` is for the command line, `http_status` for a service."""

    exit_status: ClassVar[int] = 1
    http_status: ClassVar[int] = 500


class InputError(ConjoinError, ValueError):
    """The caller's data or arguments are wrong."""

    exit_status = 2
    http_status = 400


class ColumnError(InputError):
    """A column is missing, doubled or of the wrong type."""


class TruthError(InputError):
    """The target cannot be learned or scored: all missing, one class, not numbers."""


class OutputsError(InputError):
    """Outputs that are to be fused or scored do not fit together."""


class FileError(InputError):
    """A file cannot be read or written."""

    exit_status = 3


class BundleError(ConjoinError):
    """A bundle is damaged, hostile, or from a later format."""

    exit_status = 4


class MemberError(ConjoinError, RuntimeError):
    """A member raised, or answered something else than its card says."""

    exit_status = 5
    http_status = 502


class NotExportableError(ConjoinError, TypeError):
    """A member or fuser has no ONNX form."""

    exit_status = 6
    http_status = 501


class MissingExtraError(ConjoinError, ImportError):
    """An optional dependency is not installed."""

    exit_status = 7
    http_status = 501


class StoppedError(ConjoinError):
    """The work was interrupted before there was anything to keep."""

    exit_status = 130
    http_status = 503


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: "; did you mean 'status'?", or an empty string.

    >>> nearest("statsu", ["status", "age"])
    "; did you mean 'status'?"
    >>> nearest("zzz", ["status", "age"])
    ''
    """
    known = list(known)
    folded = {k.casefold(): k for k in known}
    hits = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[hits[0]]!r}?" if hits else ""


def listed(names: Iterable[object], most: int = 12) -> str:
    """Names in a row for a message, cut to a readable length.

    >>> listed(["a", "b"])
    'a, b'
    >>> listed(range(20), most=3)
    '0, 1, 2 and 17 more'
    """
    shown = [str(n) for n in names]
    rest = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {rest} more" if rest > 0 else "")


def need(module: str) -> ModuleType:
    """Import an optional dependency, or say which extra of conjoin brings it.

    The extra is read from the package's own metadata, so the message cannot go stale.
    Raises MissingExtraError.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise
        extra = _extra_of(top)
        how = f"pip install 'conjoin[{extra}]'" if extra else f"pip install {top}"
        raise MissingExtraError(f"this needs {top}, which is not installed: {how}") from error


_DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "xgboost": "xgboost-cpu",
    "vl_convert": "vl-convert-python",
    "PIL": "pillow",
}


def _extra_of(top: str) -> str | None:
    wanted = _DISTRIBUTIONS.get(top, top).replace("_", "-").lower()
    try:
        lines = importlib.metadata.requires("conjoin") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    extras: dict[str, set[str]] = {}
    for line in lines:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", line)
        if name and extra:
            extras.setdefault(extra.group(1), set()).add(name.group().replace("_", "-").lower())
    holding = [e for e, names in extras.items() if wanted in names]
    return min(holding, key=lambda e: (len(extras[e]), e), default=None)


def printable(value: object) -> str:
    """Text without control characters: a name in a file cannot command a terminal.

    >>> printable("a" + chr(27) + "[31mb")
    'a�[31mb'
    """
    return "".join(
        c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in str(value)
    )


def bytes_text(count: int) -> str:
    """A length for people.

    >>> bytes_text(1_234_567)
    '1.2 MB'
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def seconds_text(seconds: float) -> str:
    """A time for people.

    >>> seconds_text(0.000_012_3)
    '12.3 µs'
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
