"""A pytest plugin: numba's typed lists, in which ranx's tests wrap their arguments, are plain lists here."""

import numba.typed

numba.typed.List = list
