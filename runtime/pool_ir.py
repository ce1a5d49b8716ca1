"""The thread pool as LLVM IR text: it serves Python and ahead-of-time artifacts alike (Linux).

A job is a word: bit 31 says closed, the rest counts the workers inside. The caller publishes a
job, opens it, takes part, closes it when the chunks have run out and waits for those inside only:
a worker that wakes late finds it closed, so a slow wake-up never delays anybody. Waiting spins at
most 4,000 pauses with a `sched_yield` every 32 (more collapses when threads share a core), then
sleeps in a futex. Fork is seen by a page that the kernel wipes in the child (MADV_WIPEONFORK), or,
where that is missing, by the process id; the child's first parallel_for starts its own threads.
"""

from __future__ import annotations

from dataclasses import dataclass

from .abi import LLVM_TYPES, field_pointer
from .errors import UnimplementedError
from .pool_life_ir import DECLARATIONS, FORK, LIFE

SPINS = 4000
YIELD_MASK = 31
HEADER_BYTES = 320
RECORD_BYTES = 64

# Byte offsets in the pool. Words written by different threads are on different cache lines.
_OFFSETS = {
    "busy": 0, "n": 4, "pid": 8, "stop": 12, "page": 16, "owner": 24, "wanted": 32,
    "epoch": 64, "sleepers": 68, "next": 128, "job": 192, "caller_sleeps": 196,
    "ctx": 256, "fn": 264, "arg": 272, "chunks": 280,
}  # fmt: skip


@dataclass(frozen=True)
class _Arch:
    word: str
    futex: int
    pause: str
    declare: str


_X86 = ("call void @llvm.x86.sse2.pause()", "declare void @llvm.x86.sse2.pause()")
_A64 = ("call void @llvm.aarch64.hint(i32 1)", "declare void @llvm.aarch64.hint(i32)")
_ARM = ("call void @llvm.arm.hint(i32 1)", "declare void @llvm.arm.hint(i32)")
_ARCHS = {
    "x86_64": _Arch("i64", 202, *_X86),
    "i686": _Arch("i32", 240, *_X86),
    "aarch64": _Arch("i64", 98, *_A64),
    "armv7": _Arch("i32", 240, *_ARM),
    "riscv64": _Arch("i64", 98, "", ""),
}


def _arch(triple: str) -> _Arch:
    name = triple.split("-", 1)[0]
    key = next((k for k in _ARCHS if name.startswith(k)), None)
    if key is None or "linux" not in triple:
        raise UnimplementedError(f"no thread pool for {triple}: Linux on {', '.join(_ARCHS)} only")
    return _ARCHS[key]


def supports(triple: str) -> bool:
    """Whether `module_text` has a pool for this target."""
    try:
        return bool(_arch(triple))
    except UnimplementedError:
        return False


def module_text(triple: str) -> str:
    """A whole module defining flowc_pool_size, _init, _destroy and flowc_parallel_for.

    Raises UnimplementedError for targets other than Linux on the architectures listed here.
    """
    arch = _arch(triple)
    text = "\n".join((DECLARATIONS, LIFE, _WORKER, FORK, _PARALLEL))
    for name, offset in _OFFSETS.items():
        text = text.replace(f"$&{name}\n", f"getelementptr i8, ptr %pool, i64 {offset}\n")
    for name in ("pool", "cancel", "workers"):
        text = text.replace(f"%ctx.{name} = FIELD", field_pointer(f"%ctx.{name}", "%ctx", name))
    # Signals that a fault raises stay open in the workers; all others go to the program's threads.
    signals = (1 << 64) - 1 - sum(1 << (s - 1) for s in (4, 5, 6, 7, 8, 11))
    substitutions = {
        "WORD": arch.word,
        "WIDEN": "zext i32 %w to i64" if arch.word == "i32" else "add i64 %w, 0",
        "PAUSE": arch.pause,
        "DECLARE_HINT": arch.declare,
        "FUTEX": str(arch.futex),
        "SPINS": str(SPINS),
        "YIELDMASK": str(YIELD_MASK),
        "HEADER": str(HEADER_BYTES),
        "RECORD": str(RECORD_BYTES),
        "SIGNALS": str(signals - (1 << 64)),
        "CLOSED1": str(-(1 << 31) + 1),
        "CLOSED": str(-(1 << 31)),
    }
    for key, value in substitutions.items():
        text = text.replace(f"${key}", value)
    return f'target triple = "{triple}"\n{LLVM_TYPES}{text}'


