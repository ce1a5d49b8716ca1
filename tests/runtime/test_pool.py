"""The thread pool: every chunk once, nested loops, contention, fork, shutdown."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import llvmlite.binding as llvm
import numpy as np
import pytest

from flowc.runtime import Context, ThreadPool, jit, pool_ir
from flowc.runtime.abi import LLVM_TYPES, field_pointer
from flowc.runtime.errors import InvalidArgumentError, UnimplementedError

# stress: `rounds` times all chunks; each adds 1 to its counter. Returns the sum of the counters.
# nest: a chunk takes its worker's flag (must be free), runs an inner loop of 3, gives it back;
# counters[chunk * 3 + inner] count, bad flags are counted in counters[-1].
STRESS = f"""{LLVM_TYPES}
define void @mark(ptr %arg, i64 %chunk, i32 %worker) nounwind {{
  %p = getelementptr i32, ptr %arg, i64 %chunk
  %old = atomicrmw add ptr %p, i32 1 monotonic
  ret void
}}
define void @stress(ptr %ctx, i64 %rounds, i64 %chunks, ptr %counters) nounwind {{
entry:
  {field_pointer("%pfp", "%ctx", "parallel_for")}
  %pf = load ptr, ptr %pfp
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %rounds
  br i1 %more, label %body, label %out
body:
  call void %pf(ptr %ctx, i64 %chunks, ptr @mark, ptr %counters)
  %next = add i64 %i, 1
  br label %loop
out:
  ret void
}}
%nested = type {{ ptr, ptr, ptr, ptr }}
%leaf = type {{ ptr, i64, ptr, ptr, i32 }}
define void @inner(ptr %arg, i64 %chunk, i32 %worker) nounwind {{
entry:
  %cp = getelementptr %leaf, ptr %arg, i32 0, i32 0
  %op = getelementptr %leaf, ptr %arg, i32 0, i32 1
  %bp = getelementptr %leaf, ptr %arg, i32 0, i32 3
  %wp = getelementptr %leaf, ptr %arg, i32 0, i32 4
  %counters = load ptr, ptr %cp
  %outer = load i64, ptr %op
  %bad = load ptr, ptr %bp
  %expected = load i32, ptr %wp
  %base = mul i64 %outer, 3
  %index = add i64 %base, %chunk
  %p = getelementptr i32, ptr %counters, i64 %index
  %old = atomicrmw add ptr %p, i32 1 monotonic
  %same = icmp eq i32 %worker, %expected
  br i1 %same, label %out, label %wrong
wrong:
  %x = atomicrmw add ptr %bad, i32 1 monotonic
  br label %out
out:
  ret void
}}
define void @outer(ptr %arg, i64 %chunk, i32 %worker) nounwind {{
entry:
  %leaf = alloca %leaf
  %ctxp = getelementptr %nested, ptr %arg, i32 0, i32 0
  %cp = getelementptr %nested, ptr %arg, i32 0, i32 1
  %fp = getelementptr %nested, ptr %arg, i32 0, i32 2
  %bp = getelementptr %nested, ptr %arg, i32 0, i32 3
  %ctx = load ptr, ptr %ctxp
  %counters = load ptr, ptr %cp
  %flags = load ptr, ptr %fp
  %bad = load ptr, ptr %bp
  %flag = getelementptr i32, ptr %flags, i32 %worker
  %taken = atomicrmw xchg ptr %flag, i32 1 acquire
  %free = icmp eq i32 %taken, 0
  br i1 %free, label %go, label %wrong
wrong:
  %x = atomicrmw add ptr %bad, i32 1 monotonic
  br label %go
go:
  %l0 = getelementptr %leaf, ptr %leaf, i32 0, i32 0
  %l1 = getelementptr %leaf, ptr %leaf, i32 0, i32 1
  %l3 = getelementptr %leaf, ptr %leaf, i32 0, i32 3
  %l4 = getelementptr %leaf, ptr %leaf, i32 0, i32 4
  store ptr %counters, ptr %l0
  store i64 %chunk, ptr %l1
  store ptr %bad, ptr %l3
  store i32 %worker, ptr %l4
  {field_pointer("%pfp", "%ctx", "parallel_for")}
  %pf = load ptr, ptr %pfp
  call void %pf(ptr %ctx, i64 3, ptr @inner, ptr %leaf)
  store atomic i32 0, ptr %flag release, align 4
  ret void
}}
"""


class Stress:
    """The functions above, as ctypes callables that release the GIL."""

    def __init__(self) -> None:
        self.library = jit.load(jit.compile_ir(STRESS))
        self._stress = ctypes.CFUNCTYPE(
            None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p
        )(self.library.address("stress"))
        self._parallel = ctypes.CFUNCTYPE(
            None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p
        )

    def run(self, ctx: Context, rounds: int, chunks: int) -> np.ndarray:
        counters = np.zeros(chunks, np.int32)
        self._stress(ctx.address, rounds, chunks, counters.ctypes.data)
        return counters

    def nest(self, ctx: Context, chunks: int) -> tuple[np.ndarray, int]:
        counters, flags, bad = (np.zeros(n, np.int32) for n in (chunks * 3, 64, 1))
        pointers = (counters.ctypes.data, flags.ctypes.data, bad.ctypes.data)
        arg = (ctypes.c_void_p * 4)(ctx.address, *pointers)
        function = self._parallel(ctx.struct.base.parallel_for)
        function(ctx.address, chunks, self.library.address("outer"), ctypes.addressof(arg))
        return counters, int(bad[0])


@pytest.fixture(scope="module")
def stress() -> Stress:
    return Stress()


@pytest.fixture(params=[1, 2, 3])
def pool(request: pytest.FixtureRequest) -> Iterator[ThreadPool]:
    made = ThreadPool(request.param)
    yield made
    made.close()


def pooled(pool: ThreadPool) -> Context:
    """A context that calls the pool even when it has one thread."""
    ctx = Context(pool)
    ctx.struct.base.parallel_for, ctx.struct.base.pool = ctx._native.parallel_for, pool.address
    return ctx


def test_every_chunk_runs_once(pool: ThreadPool, stress: Stress) -> None:
    ctx = pooled(pool)
    for chunks in (0, 1, 2, 3, 7, 1000, 100_000):
        assert (stress.run(ctx, 1, chunks) == 1).all()


def test_a_hundred_thousand_fork_joins(pool: ThreadPool, stress: Stress) -> None:
    ctx = pooled(pool)
    stress.run(ctx, 1000, 4)
    start = time.perf_counter()
    assert (stress.run(ctx, 100_000, 4) == 100_000).all()
    took = (time.perf_counter() - start) / 100_000
    print(f"\n{pool.threads} threads: {took * 1e6:.2f} µs a fork-join")


def test_jobs_after_a_sleep(pool: ThreadPool, stress: Stress) -> None:
    ctx = pooled(pool)
    for _ in range(20):
        time.sleep(0.02)
        assert (stress.run(ctx, 3, 50) == 3).all()


def test_nested_loops_keep_their_worker(pool: ThreadPool, stress: Stress) -> None:
    for _ in range(200):
        counters, bad = stress.nest(pooled(pool), 100)
        assert (counters == 1).all()
        assert bad == 0


def test_one_pool_from_several_threads(pool: ThreadPool, stress: Stress) -> None:
    wrong: list[object] = []

    def work() -> None:
        ctx = pooled(pool)
        for _ in range(20):
            counters = stress.run(ctx, 500, 5)
            if not (counters == 500).all():
                wrong.append(counters)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_cancelled_loop_starts_no_chunk(pool: ThreadPool, stress: Stress) -> None:
    ctx = pooled(pool)
    ctx.cancel()
    assert (stress.run(ctx, 1, 10) == 0).all()


def test_many_pools(stress: Stress) -> None:
    for _ in range(100):
        pool = ThreadPool(3)
        assert (stress.run(Context(pool), 2, 10) == 2).all()
        pool.close()
        pool.close()


def test_sizes() -> None:
    for threads in (0, -1, 100_000):
        with pytest.raises(InvalidArgumentError):
            ThreadPool(threads)


SCRIPT = """
import os, sys, threading
sys.path.insert(0, {folder!r})
from test_pool import Stress, pooled
from flowc.runtime import ThreadPool
stress, pool = Stress(), ThreadPool(3)
ctx = pooled(pool)
assert (stress.run(ctx, 100, 10) == 100).all()
{body}
"""


def script(body: str) -> subprocess.CompletedProcess[str]:
    text = SCRIPT.format(folder=os.path.dirname(__file__), body=body)
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text], capture_output=True, text=True, timeout=60
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork() -> None:
    done = script(
        """
