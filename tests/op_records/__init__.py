"""Op records: `RECORDS` maps each op's name to its records; see `record.py`."""

from __future__ import annotations

from . import comm, control_flow, effects, elementwise, folds, indexing, products, shapes, windows
from .record import Case, Record, Tolerance

RECORDS: dict[str, list[Record]] = {}
for _found in (
    elementwise, shapes, folds, effects, products, windows, indexing, control_flow, comm,
):
    for _record in _found.RECORDS:
        RECORDS.setdefault(_record.op, []).append(_record)

__all__ = ["RECORDS", "Case", "Record", "Tolerance"]
