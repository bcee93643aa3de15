"""Tables in and out: dataframes and files become batches, batches become the feeds of a graph."""

from __future__ import annotations

from conjoin.tables.batch import TableWarning, batch_of
from conjoin.tables.columns import columns_of
from conjoin.tables.conform import conform
from conjoin.tables.files import read_table, stream_table
from conjoin.tables.words import name_of
from conjoin.tables.write import TableWriter, write_table

__all__ = [
    "TableWarning",
    "TableWriter",
    "batch_of",
    "columns_of",
    "conform",
    "name_of",
    "read_table",
    "stream_table",
    "write_table",
]
