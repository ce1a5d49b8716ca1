"""`flowc_callable`: the builtin that `make_callable` returns, in LLVM IR.

`self` is a tuple whose first item is a `bytes` object holding the address of a `Cell`. The cell
names the compiled entry of the day (`fastcall_ir`), so that no Python code runs between the user's
call and the entry; what the entry refuses goes to a Python function.
"""

from __future__ import annotations

import ctypes

_P, _I = ctypes.c_void_p, ctypes.c_int64

CELL_FIELDS: tuple[tuple[str, type], ...] = (
    ("owner", _P), ("record", _P), ("mode", _I), ("finish", _P), ("slow", _P), ("fail", _P),
    ("list_type", _P), ("none", _P),
)  # fmt: skip


class Cell(ctypes.Structure):
    """What a callable runs. owner: the entry's builtin, NULL where there is none; record: its self.

    mode: what becomes of the list of outputs: 0 nothing, 1 its only item, 2 what `finish` says.
    slow: takes the arguments where the entry refuses; fail: raises what an error report says.
    """

    _fields_ = list(CELL_FIELDS)


NOTHING, ONE, NESTED = range(3)
"""The modes of a cell."""

TEXT = """
%cell = type { ptr, ptr, i64, ptr, ptr, ptr, ptr, ptr }

declare ptr @PyObject_CallFunctionObjArgs(ptr, ...)
declare ptr @PyObject_Vectorcall(ptr, ptr, i64, ptr)
declare ptr @PyList_GetItem(ptr, i64)

; What a callable does: the entry that its cell names, and what is made of the entry's outputs.
define ptr @flowc_callable(ptr %self, ptr %args, i64 %nargs) {
entry:
  %holder = call ptr @PyTuple_GetItem(ptr %self, i64 0)
  %cellp = call ptr @PyBytes_AsString(ptr %holder)
  %cell = load ptr, ptr %cellp
  %owner = LOAD cell.owner
  %unset = icmp eq ptr %owner, null
  br i1 %unset, label %slow, label %enter
enter:
  %record = LOAD cell.record
  %mode = LOAD64 cell.mode
  %finish = LOAD cell.finish
  %none = LOAD cell.none
  call void @Py_IncRef(ptr %owner)
  call void @Py_IncRef(ptr %finish)
  %out = call ptr @flowc_fastcall(ptr %record, ptr %args, i64 %nargs)
  %failed = icmp eq ptr %out, null
  br i1 %failed, label %leave, label %look
look:
  %refused = icmp eq ptr %out, %none
  br i1 %refused, label %retry, label %kind
retry:
  call void @Py_DecRef(ptr %none)
  %again = call ptr @flowc_slow(ptr %cell, ptr %args, i64 %nargs)
  br label %leave
kind:
  %typep = getelementptr i8, ptr %out, i64 $TYPE
  %type = load ptr, ptr %typep
  %list = LOAD cell.list_type
  %islist = icmp eq ptr %type, %list
  br i1 %islist, label %nest, label %report
report:
  %fail = LOAD cell.fail
  %raised = call ptr @PyObject_CallFunctionObjArgs(ptr %fail, ptr %out, ptr null)
  br label %drop
nest:
  switch i64 %mode, label %python [ i64 0, label %nothing i64 1, label %one ]
nothing:
  call void @Py_IncRef(ptr %none)
  br label %drop
one:
  %item = call ptr @PyList_GetItem(ptr %out, i64 0)
  call void @Py_IncRef(ptr %item)
  br label %drop
python:
  %nested = call ptr @PyObject_CallFunctionObjArgs(ptr %finish, ptr %out, ptr null)
  br label %drop
drop:
  %made = phi ptr [ %raised, %report ], [ %none, %nothing ], [ %item, %one ], [ %nested, %python ]
  call void @Py_DecRef(ptr %out)
  br label %leave
leave:
  %result = phi ptr [ null, %enter ], [ %again, %retry ], [ %made, %drop ]
  call void @Py_DecRef(ptr %finish)
  call void @Py_DecRef(ptr %owner)
  ret ptr %result
slow:
  %by = call ptr @flowc_slow(ptr %cell, ptr %args, i64 %nargs)
  ret ptr %by
}

; The Python function behind a callable.
define internal ptr @flowc_slow(ptr %cell, ptr %args, i64 %nargs) {
  %slow = LOAD cell.slow
  %result = call ptr @PyObject_Vectorcall(ptr %slow, ptr %args, i64 %nargs, ptr null)
  ret ptr %result
}
"""

PYTHON_SYMBOLS = ("PyObject_CallFunctionObjArgs", "PyObject_Vectorcall", "PyList_GetItem")
