"""The emulator's runner as LLVM text: blocks in a loop, the threads of a block as fibers.

A fiber is a stack and a saved stack pointer; a barrier is a switch back to the block's scheduler,
which counts: only when all threads have come to a barrier does the block go on, in a new epoch. A
barrier that some threads never reach is reported. Kernels without barriers need no fibers.

    struct launch { ptr fn; ptr args; i64 grid; i32 threads; i32 fibers; i64 shared; i64 stack;
                    ptr report; i64 per_chunk; ptr scratch; i64 scratch_stride; }
    struct thread { ptr sp; ptr scheduler; i32 tid; i32 state; i32 ctaid; i32 epoch; ptr shared;
                    ptr launch; i64 pad[2]; }                        // state: 0 runs 1 waits 2 done
    struct report { i64 count; i32 kind; i32 block; i32 thread; i32 other; i32 buffer; i32 access;
                    i64 offset; ptr shadow[…]; }                            // a shadow a buffer
    struct shadow { i32 wblock, wthread, wepoch, rblock, rthread, repoch, rmany, pad; }   // + 1
"""

from __future__ import annotations

from flowc.runtime.errors import UnimplementedError

THREAD_BYTES = 64
LAUNCH_WORDS = 11
REPORT_WORDS = 6  # before the shadow pointers
SHADOW_BYTES = 32
OUT_OF_BOUNDS, RACE, DIVERGENT, OVERFLOW = 1, 2, 3, 4

_X86 = (
    "pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15;"
    " movq %rsp, (%rdi); movq %rsi, %rsp;"
    " popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp; retq"
)
_X86_START = "movq %r15, %rdi; callq *%r14; ud2"
_A64 = (
    "sub sp, sp, #160; stp x19, x20, [sp]; stp x21, x22, [sp, #16]; stp x23, x24, [sp, #32];"
    " stp x25, x26, [sp, #48]; stp x27, x28, [sp, #64]; stp x29, x30, [sp, #80];"
    " stp d8, d9, [sp, #96]; stp d10, d11, [sp, #112]; stp d12, d13, [sp, #128];"
    " stp d14, d15, [sp, #144]; mov x9, sp; str x9, [x0]; mov sp, x1;"
    " ldp x19, x20, [sp]; ldp x21, x22, [sp, #16]; ldp x23, x24, [sp, #32];"
    " ldp x25, x26, [sp, #48]; ldp x27, x28, [sp, #64]; ldp x29, x30, [sp, #80];"
    " ldp d8, d9, [sp, #96]; ldp d10, d11, [sp, #112]; ldp d12, d13, [sp, #128];"
    " ldp d14, d15, [sp, #144]; add sp, sp, #160; ret"
)
_A64_START = "mov x0, x19; blr x20; brk #1"

# switch, start, bytes of a fresh fiber's frame, where in it: thread, body, start
_ARCHS = {
    "x86_64": (_X86, _X86_START, 72, 0, 8, 48),
    "aarch64": (_A64, _A64_START, 160, 0, 8, 88),
}


def supports(triple: str) -> bool:
    """Whether fibers are written for the machine."""
    return triple.split("-", 1)[0] in _ARCHS


def runner_text(triple: str) -> str:
    """The definitions that emulated kernels and host functions call. UnimplementedError."""
    arch = triple.split("-", 1)[0]
    if arch not in _ARCHS:
        raise UnimplementedError(f"the emulator's fibers are not written for {arch}")
    switch, start, frame, thread, body, entry = _ARCHS[arch]
    text = _RUNNER.replace("SWITCH", _assembly(switch)).replace("START", _assembly(start))
    for name, value in (("FRAME", frame), ("AT_THREAD", thread), ("AT_BODY", body),
                        ("AT_ENTRY", entry)):
        text = text.replace(name, str(value))
    return text


def _assembly(text: str) -> str:
    return "\\0A".join(x.strip() for x in text.split(";"))


def _fields(prefix: str, base: str, *fields: tuple[str, str, int]) -> str:
    return "\n".join(
        f"  {prefix}{n}p = getelementptr i8, ptr {base}, i64 {at}\n"
        f"  {prefix}{n} = load {ty}, ptr {prefix}{n}p" for n, ty, at in fields
    )


