"""Reading tables from files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from conjoin.errors import FileError
from conjoin.tables.batch import column_of

if TYPE_CHECKING:
    from conjoin.outputs import Array


def read_table(path: str | os.PathLike[str]) -> dict[str, Array]:
    """A batch from a file."""
    import duckdb

    config = {"threads": 2, "autoinstall_known_extensions": False, "autoload_known_extensions": False}
    with duckdb.connect(config=config) as connection:
        try:
            found = connection.read_csv(os.fspath(path)).fetchnumpy()
        except duckdb.Error as error:
            raise FileError(f"{path}: {error}") from error
    return {n: column_of(v, n) for n, v in found.items()}