_WORKER = """
; Claim and run chunks until none is left or the run is cancelled.
define internal void @flowc_drain(ptr %pool, ptr %ctx, i32 %worker) nounwind {
entry:
  %p.fn = $&fn
  %p.arg = $&arg
  %p.chunks = $&chunks
  %p.next = $&next
  %fn = load ptr, ptr %p.fn
  %arg = load ptr, ptr %p.arg
  %chunks = load i64, ptr %p.chunks
  %ctx.cancel = FIELD
  br label %loop
loop:
  %cancel = load atomic i32, ptr %ctx.cancel monotonic, align 4
  %cancelled = icmp ne i32 %cancel, 0
  br i1 %cancelled, label %out, label %claim
claim:
  %w = atomicrmw add ptr %p.next, $WORD 1 monotonic
  %chunk = $WIDEN
  %more = icmp ult i64 %chunk, %chunks
  br i1 %more, label %run, label %out
run:
  call void %fn(ptr %arg, i64 %chunk, i32 %worker)
  br label %loop
out:
  ret void
}

define internal ptr @flowc_worker(ptr %record) nounwind {
entry:
  %pool = load ptr, ptr %record
  %p.index = getelementptr i8, ptr %record, i64 8
  %index = load i32, ptr %p.index
  %p.self = getelementptr i8, ptr %record, i64 24
  %self = call $WORD @pthread_self()
  store atomic $WORD %self, ptr %p.self monotonic, align 8
  %p.epoch = $&epoch
  %p.sleepers = $&sleepers
  %p.stop = $&stop
  %p.job = $&job
  %p.caller_sleeps = $&caller_sleeps
  %p.ctx = $&ctx
  br label %outer
outer:
  %seen = phi i32 [ 0, %entry ], [ %seen, %woken ], [ %e, %closed ], [ %e, %leave ], [ %e, %wake ]
  br label %spin
spin:
  %i = phi i32 [ 0, %outer ], [ %i.next, %pause ]
  %e = load atomic i32, ptr %p.epoch acquire, align 4
  %new = icmp ne i32 %e, %seen
  br i1 %new, label %go, label %still
still:
  %tired = icmp eq i32 %i, $SPINS
  br i1 %tired, label %sleep, label %pause
pause:
  call void @flowc_pause(i32 %i)
  %i.next = add i32 %i, 1
  br label %spin
sleep:
  %s1 = atomicrmw add ptr %p.sleepers, i32 1 seq_cst
  %e2 = load atomic i32, ptr %p.epoch seq_cst, align 4
  %same = icmp eq i32 %e2, %seen
  br i1 %same, label %wait, label %woken
wait:
  call void @flowc_futex_wait(ptr %p.epoch, i32 %seen)
  br label %woken
woken:
  %s2 = atomicrmw sub ptr %p.sleepers, i32 1 seq_cst
  br label %outer
go:
  %stop = load atomic i32, ptr %p.stop acquire, align 4
  %stops = icmp ne i32 %stop, 0
  br i1 %stops, label %exit, label %join
join:
  %v = load atomic i32, ptr %p.job acquire, align 4
  %isclosed = icmp slt i32 %v, 0
  br i1 %isclosed, label %closed, label %try
closed:
  br label %outer
try:
  %v1 = add i32 %v, 1
  %pair = cmpxchg ptr %p.job, i32 %v, i32 %v1 acq_rel acquire
  %got = extractvalue { i32, i1 } %pair, 1
  br i1 %got, label %joined, label %join
joined:
  %ctx = load ptr, ptr %p.ctx
  %ctx.workers = FIELD
  %workers = load i32, ptr %ctx.workers
  %allowed = icmp slt i32 %index, %workers
  br i1 %allowed, label %work, label %finish
work:
  call void @flowc_drain(ptr %pool, ptr %ctx, i32 %index)
  br label %finish
finish:
  %old = atomicrmw sub ptr %p.job, i32 1 seq_cst
  %last = icmp eq i32 %old, $CLOSED1
  br i1 %last, label %leave2, label %leave
leave:
  br label %outer
leave2:
  %asleep = load atomic i32, ptr %p.caller_sleeps seq_cst, align 4
  %wakes = icmp ne i32 %asleep, 0
  br i1 %wakes, label %wake, label %leave
wake:
  call void @flowc_futex_wake(ptr %p.job, i32 1)
  br label %outer
exit:
  ret ptr null
}
"""