_LAUNCH = _fields(
    "%", "%launch", ("fn", "ptr", 0), ("args", "ptr", 8), ("grid", "i64", 16),
    ("threads", "i32", 24), ("fibers", "i32", 28), ("shared", "i64", 32), ("stack", "i64", 40),
    ("report", "ptr", 48), ("per", "i64", 56), ("scratch0", "ptr", 64), ("stride", "i64", 72),
)

_RUNNER = f"""
define internal i32 @flowc_emu_tid(ptr %t) nounwind alwaysinline {{
  %p = getelementptr i8, ptr %t, i64 16
  %v = load i32, ptr %p
  ret i32 %v
}}
define internal i32 @flowc_emu_ctaid(ptr %t) nounwind alwaysinline {{
  %p = getelementptr i8, ptr %t, i64 24
  %v = load i32, ptr %p
  ret i32 %v
}}
define void @flowc_emu_switch(ptr %save, ptr %to) naked noinline nounwind {{
  call void asm sideeffect "SWITCH", "~{{memory}}"()
  unreachable
}}
define void @flowc_emu_start() naked noinline nounwind {{
  call void asm sideeffect "START", "~{{memory}}"()
  unreachable
}}
define internal void @flowc_emu_barrier(ptr %t) noinline nounwind {{
  %statep = getelementptr i8, ptr %t, i64 20
  store i32 1, ptr %statep
  %sp = getelementptr i8, ptr %t, i64 8
  %schedulerp = load ptr, ptr %sp
  %scheduler = load ptr, ptr %schedulerp
  call void @flowc_emu_switch(ptr %t, ptr %scheduler)
  ret void
}}
define internal void @flowc_emu_body(ptr %t) noinline nounwind {{
  %lp = getelementptr i8, ptr %t, i64 40
  %launch = load ptr, ptr %lp
  %fn = load ptr, ptr %launch
  %ap = getelementptr i8, ptr %launch, i64 8
  %args = load ptr, ptr %ap
  call void %fn(ptr %t, ptr %args)
  %statep = getelementptr i8, ptr %t, i64 20
  store i32 2, ptr %statep
  %sp = getelementptr i8, ptr %t, i64 8
  %schedulerp = load ptr, ptr %sp
  %scheduler = load ptr, ptr %schedulerp
  call void @flowc_emu_switch(ptr %t, ptr %scheduler)
  ret void
}}
define internal void @flowc_emu_note(ptr %report, i32 %kind, i32 %block, i32 %thread, i32 %other,
    i32 %buffer, i32 %access, i64 %offset) noinline cold nounwind {{
  %count = load i64, ptr %report
  %next = add i64 %count, 1
  store i64 %next, ptr %report
  %first = icmp eq i64 %count, 0
  br i1 %first, label %write, label %out
write:
  %p0 = getelementptr i32, ptr %report, i64 2
  store i32 %kind, ptr %p0
  %p1 = getelementptr i32, ptr %report, i64 3
  store i32 %block, ptr %p1
  %p2 = getelementptr i32, ptr %report, i64 4
  store i32 %thread, ptr %p2
  %p3 = getelementptr i32, ptr %report, i64 5
  store i32 %other, ptr %p3
  %p4 = getelementptr i32, ptr %report, i64 6
  store i32 %buffer, ptr %p4
  %p5 = getelementptr i32, ptr %report, i64 7
  store i32 %access, ptr %p5
  %p6 = getelementptr i32, ptr %report, i64 8
  store i64 %offset, ptr %p6
  br label %out
out:
  ret void
}}

define void @flowc_emu_chunk(ptr %launch, i64 %chunk, i32 %worker) nounwind {{
entry:
{_LAUNCH}
  %w = sext i32 %worker to i64
  %mine = mul i64 %w, %stride
  %scratch = getelementptr i8, ptr %scratch0, i64 %mine
  %first = mul i64 %chunk, %per
  %wanted = add i64 %first, %per
  %short = icmp slt i64 %grid, %wanted
  %last = select i1 %short, i64 %grid, i64 %wanted
  %threads64 = sext i32 %threads to i64
  %simple = icmp eq i32 %fibers, 0
  br label %head
head:
  %b = phi i64 [ %first, %entry ], [ %bnext, %next ]
  %go = icmp slt i64 %b, %last
  br i1 %go, label %some, label %out
some:
  %b32 = trunc i64 %b to i32
  br i1 %simple, label %serial, label %fibered
serial:
  call void @flowc_emu_serial(ptr %launch, ptr %scratch, i32 %b32)
  br label %next
fibered:
  call void @flowc_emu_block(ptr %launch, ptr %scratch, i32 %b32)
  br label %next
next:
  %bnext = add i64 %b, 1
  br label %head
out:
  ret void
}}

define internal void @flowc_emu_serial(ptr %launch, ptr %scratch, i32 %block) nounwind {{
entry:
{_LAUNCH}
  %t = alloca [{THREAD_BYTES} x i8], align 16
  %cp = getelementptr i8, ptr %t, i64 24
  store i32 %block, ptr %cp
  %ep = getelementptr i8, ptr %t, i64 28
  store i32 0, ptr %ep
  %sp = getelementptr i8, ptr %t, i64 32
  store ptr %scratch, ptr %sp
  %lp = getelementptr i8, ptr %t, i64 40
  store ptr %launch, ptr %lp
  %tp = getelementptr i8, ptr %t, i64 16
  br label %loop
loop:
  %i = phi i32 [ 0, %entry ], [ %inext, %loop ]
  store i32 %i, ptr %tp
  call void %fn(ptr %t, ptr %args)
  %inext = add i32 %i, 1
  %more = icmp slt i32 %inext, %threads
  br i1 %more, label %loop, label %out
out:
  ret void
}}

define internal void @flowc_emu_block(ptr %launch, ptr %scratch, i32 %block) nounwind {{
entry:
{_LAUNCH}
  %scheduler = alloca ptr, align 16
  %threads64 = sext i32 %threads to i64
  %fiberbytes = mul i64 %threads64, {THREAD_BYTES}
  %sharedm = getelementptr i8, ptr %scratch, i64 %fiberbytes
  %stacks = getelementptr i8, ptr %sharedm, i64 %shared
  br label %init
init:
  %i = phi i64 [ 0, %entry ], [ %inext, %init ]
  %at = mul i64 %i, {THREAD_BYTES}
  %t = getelementptr i8, ptr %scratch, i64 %at
  %stackat = mul i64 %i, %stack
  %low = getelementptr i8, ptr %stacks, i64 %stackat
  store i64 81985529216486895, ptr %low
  %top = getelementptr i8, ptr %low, i64 %stack
  %sp0 = getelementptr i8, ptr %top, i64 -FRAME
  %s0 = getelementptr i8, ptr %sp0, i64 AT_THREAD
  store ptr %t, ptr %s0
  %s1 = getelementptr i8, ptr %sp0, i64 AT_BODY
  store ptr @flowc_emu_body, ptr %s1
  %s2 = getelementptr i8, ptr %sp0, i64 AT_ENTRY
  store ptr @flowc_emu_start, ptr %s2
  store ptr %sp0, ptr %t
  %f1 = getelementptr i8, ptr %t, i64 8
  store ptr %scheduler, ptr %f1
  %i32 = trunc i64 %i to i32
  %f2 = getelementptr i8, ptr %t, i64 16
  store i32 %i32, ptr %f2
  %f3 = getelementptr i8, ptr %t, i64 20
  store i32 0, ptr %f3
  %f4 = getelementptr i8, ptr %t, i64 24
  store i32 %block, ptr %f4
  %f5 = getelementptr i8, ptr %t, i64 28
  store i32 0, ptr %f5
  %f6 = getelementptr i8, ptr %t, i64 32
  store ptr %sharedm, ptr %f6
  %f7 = getelementptr i8, ptr %t, i64 40
  store ptr %launch, ptr %f7
  %inext = add i64 %i, 1
  %imore = icmp slt i64 %inext, %threads64
  br i1 %imore, label %init, label %sweep
sweep:
  br label %each
each:
  %j = phi i64 [ 0, %sweep ], [ %jnext, %after ]
  %done = phi i32 [ 0, %sweep ], [ %done2, %after ]
  %jat = mul i64 %j, {THREAD_BYTES}
  %u = getelementptr i8, ptr %scratch, i64 %jat
  %ustate = getelementptr i8, ptr %u, i64 20
  %old = load i32, ptr %ustate
  %finished = icmp eq i32 %old, 2
  br i1 %finished, label %after, label %run
run:
  store i32 0, ptr %ustate
  %uepochp = getelementptr i8, ptr %u, i64 28
  %uepoch = load i32, ptr %uepochp
  %uepoch1 = add i32 %uepoch, 1
  store i32 %uepoch1, ptr %uepochp
  %usp = load ptr, ptr %u
  call void @flowc_emu_switch(ptr %scheduler, ptr %usp)
  br label %after
after:
  %new = load volatile i32, ptr %ustate
  %ended = icmp eq i32 %new, 2
  %one = zext i1 %ended to i32
  %done2 = add i32 %done, %one
  %jnext = add i64 %j, 1
  %jmore = icmp slt i64 %jnext, %threads64
  br i1 %jmore, label %each, label %swept
swept:
  %all = icmp eq i32 %done2, %threads
  br i1 %all, label %canaries, label %waiting
waiting:
  %none = icmp eq i32 %done2, 0
  br i1 %none, label %sweep, label %divergent
divergent:
  %quiet = icmp eq ptr %report, null
  br i1 %quiet, label %sweep, label %tell
tell:
  call void @flowc_emu_note(ptr %report, i32 {DIVERGENT}, i32 %block, i32 %done2, i32 0, i32 0,
    i32 0, i64 0)
  br label %sweep
canaries:
  %noreport = icmp eq ptr %report, null
  br i1 %noreport, label %out, label %canary
canary:
  %c = phi i64 [ 0, %canaries ], [ %cnext, %cdone ]
  %cat = mul i64 %c, %stack
  %cp = getelementptr i8, ptr %stacks, i64 %cat
  %cv = load i64, ptr %cp
  %cok = icmp eq i64 %cv, 81985529216486895
  br i1 %cok, label %cdone, label %cbad
cbad:
  %c32 = trunc i64 %c to i32
  call void @flowc_emu_note(ptr %report, i32 {OVERFLOW}, i32 %block, i32 %c32, i32 0, i32 0, i32 0,
    i64 0)
  br label %cdone
cdone:
  %cnext = add i64 %c, 1
  %cmore = icmp slt i64 %cnext, %threads64
  br i1 %cmore, label %canary, label %out
out:
  ret void
}}
"""


