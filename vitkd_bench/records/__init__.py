"""The store: atomic writes, schema versions, locks, one table from many files; status."""

from vitkd_bench.records.files import write_atomically
from vitkd_bench.records.locks import Lock, this_process
from vitkd_bench.records.preparations import Preparations
from vitkd_bench.records.status import StatusRow, StatusTable, stale_records, status
from vitkd_bench.records.store import Store
from vitkd_bench.records.table import table

__all__ = [
    "Lock",
    "Preparations",
    "StatusRow",
    "StatusTable",
    "Store",
    "stale_records",
    "status",
    "table",
    "this_process",
    "write_atomically",
]
