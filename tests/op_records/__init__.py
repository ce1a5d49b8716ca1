"""Op records: `RECORDS` maps each op's name to its records; see `record.py`."""

from __future__ import annotations

from . import effects, elementwise, folds, shapes
from .record import Case, Record, Tolerance

RECORDS: dict[str, list[Record]] = {}
for _found in (elementwise, shapes, folds, effects):
    for _record in _found.RECORDS:
        RECORDS.setdefault(_record.op, []).append(_record)

__all__ = ["RECORDS", "Case", "Record", "Tolerance"]
