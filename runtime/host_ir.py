"""Native helpers of the Python runtime, as LLVM IR text (64-bit Linux hosts).

- `flowc_run`: clears a context and calls an entry; on the main thread it names the context to the
  SIGINT handler first.
- `flowc_interrupt_*`: the handler sets `cancel` in the context that the main thread runs and calls
  Python's own handler after it, so that KeyboardInterrupt follows. A signal that comes before the
  context is named leaves `pending`; `flowc_run` then refuses with `RETRY`, and the Python code
  around it lets the interpreter deliver the signal. Python's `signal.signal` replaces the handler:
  a program that handles SIGINT itself is not cut short.
- `flowc_grow`: storage of loop stacks. `flowc_fastcall`: see `fastcall_ir`.
"""

from __future__ import annotations

from .abi import LLVM_TYPES, field_pointer

RETRY = -1
SLOTS = 256

RUN_TYPES = f"""{LLVM_TYPES}
%flowc_slot = type {{ ptr, i64 }}
%flowc_run_context = type {{ %flowc_context, i32, i32, ptr, i64, [{SLOTS} x %flowc_slot] }}
"""

_TEXT = """
@flowc_active = internal global ptr null
@flowc_pending = internal global i32 0
@flowc_main = internal global i64 0
@flowc_previous = internal global ptr null

declare i64 @pthread_self() nounwind
declare i32 @sigaction(i32, ptr, ptr) nounwind
declare ptr @aligned_alloc(i64, i64) nounwind
declare void @free(ptr) nounwind
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

define i32 @flowc_try_lock(ptr %ctx) nounwind {
  %lock = getelementptr %flowc_run_context, ptr %ctx, i32 0, i32 1
  %rc = call i32 @flowc_take_word(ptr %lock, i32 1)
  ret i32 %rc
}

define i32 @flowc_take_word(ptr %word, i32 %mark) nounwind {
  %pair = cmpxchg ptr %word, i32 0, i32 %mark acquire monotonic
  %got = extractvalue { i32, i1 } %pair, 1
  %rc = zext i1 %got to i32
  ret i32 %rc
}

define void @flowc_unlock(ptr %ctx) nounwind {
  %lock = getelementptr %flowc_run_context, ptr %ctx, i32 0, i32 1
  store atomic i32 0, ptr %lock release, align 4
  ret void
}

define i32 @flowc_run(ptr %ctx, ptr %function, ptr %buffers, ptr %dims, ptr %workspace) {
entry:
  %ctx.error_code = FIELD
  %ctx.error_op = FIELD
  %ctx.cancel = FIELD
  store i32 0, ptr %ctx.error_code
  store i32 0, ptr %ctx.error_op
  store atomic i32 0, ptr %ctx.cancel seq_cst, align 4
  %self = call i64 @pthread_self()
  %main = load i64, ptr @flowc_main
  %ismain = icmp eq i64 %self, %main
  br i1 %ismain, label %name, label %plain
name:
  %previous = load ptr, ptr @flowc_active
  store atomic ptr %ctx, ptr @flowc_active seq_cst, align 8
  %pending = load atomic i32, ptr @flowc_pending seq_cst, align 4
  %refuses = icmp ne i32 %pending, 0
  br i1 %refuses, label %refuse, label %run
refuse:
  store atomic ptr %previous, ptr @flowc_active seq_cst, align 8
  ret i32 $RETRY
run:
  %rc1 = call i32 %function(ptr %ctx, ptr %buffers, ptr %dims, ptr %workspace)
  store atomic ptr %previous, ptr @flowc_active seq_cst, align 8
  br label %done
plain:
  %rc2 = call i32 %function(ptr %ctx, ptr %buffers, ptr %dims, ptr %workspace)
  br label %done
done:
  %rc = phi i32 [ %rc1, %run ], [ %rc2, %plain ]
  %code = load i32, ptr %ctx.error_code
  %both = or i32 %rc, %code
  %ok = icmp eq i32 %both, 0
  br i1 %ok, label %fine, label %failed
fine:
  ret i32 0
failed:
  %recorded = icmp ne i32 %code, 0
  br i1 %recorded, label %known, label %unknown
known:
  ret i32 %code
unknown:
  store i32 %rc, ptr %ctx.error_code
  store i32 -1, ptr %ctx.error_op
  ret i32 %rc
}

define internal void @flowc_on_sigint(i32 %signal, ptr %info, ptr %ucontext) nounwind {
entry:
  store atomic i32 1, ptr @flowc_pending seq_cst, align 4
  %ctx = load atomic ptr, ptr @flowc_active seq_cst, align 8
  %idle = icmp eq ptr %ctx, null
  br i1 %idle, label %chain, label %set
set:
  %ctx.cancel = FIELD
  store atomic i32 1, ptr %ctx.cancel seq_cst, align 4
  br label %chain
chain:
  %previous = load ptr, ptr @flowc_previous
  call void %previous(i32 %signal, ptr %info, ptr %ucontext)
  ret void
}

; struct sigaction: handler, 128 bytes of mask, flags, restorer. Returns 1 when installed.
define i32 @flowc_interrupt_install(i64 %main) nounwind {
entry:
  %action = alloca [160 x i8], align 16
  store i64 %main, ptr @flowc_main
  %rc = call i32 @sigaction(i32 2, ptr null, ptr %action)
  %bad = icmp ne i32 %rc, 0
  br i1 %bad, label %no, label %got
got:
  %handler = load ptr, ptr %action
  %value = ptrtoint ptr %handler to i64
  %default = icmp ult i64 %value, 2
  br i1 %default, label %no, label %known
known:
  %ours = icmp eq ptr %handler, @flowc_on_sigint
  br i1 %ours, label %yes, label %install
install:
  store ptr %handler, ptr @flowc_previous
  store ptr @flowc_on_sigint, ptr %action
  %flagsp = getelementptr i8, ptr %action, i64 136
  %flags = load i32, ptr %flagsp
  %flags2 = or i32 %flags, 4
  store i32 %flags2, ptr %flagsp
  %rc2 = call i32 @sigaction(i32 2, ptr %action, ptr null)
  %bad2 = icmp ne i32 %rc2, 0
  br i1 %bad2, label %no, label %yes
yes:
  ret i32 1
no:
  ret i32 0
}

define void @flowc_interrupt_clear() nounwind {
  store atomic i32 0, ptr @flowc_pending seq_cst, align 4
  ret void
}

define ptr @flowc_grow(ptr %ctx, i32 %slot, i64 %bytes) nounwind {
entry:
  %low = icmp ult i32 %slot, $SLOTS
  %positive = icmp ult i64 %bytes, 4611686018427387904
  %valid = and i1 %low, %positive
  br i1 %valid, label %look, label %fail
look:
  %at = getelementptr %flowc_run_context, ptr %ctx, i32 0, i32 5, i32 %slot
  %capp = getelementptr %flowc_slot, ptr %at, i32 0, i32 1
  %old = load ptr, ptr %at
  %cap = load i64, ptr %capp
  %empty = icmp eq ptr %old, null
  %small = icmp ult i64 %cap, %bytes
  %must = or i1 %empty, %small
  br i1 %must, label %make, label %keep
keep:
  ret ptr %old
make:
  %twice = shl i64 %cap, 1
  %less = icmp ult i64 %bytes, %twice
  %want = select i1 %less, i64 %twice, i64 %bytes
  %padded = add i64 %want, 127
  %rounded = and i64 %padded, -64
  %new = call ptr @aligned_alloc(i64 64, i64 %rounded)
  %none = icmp eq ptr %new, null
  br i1 %none, label %fail, label %copy
copy:
  call void @llvm.memcpy.p0.p0.i64(ptr %new, ptr %old, i64 %cap, i1 false)
  call void @free(ptr %old)
  store ptr %new, ptr %at
  store i64 %rounded, ptr %capp
  ret ptr %new
fail:
  ret ptr null
}

define void @flowc_slots_free(ptr %ctx) nounwind {
entry:
  br label %loop
loop:
  %i = phi i32 [ 0, %entry ], [ %next, %loop ]
  %at = getelementptr %flowc_run_context, ptr %ctx, i32 0, i32 5, i32 %i
  %capp = getelementptr %flowc_slot, ptr %at, i32 0, i32 1
  %old = load ptr, ptr %at
  call void @free(ptr %old)
  store ptr null, ptr %at
  store i64 0, ptr %capp
  %next = add i32 %i, 1
  %more = icmp ult i32 %next, $SLOTS
  br i1 %more, label %loop, label %out
out:
  ret void
}
"""


def expand_fields(text: str) -> str:
    """Replace `%ctx.NAME = FIELD` by the address computation of that context field."""
    lines = text.split("\n")
    for i, line in enumerate(lines):
        head, found, _ = line.partition(" = FIELD")
        if found:
            result = head.strip()
            lines[i] = "  " + field_pointer(result, "%ctx", result.split(".", 1)[1])
    return "\n".join(lines)


def module_text() -> str:
    """Types, run, interrupt and grow; `fastcall_ir.text` is appended to it."""
    body = expand_fields(_TEXT).replace("$RETRY", str(RETRY)).replace("$SLOTS", str(SLOTS))
    return RUN_TYPES + body