for i in range(5):
    pid = os.fork()
    if pid == 0:
        ok = all((stress.run(ctx, 100, 10) == 100).all() for _ in range(20))
        count = len(os.listdir("/proc/self/task"))
        os._exit(0 if ok and count == 3 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert (stress.run(ctx, 100, 10) == 100).all()
pid = os.fork()
if pid == 0:
    pool.close()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print("fine")
"""
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_exit_while_a_daemon_thread_runs() -> None:
    done = script(
        """
def forever():
    while True:
        stress.run(ctx, 1000, 10)
threading.Thread(target=forever, daemon=True).start()
import time; time.sleep(0.3)
print("fine")
"""
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


@pytest.mark.parametrize(
    ("triple", "features"),
    [
        ("x86_64-unknown-linux-gnu", ""),
        ("aarch64-linux-gnu", ""),
        ("armv7-linux-gnueabihf", ""),
        ("riscv64-linux-gnu", "+m,+a,+f,+d,+c"),
    ],
)
def test_ahead_of_time(triple: str, features: str) -> None:
    jit.initialize()
    machine = llvm.Target.from_triple(triple).create_target_machine(
        features=features, opt=2, reloc="pic", codemodel="default"
    )
    image = jit.compile_ir(pool_ir.module_text(triple), machine)
    assert image.startswith(b"\x7fELF")
    if "64" in triple:
        assert set(jit.defined_symbols(image)) == {
            "flowc_pool_size",
            "flowc_pool_init",
            "flowc_pool_destroy",
            "flowc_parallel_for",
        }


@pytest.mark.parametrize("triple", ["x86_64-pc-windows-msvc", "wasm32-unknown-unknown"])
def test_other_targets_have_none(triple: str) -> None:
    assert not pool_ir.supports(triple)
    with pytest.raises(UnimplementedError, match="no thread pool"):
        pool_ir.module_text(triple)


def test_callables_hold_their_library() -> None:
    make: Callable[[], Stress] = Stress
    assert "stress" in make().library