def _word(n: int, name: str, at: str = "%s") -> str:
    return (f"  {name}p = getelementptr i32, ptr {at}, i64 {n}\n"
            f"  {name} = load i32, ptr {name}p\n")


ACCESS = f"""
@flowc_emu_nowhere = internal global [16 x i8] zeroinitializer, align 16

; An access of `size` bytes at %p in the buffer %root of %bytes: %p if it is inside, else a place
; that harms nobody. Two accesses of an element, one of them a write, by different threads race
; unless a barrier lies between them; in global memory also by different blocks of one launch.
define internal ptr @flowc_emu_access(ptr %t, ptr %p, ptr %root, i64 %bytes, i64 %size, i32 %kind,
    i32 %buffer) nounwind {{
entry:
  %lp = getelementptr i8, ptr %t, i64 40
  %launch = load ptr, ptr %lp
  %rp = getelementptr i8, ptr %launch, i64 48
  %report = load ptr, ptr %rp
{_fields("%", "%t", ("tid", "i32", 16), ("ctaid", "i32", 24), ("epoch", "i32", 28))}
  %pi = ptrtoint ptr %p to i64
  %ri = ptrtoint ptr %root to i64
  %off = sub i64 %pi, %ri
  %end = add i64 %off, %size
  %neg = icmp slt i64 %off, 0
  %over = icmp sgt i64 %end, %bytes
  %rest = urem i64 %pi, %size
  %odd = icmp ne i64 %rest, 0
  %out1 = or i1 %neg, %over
  %out = or i1 %out1, %odd
  br i1 %out, label %outside, label %inside
outside:
  call void @flowc_emu_note(ptr %report, i32 {OUT_OF_BOUNDS}, i32 %ctaid, i32 %tid, i32 0,
    i32 %buffer, i32 %kind, i64 %off)
  ret ptr @flowc_emu_nowhere
inside:
  %b64 = sext i32 %buffer to i64
  %slot = add i64 %b64, {REPORT_WORDS}
  %sp = getelementptr ptr, ptr %report, i64 %slot
  %shadow = load ptr, ptr %sp
  %unwatched = icmp eq ptr %shadow, null
  br i1 %unwatched, label %fine, label %watch
watch:
  %element = udiv i64 %off, %size
  %at = mul i64 %element, {SHADOW_BYTES}
  %s = getelementptr i8, ptr %shadow, i64 %at
  %me = add i32 %tid, 1
  %myblock = add i32 %ctaid, 1
  %sharedbit = and i32 %kind, 4
  %isshared = icmp ne i32 %sharedbit, 0
  %writebit = and i32 %kind, 2
  %iswrite = icmp ne i32 %writebit, 0
{_word(0, "%wblock")}{_word(1, "%wthread")}{_word(2, "%wepoch")}
{_word(3, "%rblock")}{_word(4, "%rthread")}{_word(5, "%repoch")}{_word(6, "%rmany")}
  %whad = icmp ne i32 %wblock, 0
  %wother = icmp ne i32 %wblock, %myblock
  %wthere = xor i1 %wother, true
  %wforeign = icmp ne i32 %wthread, %me
  %wnow = icmp eq i32 %wepoch, %epoch
  %wclash0 = and i1 %wforeign, %wnow
  %wclash1 = and i1 %wclash0, %wthere
  %global = xor i1 %isshared, true
  %wfar = and i1 %wother, %global
  %wclash2 = or i1 %wclash1, %wfar
  %wclash = and i1 %wclash2, %whad
  %rhad = icmp ne i32 %rblock, 0
  %rother = icmp ne i32 %rblock, %myblock
  %rthere = xor i1 %rother, true
  %rforeign = icmp ne i32 %rthread, %me
  %several = icmp ne i32 %rmany, 0
  %ranother = or i1 %rforeign, %several
  %rnow = icmp eq i32 %repoch, %epoch
  %rclash0 = and i1 %ranother, %rnow
  %rclash1 = and i1 %rclash0, %rthere
  %bothblocks = icmp eq i32 %rmany, 2
  %rfar0 = or i1 %rother, %bothblocks
  %rfar = and i1 %rfar0, %global
  %rclash2 = or i1 %rclash1, %rfar
  %rclash3 = and i1 %rclash2, %rhad
  %rclash = and i1 %rclash3, %iswrite
  %race = or i1 %wclash, %rclash
  br i1 %race, label %racing, label %update
racing:
  %whose = select i1 %wclash, i32 %wthread, i32 %rthread
  %other = sub i32 %whose, 1
  call void @flowc_emu_note(ptr %report, i32 {RACE}, i32 %ctaid, i32 %tid, i32 %other, i32 %buffer,
    i32 %kind, i64 %off)
  br label %update
update:
  br i1 %iswrite, label %wrote, label %read
wrote:
  store i32 %myblock, ptr %wblockp
  store i32 %me, ptr %wthreadp
  store i32 %epoch, ptr %wepochp
  br label %fine
read:
  %same0 = and i1 %rthere, %rnow
  %same = and i1 %same0, %rforeign
  %same1 = and i1 %same, %rhad
  %far1 = and i1 %rother, %rhad
  %far = and i1 %far1, %global
  %stay = select i1 %rthere, i32 %rmany, i32 0
  %stayglobal = select i1 %bothblocks, i32 2, i32 %stay
  %old0 = select i1 %global, i32 %stayglobal, i32 %stay
  %keepnow = select i1 %rnow, i32 %old0, i32 0
  %kept = select i1 %bothblocks, i32 %old0, i32 %keepnow
  %marked = select i1 %same1, i32 1, i32 %kept
  %marked2 = select i1 %bothblocks, i32 %old0, i32 %marked
  %many = select i1 %far, i32 2, i32 %marked2
  store i32 %myblock, ptr %rblockp
  store i32 %me, ptr %rthreadp
  store i32 %epoch, ptr %repochp
  store i32 %many, ptr %rmanyp
  br label %fine
fine:
  ret ptr %p
}}
"""
