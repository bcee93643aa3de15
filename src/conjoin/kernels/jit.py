"""`jit`: compile a loop over arrays when it is first called, and keep the machine code on disk."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])
BLAS = "scipy.linalg.cython_blas"


def _spare_scipy() -> None:
    """Keep numba from loading scipy.linalg when it starts: 0.2 s, to learn whether there is a BLAS.

    Only `np.dot` in compiled code needs one. Other people's compiled code still finds it: numba asks again
    when it compiles that.
    """
    if BLAS in sys.modules or importlib.util.find_spec("scipy") is None:
        return
    sys.modules[BLAS] = cast(Any, None)
    try:
        found = importlib.import_module("numba.np.arraymath")
    except ImportError:  # another numba keeps it elsewhere
        return
    finally:
        del sys.modules[BLAS]
    if "_HAVE_BLAS" in vars(found):
        vars(found)["_HAVE_BLAS"] = True


_spare_scipy()


def jit(function: F) -> F:
    """The function, compiled by numba: without the interpreter's lock, with IEEE arithmetic (no fast-math).

    Machine code is kept beside the source, else in the user's cache folder (or in NUMBA_CACHE_DIR), so that
    only the first process on a machine compiles. Where no folder can be written, each process compiles.

    >>> @jit
    ... def total(x):
    ...     s = 0.0
    ...     for v in x:
    ...         s += v
    ...     return s
    >>> import numpy as np
    >>> total(np.ones(3))
    3.0
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return cast(F, numba.njit(cache=True, **options)(function))
    except RuntimeError:  # numba found no folder for its cache
        return cast(F, numba.njit(**options)(function))


def inner(function: F) -> F:
    """As `jit`, for a function that only compiled functions call: no entry from Python is made for it.

    That saves a quarter of the compiler's time where arguments are many arrays. Its machine code is kept with
    that of its callers.

    >>> @inner
    ... def twice(x):
    ...     return 2 * x
    >>> @jit
    ... def four_times(x):
    ...     return twice(twice(x))
    >>> four_times(1.5)
    6.0
    """
    options = {"nogil": True, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast(F, numba.njit(**options)(function))
