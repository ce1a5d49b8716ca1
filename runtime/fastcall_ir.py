"""`flowc_fastcall`: a CPython METH_FASTCALL function in LLVM IR, driven by a prefilled record.

`self` is a tuple whose first item is a `bytes` object holding a `Record`; the rest keeps alive all
that the record points at. Arrays are checked through NumPy's C structure, whose layout NumPy
promises to extensions: type and dtype by identity, rank, static sizes, contiguous and aligned. The
dtype objects are singletons, `ml_dtypes`' too. This costs a few ns where the buffer protocol
allocates a format string for each new array.

Results: a list of outputs, `None` (the caller takes the checking path), or `bytes` holding
error_code, error_op and error_detail of the failed run.

`gate`: a word that is 1 while somebody changes the state that the function changes; the caller then
takes the checking path, which waits."""

from __future__ import annotations

import ctypes

from . import callable_ir

_P, _I = ctypes.c_void_p, ctypes.c_int64

RECORD_FIELDS: tuple[tuple[str, type], ...] = (
    ("entry", _P), ("bind", _P), ("workspace_size", _P), ("output_shapes", _P), ("ctx", _P),
    ("buffers", _P), ("dims", _P), ("input_dims", _P), ("output_dims", _P), ("inputs", _P),
    ("outputs", _P), ("n_inputs", _I), ("n_outputs", _I), ("first_output", _I),
    ("release_gil", _I), ("small_bytes", _I), ("none", _P), ("array_type", _P),
    ("byte_descr", _P), ("new_from_descr", _P), ("set_base", _P), ("gate", _P),
)  # fmt: skip


class Record(ctypes.Structure):
    """The call record; `inputs` and `outputs` point at arrays of the structures below."""

    _fields_ = list(RECORD_FIELDS)


class InputEntry(ctypes.Structure):
    """`dims`: int64 per dimension, -1 where any size is legal."""

    _fields_ = [("descr", _P), ("rank", _I), ("dims", _P)]


class OutputEntry(ctypes.Structure):
    """`allocate`: a Python callable, shape as arguments, for outputs of `small_bytes` and more."""

    _fields_ = [("descr", _P), ("rank", _I), ("itemsize", _I), ("allocate", _P)]


class ArrayFields(ctypes.Structure):
    """NumPy's PyArrayObject_fields after the object header."""

    _fields_ = [
        ("data", _P), ("nd", ctypes.c_int), ("dimensions", _P), ("strides", _P), ("base", _P),
        ("descr", _P), ("flags", ctypes.c_int),
    ]  # fmt: skip


FLAGS_NEEDED = 0x0101
"""NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED."""

