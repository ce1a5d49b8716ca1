"""The one layout of a CPU phase's arguments, which the host function fills and phases read.

    define internal void @PHASE(ptr %args, i64 %chunk, i32 %worker)

    struct args {
        flowc_context *ctx;          // may be NULL
        uint32_t *error_flag;        // never NULL; see decode_error in emit.py; the host zeroes it
        char *scratch;               // worker w owns scratch + w * scratch_stride
        int64_t scratch_stride;      // at least scratch_bytes(kernel), a multiple of 64
        void *buffers[n];            // in kernel.params order: inputs, outputs, scratch
        int64_t dims[m];             // the kernel's symbols, sorted by name
    };
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from flowc.ir import dims
from flowc.ir.dims import Dim
from flowc.ir.kernel.expr import Expr, walk
from flowc.ir.kernel.form import Alloc, Buffer, LoopKernel, Phase, stmt_exprs, walk_stmts

CTX, ERROR_FLAG, SCRATCH, SCRATCH_STRIDE, BUFFERS = range(5)
MAX_STACK = 64 * 1024  # bytes; a larger `local` buffer lies in the worker's scratch
MAX_STACK_TOTAL = 256 * 1024


_symbols: WeakKeyDictionary[LoopKernel, tuple[str, ...]] = WeakKeyDictionary()


def _expr_symbols(exprs: list[Expr]) -> set[str]:
    out: set[str] = set()
    for x in walk(*exprs):
        if x.op == "lin":
            ks, c = x.attr
            for d in (*ks, c):
                out |= dims.symbols(d)
        elif x.op in ("load", "hreduce"):
            buffer = x.attr if x.op == "load" else x.attr[1]
            for d in buffer.shape:
                out |= dims.symbols(d)
    return out


def symbols(kernel: LoopKernel) -> tuple[str, ...]:
    """The kernel's dimension symbols in the order of `dims`; found once a kernel."""
    found = _symbols.get(kernel)
    if found is None:
        found = _symbols[kernel] = _find_symbols(kernel)
    return found


def _find_symbols(kernel: LoopKernel) -> tuple[str, ...]:
    out: set[str] = set()
    for b in kernel.params:
        for d in b.shape:
            out |= dims.symbols(d)
    for phase in kernel.phases:
        for s in walk_stmts(phase.body):
            if isinstance(s, Alloc):
                for d in s.buffer.shape:
                    out |= dims.symbols(d)
        out |= _expr_symbols(stmt_exprs(phase.body))
    return tuple(sorted(out))


def args_words(kernel: LoopKernel) -> int:
    """8-byte words of the args struct."""
    return BUFFERS + len(kernel.params) + len(symbols(kernel))


def buffer_word(kernel: LoopKernel, n: int) -> int:
    """The word that holds the address of kernel.params[n]."""
    return BUFFERS + n


def dim_word(kernel: LoopKernel, symbol: str) -> int:
    """The word that holds a symbol's value."""
    return BUFFERS + len(kernel.params) + symbols(kernel).index(symbol)


def _padded(nbytes: Dim) -> Dim:
    return dims.mul(dims.ceildiv(nbytes, 64), 64)


def footprint(b: Buffer) -> Dim:
    """Bytes of a buffer with its row padding."""
    if not b.shape:
        return b.dtype.size
    return dims.mul(dims.mul(b.strides()[0], b.shape[0]), b.dtype.size)


def scratch_layout(phase: Phase) -> tuple[dict[Buffer, Dim], Dim]:
    """Offsets of the `local` buffers that do not fit on the stack, and their bytes together."""
    offsets: dict[Buffer, Dim] = {}
    total: Dim = 0
    stack = 0
    for s in walk_stmts(phase.body):
        if isinstance(s, Alloc) and s.buffer.scope == "local" and s.buffer not in offsets:
            size = footprint(s.buffer)
            if isinstance(size, int) and size <= MAX_STACK and stack + size <= MAX_STACK_TOTAL:
                stack += size
                continue
            offsets[s.buffer] = total
            total = dims.add(total, _padded(size))
    return offsets, total


def scratch_bytes(kernel: LoopKernel) -> Dim:
    """Bytes of scratch that one worker needs, over all phases; a dimension expression."""
    out: Dim = 0
    for phase in kernel.phases:
        out = dims.maximum(out, scratch_layout(phase)[1])
    return out