_PARALLEL = """
define internal void @flowc_serial(ptr %ctx, i64 %chunks, ptr %fn, ptr %arg, i32 %worker) nounwind {
entry:
  %ctx.cancel = FIELD
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %run ]
  %more = icmp slt i64 %i, %chunks
  br i1 %more, label %poll, label %out
poll:
  %cancel = load atomic i32, ptr %ctx.cancel monotonic, align 4
  %cancelled = icmp ne i32 %cancel, 0
  br i1 %cancelled, label %out, label %run
run:
  call void %fn(ptr %arg, i64 %i, i32 %worker)
  %i.next = add i64 %i, 1
  br label %loop
out:
  ret void
}

define void @flowc_parallel_for(ptr %ctx, i64 %chunks, ptr %fn, ptr %arg) nounwind {
entry:
  %ctx.pool = FIELD
  %pool = load ptr, ptr %ctx.pool
  %none = icmp eq ptr %pool, null
  br i1 %none, label %alone, label %pooled
alone:
  call void @flowc_serial(ptr %ctx, i64 %chunks, ptr %fn, ptr %arg, i32 0)
  ret void
pooled:
  %p.busy = $&busy
  %alive = call i1 @flowc_pool_alive(ptr %pool)
  br i1 %alive, label %sized, label %forked
forked:
  %revived = call i1 @flowc_pool_revive(ptr %pool)
  br i1 %revived, label %sized, label %alone
sized:
  %single = icmp slt i64 %chunks, 2
  %huge = icmp sgt i64 %chunks, 2147483000
  %p.n = $&n
  %n = load i32, ptr %p.n
  %ctx.workers = FIELD
  %workers = load i32, ptr %ctx.workers
  %less = icmp slt i32 %workers, %n
  %threads = select i1 %less, i32 %workers, i32 %n
  %few = icmp slt i32 %threads, 2
  %or1 = or i1 %single, %huge
  %inline = or i1 %or1, %few
  br i1 %inline, label %look, label %lock
look:
  %busy = load atomic i32, ptr %p.busy monotonic, align 4
  %isbusy = icmp ne i32 %busy, 0
  br i1 %isbusy, label %nested, label %alone
lock:
  %pair = cmpxchg ptr %p.busy, i32 0, i32 1 acquire monotonic
  %got = extractvalue { i32, i1 } %pair, 1
  br i1 %got, label %publish, label %nested
nested:
  %me = call i32 @flowc_whoami(ptr %pool)
  call void @flowc_serial(ptr %ctx, i64 %chunks, ptr %fn, ptr %arg, i32 %me)
  ret void
publish:
  %p.owner = $&owner
  %p.ctx = $&ctx
  %p.fn = $&fn
  %p.arg = $&arg
  %p.chunks = $&chunks
  %p.next = $&next
  %p.job = $&job
  %p.epoch = $&epoch
  %p.sleepers = $&sleepers
  %p.caller_sleeps = $&caller_sleeps
  %self = call $WORD @pthread_self()
  store atomic $WORD %self, ptr %p.owner monotonic, align 8
  store ptr %ctx, ptr %p.ctx
  store ptr %fn, ptr %p.fn
  store ptr %arg, ptr %p.arg
  store i64 %chunks, ptr %p.chunks
  store $WORD 0, ptr %p.next
  store i32 0, ptr %p.caller_sleeps
  store atomic i32 0, ptr %p.job release, align 4
  %e = atomicrmw add ptr %p.epoch, i32 1 seq_cst
  %s = load atomic i32, ptr %p.sleepers seq_cst, align 4
  %any = icmp sgt i32 %s, 0
  br i1 %any, label %wake, label %work
wake:
  %chunks32 = trunc i64 %chunks to i32
  %helpers = sub i32 %chunks32, 1
  call void @flowc_futex_wake(ptr %p.epoch, i32 %helpers)
  br label %work
work:
  call void @flowc_drain(ptr %pool, ptr %ctx, i32 0)
  %old = atomicrmw or ptr %p.job, i32 $CLOSED acq_rel
  br label %spin
spin:
  %i = phi i32 [ 0, %work ], [ %i.next, %pause ], [ 0, %wait ]
  %v = load atomic i32, ptr %p.job acquire, align 4
  %free = icmp eq i32 %v, $CLOSED
  br i1 %free, label %done, label %still
still:
  %tired = icmp eq i32 %i, $SPINS
  br i1 %tired, label %sleep, label %pause
pause:
  call void @flowc_pause(i32 %i)
  %i.next = add i32 %i, 1
  br label %spin
sleep:
  store atomic i32 1, ptr %p.caller_sleeps seq_cst, align 4
  %v2 = load atomic i32, ptr %p.job seq_cst, align 4
  %free2 = icmp eq i32 %v2, $CLOSED
  br i1 %free2, label %done, label %wait
wait:
  call void @flowc_futex_wait(ptr %p.job, i32 %v2)
  br label %spin
done:
  store atomic $WORD 0, ptr %p.owner monotonic, align 8
  store atomic i32 0, ptr %p.busy release, align 4
  ret void
}
"""