_TEXT = """
%rec = type { ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, i64, i64, i64, i64, i64, ptr,
              ptr, ptr, ptr, ptr, ptr }
%in = type { ptr, i64, ptr }
%out = type { ptr, i64, i64, ptr }
%array = type { [$HEADER x i8], ptr, i32, ptr, ptr, ptr, ptr, i32 }

declare ptr @PyTuple_GetItem(ptr, i64)
declare ptr @PyBytes_AsString(ptr)
declare ptr @PyBytes_FromStringAndSize(ptr, i64)
declare ptr @PyList_New(i64)
declare i32 @PyList_SetItem(ptr, i64, ptr)
declare ptr @PyTuple_New(i64)
declare i32 @PyTuple_SetItem(ptr, i64, ptr)
declare ptr @PyLong_FromLongLong(i64)
declare ptr @PyObject_CallObject(ptr, ptr)
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare { i64, i1 } @llvm.umul.with.overflow.i64(i64, i64)

; A 64-byte aligned array over fresh bytes. NULL with an exception set when there is no memory.
define internal ptr @flowc_small(ptr %rec, ptr %descr, i32 %rank, ptr %dims, i64 %bytes) {
entry:
  %size = alloca i64
  %padded = add i64 %bytes, 64
  store i64 %padded, ptr %size
  %new = LOAD rec.new_from_descr
  %type = LOAD rec.array_type
  %u8 = LOAD rec.byte_descr
  call void @Py_IncRef(ptr %u8)
  %raw = call ptr %new(ptr %type, ptr %u8, i32 1, ptr %size, ptr null, ptr null, i32 0, ptr null)
  %none = icmp eq ptr %raw, null
  br i1 %none, label %fail, label %align
align:
  %datap = getelementptr %array, ptr %raw, i32 0, i32 1
  %data = load i64, ptr %datap
  %up = add i64 %data, 63
  %aligned = and i64 %up, -64
  %start = inttoptr i64 %aligned to ptr
  call void @Py_IncRef(ptr %descr)
  %view = call ptr %new(ptr %type, ptr %descr, i32 %rank, ptr %dims, ptr null, ptr %start,
                        i32 1281, ptr null)
  %noview = icmp eq ptr %view, null
  br i1 %noview, label %drop, label %link
link:
  %set = LOAD rec.set_base
  %rc = call i32 %set(ptr %view, ptr %raw)
  %bad = icmp ne i32 %rc, 0
  br i1 %bad, label %dropview, label %done
done:
  ret ptr %view
dropview:
  call void @Py_DecRef(ptr %view)
  br label %fail
drop:
  call void @Py_DecRef(ptr %raw)
  br label %fail
fail:
  ret ptr null
}

; allocate(*dims)
define internal ptr @flowc_large(ptr %callable, i64 %rank, ptr %dims) {
entry:
  %shape = call ptr @PyTuple_New(i64 %rank)
  %none = icmp eq ptr %shape, null
  br i1 %none, label %fail, label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %put ]
  %more = icmp slt i64 %i, %rank
  br i1 %more, label %item, label %call
item:
  %dp = getelementptr i64, ptr %dims, i64 %i
  %d = load i64, ptr %dp
  %o = call ptr @PyLong_FromLongLong(i64 %d)
  %noint = icmp eq ptr %o, null
  br i1 %noint, label %drop, label %put
put:
  %rc = call i32 @PyTuple_SetItem(ptr %shape, i64 %i, ptr %o)
  %next = add i64 %i, 1
  br label %loop
call:
  %array = call ptr @PyObject_CallObject(ptr %callable, ptr %shape)
  call void @Py_DecRef(ptr %shape)
  ret ptr %array
drop:
  call void @Py_DecRef(ptr %shape)
  br label %fail
fail:
  ret ptr null
}

; Check the arguments; fill the input pointers and the flattened dims. 1: all right.
define internal i1 @flowc_take(ptr %rec, ptr %args) {
entry:
  %n = LOAD64 rec.n_inputs
  %table = LOAD rec.inputs
  %type = LOAD rec.array_type
  %buffers = LOAD rec.buffers
  %flat = LOAD rec.input_dims
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %accept ]
  %at = phi ptr [ %flat, %entry ], [ %at.next, %accept ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %check, label %yes
check:
  %argp = getelementptr ptr, ptr %args, i64 %i
  %arg = load ptr, ptr %argp
  %typep = getelementptr i8, ptr %arg, i64 $TYPE
  %argtype = load ptr, ptr %typep
  %isarray = icmp eq ptr %argtype, %type
  br i1 %isarray, label %layout, label %no
layout:
  %in.descrp = getelementptr %in, ptr %table, i64 %i, i32 0
  %in.rankp = getelementptr %in, ptr %table, i64 %i, i32 1
  %in.dimsp = getelementptr %in, ptr %table, i64 %i, i32 2
  %in.descr = load ptr, ptr %in.descrp
  %in.rank = load i64, ptr %in.rankp
  %in.dims = load ptr, ptr %in.dimsp
  %ndp = getelementptr %array, ptr %arg, i32 0, i32 2
  %descrp = getelementptr %array, ptr %arg, i32 0, i32 6
  %flagsp = getelementptr %array, ptr %arg, i32 0, i32 7
  %nd = load i32, ptr %ndp
  %descr = load ptr, ptr %descrp
  %flags = load i32, ptr %flagsp
  %rank = sext i32 %nd to i64
  %low = and i32 %flags, $FLAGS
  %okflags = icmp eq i32 %low, $FLAGS
  %okrank = icmp eq i64 %rank, %in.rank
  %okdescr = icmp eq ptr %descr, %in.descr
  %ok1 = and i1 %okflags, %okrank
  %ok2 = and i1 %ok1, %okdescr
  br i1 %ok2, label %sizes, label %no
sizes:
  %dimsp = getelementptr %array, ptr %arg, i32 0, i32 3
  %dims = load ptr, ptr %dimsp
  br label %size
size:
  %j = phi i64 [ 0, %sizes ], [ %j.next, %fits ]
  %morej = icmp slt i64 %j, %rank
  br i1 %morej, label %compare, label %accept
compare:
  %dp = getelementptr i64, ptr %dims, i64 %j
  %sp = getelementptr i64, ptr %in.dims, i64 %j
  %tp = getelementptr i64, ptr %at, i64 %j
  %d = load i64, ptr %dp
  %s = load i64, ptr %sp
  store i64 %d, ptr %tp
  %any = icmp slt i64 %s, 0
  %equal = icmp eq i64 %s, %d
  %ok = or i1 %any, %equal
  br i1 %ok, label %fits, label %no
fits:
  %j.next = add i64 %j, 1
  br label %size
accept:
  %datap = getelementptr %array, ptr %arg, i32 0, i32 1
  %data = load ptr, ptr %datap
  %bp = getelementptr ptr, ptr %buffers, i64 %i
  store ptr %data, ptr %bp
  %at.next = getelementptr i64, ptr %at, i64 %rank
  %i.next = add i64 %i, 1
  br label %loop
yes:
  ret i1 true
no:
  ret i1 false
}

; A list of fresh outputs, their pointers in buffers. NULL with an exception set, or the record's
; None object (borrowed) where a size overflows.
define internal ptr @flowc_make(ptr %rec) {
entry:
  %n = LOAD64 rec.n_outputs
  %table = LOAD rec.outputs
  %buffers = LOAD rec.buffers
  %first = LOAD64 rec.first_output
  %dims = LOAD rec.output_dims
  %limit = LOAD64 rec.small_bytes
  %list = call ptr @PyList_New(i64 %n)
  %nolist = icmp eq ptr %list, null
  br i1 %nolist, label %fail, label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %keep ]
  %at = phi ptr [ %dims, %entry ], [ %at.next, %keep ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %measure, label %yes
measure:
  %descrp = getelementptr %out, ptr %table, i64 %i, i32 0
  %rankp = getelementptr %out, ptr %table, i64 %i, i32 1
  %itemp = getelementptr %out, ptr %table, i64 %i, i32 2
  %allocp = getelementptr %out, ptr %table, i64 %i, i32 3
  %descr = load ptr, ptr %descrp
  %rank = load i64, ptr %rankp
  %item = load i64, ptr %itemp
  br label %size
size:
  %j = phi i64 [ 0, %measure ], [ %j.next, %times ]
  %bytes = phi i64 [ %item, %measure ], [ %bytes.next, %times ]
  %morej = icmp slt i64 %j, %rank
  br i1 %morej, label %dim, label %choose
dim:
  %dp = getelementptr i64, ptr %at, i64 %j
  %d = load i64, ptr %dp
  %negative = icmp slt i64 %d, 0
  br i1 %negative, label %overflow, label %multiply
multiply:
  %pair = call { i64, i1 } @llvm.umul.with.overflow.i64(i64 %bytes, i64 %d)
  %bytes.next = extractvalue { i64, i1 } %pair, 0
  %carry = extractvalue { i64, i1 } %pair, 1
  %high = icmp ugt i64 %bytes.next, 1152921504606846976
  %toobig = or i1 %carry, %high
  br i1 %toobig, label %overflow, label %times
times:
  %j.next = add i64 %j, 1
  br label %size
choose:
  %issmall = icmp slt i64 %bytes, %limit
  br i1 %issmall, label %small, label %large
small:
  %rank32 = trunc i64 %rank to i32
  %a1 = call ptr @flowc_small(ptr %rec, ptr %descr, i32 %rank32, ptr %at, i64 %bytes)
  br label %made
large:
  %alloc = load ptr, ptr %allocp
  %a2 = call ptr @flowc_large(ptr %alloc, i64 %rank, ptr %at)
  br label %made
made:
  %a = phi ptr [ %a1, %small ], [ %a2, %large ]
  %noarray = icmp eq ptr %a, null
  br i1 %noarray, label %drop, label %keep
keep:
  %rc = call i32 @PyList_SetItem(ptr %list, i64 %i, ptr %a)
  %datap = getelementptr %array, ptr %a, i32 0, i32 1
  %data = load ptr, ptr %datap
  %index = add i64 %first, %i
  %bp = getelementptr ptr, ptr %buffers, i64 %index
  store ptr %data, ptr %bp
  %at.next = getelementptr i64, ptr %at, i64 %rank
  %i.next = add i64 %i, 1
  br label %loop
yes:
  ret ptr %list
overflow:
  call void @Py_DecRef(ptr %list)
  %none = LOAD rec.none
  ret ptr %none
drop:
  call void @Py_DecRef(ptr %list)
  br label %fail
fail:
  ret ptr null
}

define ptr @flowc_fastcall(ptr %self, ptr %args, i64 %nargs) {
entry:
  %holder = call ptr @PyTuple_GetItem(ptr %self, i64 0)
  %rec = call ptr @PyBytes_AsString(ptr %holder)
  %gate = LOAD rec.gate
  %open = icmp eq ptr %gate, null
  br i1 %open, label %free, label %try
try:
  %pair = cmpxchg ptr %gate, i32 0, i32 1 acquire monotonic
  %got = extractvalue { i32, i1 } %pair, 1
  br i1 %got, label %alone, label %slow
alone:
  %r1 = call ptr @flowc_enter(ptr %rec, ptr %args, i64 %nargs)
  store atomic i32 0, ptr %gate release, align 4
  ret ptr %r1
free:
  %r2 = call ptr @flowc_enter(ptr %rec, ptr %args, i64 %nargs)
  ret ptr %r2
slow:
  %none = LOAD rec.none
  call void @Py_IncRef(ptr %none)
  ret ptr %none
}

define internal ptr @flowc_enter(ptr %rec, ptr %args, i64 %nargs) {
entry:
  %n = LOAD64 rec.n_inputs
  %count = icmp eq i64 %n, %nargs
  br i1 %count, label %lock, label %slow
lock:
  %ctx = LOAD rec.ctx
  %got = call i32 @flowc_try_lock(ptr %ctx)
  %isgot = icmp ne i32 %got, 0
  br i1 %isgot, label %take, label %slow
take:
  %taken = call i1 @flowc_take(ptr %rec, ptr %args)
  br i1 %taken, label %bind, label %unlock
bind:
  %bindf = LOAD rec.bind
  %flat = LOAD rec.input_dims
  %dims = LOAD rec.dims
  %failed = call i32 %bindf(ptr %flat, ptr %dims)
  %bound = icmp eq i32 %failed, 0
  br i1 %bound, label %size, label %unlock
size:
  %sizef = LOAD rec.workspace_size
  %ctx.workers = FIELD
  %workers = load i32, ptr %ctx.workers
  %bytes = call i64 %sizef(ptr %dims, i32 %workers)
  %wsp = getelementptr %flowc_run_context, ptr %ctx, i32 0, i32 3
  %capp = getelementptr %flowc_run_context, ptr %ctx, i32 0, i32 4
  %ws = load ptr, ptr %wsp
  %cap = load i64, ptr %capp
  %enough = icmp ule i64 %bytes, %cap
  br i1 %enough, label %shapes, label %unlock
shapes:
  %shapesf = LOAD rec.output_shapes
  %outdims = LOAD rec.output_dims
  call void %shapesf(ptr %dims, ptr %outdims)
  %list = call ptr @flowc_make(ptr %rec)
  %nolist = icmp eq ptr %list, null
  br i1 %nolist, label %raise, label %made
made:
  %none1 = LOAD rec.none
  %isnone = icmp eq ptr %list, %none1
  br i1 %isnone, label %unlock, label %run
run:
  %entryf = LOAD rec.entry
  %buffers = LOAD rec.buffers
  %release = LOAD64 rec.release_gil
  %releases = icmp ne i64 %release, 0
  br i1 %releases, label %free, label %held
free:
  %state = call ptr @PyEval_SaveThread()
  %rc1 = call i32 @flowc_run(ptr %ctx, ptr %entryf, ptr %buffers, ptr %dims, ptr %ws)
  call void @PyEval_RestoreThread(ptr %state)
  br label %done
held:
  %rc2 = call i32 @flowc_run(ptr %ctx, ptr %entryf, ptr %buffers, ptr %dims, ptr %ws)
  br label %done
done:
  %rc = phi i32 [ %rc1, %free ], [ %rc2, %held ]
  %ok = icmp eq i32 %rc, 0
  br i1 %ok, label %good, label %bad
good:
  call void @flowc_unlock(ptr %ctx)
  ret ptr %list
bad:
  call void @Py_DecRef(ptr %list)
  %isretry = icmp eq i32 %rc, $RETRY
  br i1 %isretry, label %unlock, label %error
error:
  %ctx.error_code = FIELD
  %report = call ptr @PyBytes_FromStringAndSize(ptr %ctx.error_code, i64 40)
  call void @flowc_unlock(ptr %ctx)
  ret ptr %report
raise:
  call void @flowc_unlock(ptr %ctx)
  ret ptr null
unlock:
  call void @flowc_unlock(ptr %ctx)
  br label %slow
slow:
  %none = LOAD rec.none
  call void @Py_IncRef(ptr %none)
  ret ptr %none
}
"""


