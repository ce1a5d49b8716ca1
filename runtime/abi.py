"""The native ABI: the one place that defines `flowc_context`, error codes and signatures.

`FIELDS` is the layout. The ctypes structure, the C header and the LLVM type are derived from it;
code generators take `LLVM_TYPES` and `field_pointer`, artifacts take `header_text`. The layout is
append-only: a field is added at the cost of one reserved word, and `ABI_VERSION` grows when the
meaning of an old field changes.

A compiled function NAME exports

    int32_t NAME(flowc_context *ctx, void *const *buffers, int64_t *dims, void *workspace);
    int32_t NAME_bind(const int64_t *shapes, int64_t *dims);
    int64_t NAME_workspace_size(const int64_t *dims, int32_t workers);
    void    NAME_output_shapes(const int64_t *dims, int64_t *shapes);

`buffers`: inputs, state, outputs. `NAME_bind` fills `dims` (symbols, then, for sizes that only the
data tells, their bounds) and returns 0 or the 1-based index of the first failed check.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

ABI_VERSION = 1
ALIGNMENT = 64
"""Bytes; every buffer and workspace that flowc allocates starts at a multiple of it."""

RESERVED_WORDS = 6


@dataclass(frozen=True)
class Field:
    """One field: name, C declaration with `{}` for the name, LLVM type, ctypes type, comment."""

    name: str
    c: str
    llvm: str
    ctype: type
    doc: str


def _pointer(name: str, c: str, doc: str) -> Field:
    return Field(name, c, "ptr", ctypes.c_void_p, doc)


def _int32(name: str, doc: str, c: str = "int32_t {}") -> Field:
    return Field(name, c, "i32", ctypes.c_int32, doc)


FIELDS: tuple[Field, ...] = (
    Field("size", "uint32_t {}", "i32", ctypes.c_uint32, "sizeof(flowc_context)"),
    Field("abi_version", "uint32_t {}", "i32", ctypes.c_uint32, "FLOWC_ABI_VERSION"),
    Field("cpu_features", "uint64_t {}", "i64", ctypes.c_uint64, "bit set, 0: baseline"),
    _pointer(
        "parallel_for",
        "void (*{})(struct flowc_context *ctx, int64_t chunks, flowc_chunk_fn fn, void *arg)",
        "NULL: chunks run in order on the caller's thread",
    ),
    _int32("workers", "worker indices are below this; 0 means 1"),
    _int32("cancel", "polled at chunk starts and loop back-edges", "volatile int32_t {}"),
    _int32("error_code", "FLOWC_E_*, 0: none; the caller clears it before a run"),
    _int32("error_op", "id of the failing op; the lowest wins"),
    Field("error_detail", "int64_t {}[4]", "[4 x i64]", ctypes.c_int64 * 4, "by error code"),
    _pointer(
        "trace",
        "void (*{})(struct flowc_context *ctx, int32_t kernel, int32_t begin)",
        "NULL: off",
    ),
    _pointer(
        "host_call",
        "int32_t (*{})(struct flowc_context *ctx, int32_t id, void *const *buffers, "
        "const int64_t *dims)",
        "0: ok",
    ),
    _pointer(
        "grow",
        "void *(*{})(struct flowc_context *ctx, int32_t slot, int64_t bytes)",
        "storage of a loop stack, at least `bytes`, contents kept; NULL: no memory",
    ),
    _pointer("user", "void *{}", "the caller's"),
    _pointer("pool", "void *{}", "memory given to flowc_pool_init, for flowc_parallel_for"),
    _int32("error_lock", "guards the error fields; start with 0"),
    _int32("reserved0", "0"),
    Field(
        "reserved",
        f"void *{{}}[{RESERVED_WORDS}]",
        f"[{RESERVED_WORDS} x ptr]",
        ctypes.c_void_p * RESERVED_WORDS,
        "0",
    ),
)

INDEX: dict[str, int] = {f.name: i for i, f in enumerate(FIELDS)}
"""Field name to index, for `getelementptr`."""


class ContextStruct(ctypes.Structure):
    """`flowc_context` for the host."""

    _fields_ = [(f.name, f.ctype) for f in FIELDS]


LLVM_TYPES = f"%flowc_context = type {{ {', '.join(f.llvm for f in FIELDS)} }}\n"


def field_pointer(result: str, ctx: str, name: str) -> str:
    """LLVM text: `result = address of ctx->name`. Both are value names with their sigil."""
    return f"{result} = getelementptr inbounds %flowc_context, ptr {ctx}, i32 0, i32 {INDEX[name]}"


@dataclass(frozen=True)
class ErrorCode:
    """`template` is formatted with d0..d3 (`error_detail`) and `message` (of the manifest's op)."""

    code: int
    name: str
    template: str
    error: str


ERROR_CODES: tuple[ErrorCode, ...] = (
    ErrorCode(1, "FLOWC_E_DIVISION", "integer division by zero", "InvalidArgumentError"),
    ErrorCode(2, "FLOWC_E_INDEX", "index {d0} is out of range [0, {d1})", "InvalidArgumentError"),
    ErrorCode(3, "FLOWC_E_CANCELLED", "the run was cancelled", "CancelledError"),
    ErrorCode(4, "FLOWC_E_ASSERT", "assertion failed", "InvalidArgumentError"),
    ErrorCode(5, "FLOWC_E_OVERFLOW", "a size overflows 64 bits", "InvalidArgumentError"),
    ErrorCode(6, "FLOWC_E_MEMORY", "out of memory", "ResourceExhaustedError"),
    ErrorCode(7, "FLOWC_E_HOST", "a host call failed", "UnknownError"),
    ErrorCode(8, "FLOWC_E_CHECK", "shape check failed", "InvalidArgumentError"),
)

BY_CODE: dict[int, ErrorCode] = {e.code: e for e in ERROR_CODES}

E_DIVISION, E_INDEX, E_CANCELLED, E_ASSERT, E_OVERFLOW, E_MEMORY, E_HOST, E_CHECK = range(1, 9)


def error_helper() -> str:
    """LLVM text of `@flowc_fail(ctx, code, op, d0, d1, d2, d3)`, linkage internal.

    Records an error in the context: the lowest op id wins, for one op the lowest `d0`, so that the
    report does not depend on the number of threads. A NULL context is ignored. The caller still
    has to return the code. Needs `LLVM_TYPES` in the same module.
    """
    gep = field_pointer
    details = "\n".join(
        f"  %dp{i} = getelementptr inbounds [4 x i64], ptr %detail, i32 0, i32 {i}\n"
        f"  store i64 %d{i}, ptr %dp{i}"
        for i in range(4)
    )
    return f"""
define internal void @flowc_fail(ptr %ctx, i32 %code, i32 %op, i64 %d0, i64 %d1, i64 %d2, i64 %d3)
    noinline cold nounwind {{
entry:
  %none = icmp eq ptr %ctx, null
  br i1 %none, label %out, label %start
start:
  {gep("%lock", "%ctx", "error_lock")}
  {gep("%codep", "%ctx", "error_code")}
  {gep("%opp", "%ctx", "error_op")}
  {gep("%detail", "%ctx", "error_detail")}
  br label %spin
spin:
  %pair = cmpxchg ptr %lock, i32 0, i32 1 acquire monotonic
  %got = extractvalue {{ i32, i1 }} %pair, 1
  br i1 %got, label %locked, label %spin
locked:
  %old = load i32, ptr %codep
  %oldop = load i32, ptr %opp
  %olddetail = load i64, ptr %detail
  %first = icmp eq i32 %old, 0
  %lower = icmp slt i32 %op, %oldop
  %same = icmp eq i32 %op, %oldop
  %smaller = icmp slt i64 %d0, %olddetail
  %tie = and i1 %same, %smaller
  %beats = or i1 %lower, %tie
  %wins = or i1 %first, %beats
  br i1 %wins, label %write, label %unlock
write:
  store i32 %code, ptr %codep
  store i32 %op, ptr %opp
{details}
  br label %unlock
unlock:
  store atomic i32 0, ptr %lock release, align 4
  br label %out
out:
  ret void
}}
"""


def header_text(guard: str = "FLOWC_ABI_H") -> str:
    """The C header of the ABI: context, error codes, pool functions. C99 and C++."""
    fields = "\n".join(f"  {f.c.format(f.name)};  /* {f.doc} */" for f in FIELDS)
    codes = "\n".join(f"#define {e.name} {e.code}" for e in ERROR_CODES)
    return f"""#ifndef {guard}
#define {guard}

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define FLOWC_ABI_VERSION {ABI_VERSION}
#define FLOWC_ALIGNMENT {ALIGNMENT}

{codes}

typedef void (*flowc_chunk_fn)(void *arg, int64_t chunk, int32_t worker);

/* Zero it, set size and abi_version, and what you need of the rest. One run at a time. */
typedef struct flowc_context {{
{fields}
}} flowc_context;

/* A thread pool in the caller's memory (FLOWC_ALIGNMENT-aligned, flowc_pool_size(n) bytes), n
   threads with the caller's. Set ctx.pool, ctx.workers and ctx.parallel_for = flowc_parallel_for.
   flowc_pool_init returns the number of threads (>= 1); flowc_pool_destroy 0, or 1 if in use. */
int64_t flowc_pool_size(int32_t n);
int32_t flowc_pool_init(void *mem, int32_t n);
int32_t flowc_pool_destroy(void *mem);
void flowc_parallel_for(flowc_context *ctx, int64_t chunks, flowc_chunk_fn fn, void *arg);

#ifdef __cplusplus
}}
#endif

#endif
"""
