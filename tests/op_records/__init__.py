"""Op records: `RECORDS` maps each op's name to its records; see `record.py`."""

from __future__ import annotations

from . import elementwise
from .record import Case, Record, Tolerance

RECORDS: dict[str, list[Record]] = {}
for _found in (elementwise,):
    for _record in _found.RECORDS:
        RECORDS.setdefault(_record.op, []).append(_record)

__all__ = ["RECORDS", "Case", "Record", "Tolerance"]