def text(retry: int) -> str:
    """The LLVM text, to stand behind `host_ir.module_text`; fields of the context not expanded."""
    fields = {"rec": RECORD_FIELDS, "cell": callable_ir.CELL_FIELDS}
    lines = []
    for line in (_TEXT + callable_ir.TEXT).split("\n"):
        head, found, tail = line.partition(" = LOAD")
        if found:
            kind, path = tail.split()[0], tail.split()[-1]
            of, name = path.split(".")
            index = [n for n, _ in fields[of]].index(name)
            at = f"{head}.at"
            lines.append(f"{at} = getelementptr %{of}, ptr %{of}, i32 0, i32 {index}")
            line = f"{head} = load {'i64' if kind.startswith('64') else 'ptr'}, ptr {at}"
        lines.append(line)
    body = "\n".join(lines)
    header = object.__basicsize__
    type_offset = header - ctypes.sizeof(ctypes.c_void_p)
    for key, value in (("HEADER", header), ("TYPE", type_offset), ("FLAGS", FLAGS_NEEDED)):
        body = body.replace(f"${key}", str(value))
    return body.replace("$RETRY", str(retry))


PYTHON_SYMBOLS = (
    "PyTuple_GetItem", "PyBytes_AsString", "PyBytes_FromStringAndSize", "PyList_New",
    "PyList_SetItem", "PyTuple_New", "PyTuple_SetItem", "PyLong_FromLongLong",
    "PyObject_CallObject", "Py_IncRef", "Py_DecRef", "PyEval_SaveThread", "PyEval_RestoreThread",
    *callable_ir.PYTHON_SYMBOLS,
)  # fmt: skip
