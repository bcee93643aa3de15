"""Tables in and out: dataframes and files become batches, batches become the feeds of a graph."""

from __future__ import annotations

from conjoin.tables.batch import TableWarning, batch_of
from conjoin.tables.columns import columns_of
from conjoin.tables.conform import conform
from conjoin.tables.files import read_table
from conjoin.tables.words import name_of

__all__ = ["TableWarning", "batch_of", "columns_of", "conform", "name_of", "read_table"]
