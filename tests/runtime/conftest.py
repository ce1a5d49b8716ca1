"""Hand-written functions of the native ABI that the runtime is tested with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flowc.runtime import Executable, jit
from flowc.runtime.abi import ABI_VERSION, LLVM_TYPES, error_helper, field_pointer
from flowc.runtime.jit import host_cpu
from flowc.runtime.pool_ir import supports

collect_ignore_glob = [] if supports(host_cpu().triple) else ["test_*.py"]


def function(name: str, entry: str, bind: str = "ret i32 0", size: str = "0", out: str = "") -> str:
    """LLVM text of a function with its three companions."""
    return f"""{LLVM_TYPES}{error_helper()}
define i32 @{name}(ptr %ctx, ptr %buffers, ptr %dims, ptr %ws) nounwind {{
{entry}
}}
define i32 @{name}_bind(ptr %shapes, ptr %dims) nounwind {{
{bind}
}}
define i64 @{name}_workspace_size(ptr %dims, i32 %workers) nounwind {{
  ret i64 {size}
}}
define void @{name}_output_shapes(ptr %dims, ptr %shapes) nounwind {{
{out}
  ret void
}}
"""


def buffer(result: str, index: int) -> str:
    return (
        f"  {result}.p = getelementptr ptr, ptr %buffers, i32 {index}\n"
        f"  {result} = load ptr, ptr {result}.p"
    )


BIND_1 = """
  %b = load i64, ptr %shapes
  store i64 %b, ptr %dims
  ret i32 0"""

BIND_2 = """
  %b = load i64, ptr %shapes
  %q = getelementptr i64, ptr %shapes, i32 1
  %c = load i64, ptr %q
  store i64 %b, ptr %dims
  %differ = icmp ne i64 %b, %c
  %rc = zext i1 %differ to i32
  ret i32 %rc"""

OUT_1 = """
  %b = load i64, ptr %dims
  store i64 %b, ptr %shapes"""

# out[B] = a * x[B] + y[B]
AXPY = function(
    "axpy",
    f"""
entry:
{buffer("%a", 0)}
{buffer("%x", 1)}
{buffer("%y", 2)}
{buffer("%o", 3)}
  %n = load i64, ptr %dims
  %av = load float, ptr %a
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
body:
  %xp = getelementptr float, ptr %x, i64 %i
  %yp = getelementptr float, ptr %y, i64 %i
  %op = getelementptr float, ptr %o, i64 %i
  %xv = load float, ptr %xp
  %yv = load float, ptr %yp
  %m = fmul float %av, %xv
  %s = fadd float %m, %yv
  store float %s, ptr %op
  %next = add i64 %i, 1
  br label %loop
done:
  ret i32 0""",
    bind=BIND_2,
    out=OUT_1,
)

# v[4] += step[]
COUNTER = function(
    "counter",
    f"""
{buffer("%s", 0)}
{buffer("%v", 1)}
  %step = load float, ptr %s
  %old = load <4 x float>, ptr %v, align 4
  %one = insertelement <4 x float> poison, float %step, i32 0
  %all = shufflevector <4 x float> %one, <4 x float> poison, <4 x i32> zeroinitializer
  %new = fadd <4 x float> %old, %all
  store <4 x float> %new, ptr %v, align 4
  ret i32 0""",
)

# total[] = sum of x[N]: chunks of 1024, partial sums in the workspace, combined in order
PSUM = (
    function(
        "psum",
        f"""
entry:
{buffer("%x", 0)}
{buffer("%o", 1)}
  %n = load i64, ptr %dims
  %n1 = add i64 %n, 1023
  %chunks = sdiv i64 %n1, 1024
  %arg = alloca [3 x i64]
  %a1 = getelementptr i64, ptr %arg, i32 1
  %a2 = getelementptr i64, ptr %arg, i32 2
  %xi = ptrtoint ptr %x to i64
  %wi = ptrtoint ptr %ws to i64
  store i64 %xi, ptr %arg
  store i64 %wi, ptr %a1
  store i64 %n, ptr %a2
  %noctx = icmp eq ptr %ctx, null
  br i1 %noctx, label %serial, label %ask
ask:
  {field_pointer("%pfp", "%ctx", "parallel_for")}
  %pf = load ptr, ptr %pfp
  %nopf = icmp eq ptr %pf, null
  br i1 %nopf, label %serial, label %parallel
parallel:
  call void %pf(ptr %ctx, i64 %chunks, ptr @chunk, ptr %arg)
  br label %combine
serial:
  %c = phi i64 [ 0, %entry ], [ 0, %ask ], [ %c1, %step ]
  %morec = icmp slt i64 %c, %chunks
  br i1 %morec, label %step, label %combine
step:
  call void @chunk(ptr %arg, i64 %c, i32 0)
  %c1 = add i64 %c, 1
  br label %serial
combine:
  br label %loop
loop:
  %i = phi i64 [ 0, %combine ], [ %i1, %body ]
  %sum = phi float [ 0.0, %combine ], [ %sum1, %body ]
  %more = icmp slt i64 %i, %chunks
  br i1 %more, label %body, label %done
body:
  %p = getelementptr float, ptr %ws, i64 %i
  %v = load float, ptr %p
  %sum1 = fadd float %sum, %v
  %i1 = add i64 %i, 1
  br label %loop
done:
  store float %sum, ptr %o
  ret i32 0""",
        bind=BIND_1,
        size="%bytes",
    ).replace(
        "  ret i64 %bytes",
        """  %n = load i64, ptr %dims
  %n1 = add i64 %n, 1023
  %c = sdiv i64 %n1, 1024
  %bytes = mul i64 %c, 4
  ret i64 %bytes""",
    )
    + """
define internal void @chunk(ptr %arg, i64 %c, i32 %worker) nounwind {
entry:
  %a1 = getelementptr i64, ptr %arg, i32 1
  %a2 = getelementptr i64, ptr %arg, i32 2
  %x = load ptr, ptr %arg
  %ws = load ptr, ptr %a1
  %n = load i64, ptr %a2
  %from = mul i64 %c, 1024
  %to0 = add i64 %from, 1024
  %over = icmp sgt i64 %to0, %n
  %to = select i1 %over, i64 %n, i64 %to0
  br label %loop
loop:
  %i = phi i64 [ %from, %entry ], [ %i1, %body ]
  %sum = phi float [ 0.0, %entry ], [ %sum1, %body ]
  %more = icmp slt i64 %i, %to
  br i1 %more, label %body, label %done
body:
  %p = getelementptr float, ptr %x, i64 %i
  %v = load float, ptr %p
  %sum1 = fadd float %sum, %v
  %i1 = add i64 %i, 1
  br label %loop
done:
  %q = getelementptr float, ptr %ws, i64 %c
  store float %sum, ptr %q
  ret void
}
"""
)

# runs until it is cancelled
ENDLESS = function(
    "endless",
    f"""
entry:
  {field_pointer("%cancel", "%ctx", "cancel")}
  br label %loop
loop:
  %v = load atomic i32, ptr %cancel monotonic, align 4
  %stop = icmp ne i32 %v, 0
  br i1 %stop, label %out, label %loop
out:
  call void @flowc_fail(ptr %ctx, i32 3, i32 2, i64 0, i64 0, i64 0, i64 0)
  ret i32 3""",
)

# q[] = a[] / b[], op 7; reports ops 9 and 8 first to show that the lowest wins
DIVIDE = function(
    "divide",
    f"""
{buffer("%a", 0)}
{buffer("%b", 1)}
{buffer("%o", 2)}
  %av = load i32, ptr %a
  %bv = load i32, ptr %b
  %zero = icmp eq i32 %bv, 0
  br i1 %zero, label %fail, label %ok
ok:
  %q = sdiv i32 %av, %bv
  store i32 %q, ptr %o
  ret i32 0
fail:
  call void @flowc_fail(ptr %ctx, i32 2, i32 9, i64 5, i64 3, i64 0, i64 0)
  call void @flowc_fail(ptr %ctx, i32 1, i32 7, i64 0, i64 0, i64 0, i64 0)
  call void @flowc_fail(ptr %ctx, i32 2, i32 8, i64 5, i64 3, i64 0, i64 0)
  ret i32 1""",
)

# positive[K] = the positive elements of x[B]; K is known after the run, bounded by B
POSITIVE = function(
    "positive",
    f"""
entry:
{buffer("%x", 0)}
{buffer("%o", 1)}
  %n = load i64, ptr %dims
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %next ]
  %k = phi i64 [ 0, %entry ], [ %k1, %next ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
body:
  %p = getelementptr float, ptr %x, i64 %i
  %v = load float, ptr %p
  %i1 = add i64 %i, 1
  %keep = fcmp ogt float %v, 0.0
  br i1 %keep, label %take, label %next
take:
  %q = getelementptr float, ptr %o, i64 %k
  store float %v, ptr %q
  %kk = add i64 %k, 1
  br label %next
next:
  %k1 = phi i64 [ %k, %body ], [ %kk, %take ]
  br label %loop
done:
  %kp = getelementptr i64, ptr %dims, i32 1
  store i64 %k, ptr %kp
  ret i32 0""",
    bind="""
  %b = load i64, ptr %shapes
  store i64 %b, ptr %dims
  %q = getelementptr i64, ptr %dims, i32 1
  store i64 %b, ptr %q
  ret i32 0""",
    out="""
  %kp = getelementptr i64, ptr %dims, i32 1
  %k = load i64, ptr %kp
  store i64 %k, ptr %shapes""",
)

# asks for slot 3 twice, growing, and checks that the contents are kept; then host call 1
CALLBACKS = function(
    "callbacks",
    f"""
  {field_pointer("%gp", "%ctx", "grow")}
  {field_pointer("%hp", "%ctx", "host_call")}
  %grow = load ptr, ptr %gp
  %host = load ptr, ptr %hp
  %s1 = call ptr %grow(ptr %ctx, i32 3, i64 100)
  store i64 4711, ptr %s1
  %s2 = call ptr %grow(ptr %ctx, i32 3, i64 1000000)
  %v = load i64, ptr %s2
{buffer("%o", 0)}
  store i64 %v, ptr %o
  %bad = call ptr %grow(ptr %ctx, i32 100000, i64 8)
  %isbad = icmp ne ptr %bad, null
  br i1 %isbad, label %memory, label %call
memory:
  ret i32 6
call:
  %rc = call i32 %host(ptr %ctx, i32 1, ptr %buffers, ptr %dims)
  %failed = icmp ne i32 %rc, 0
  %code = select i1 %failed, i32 7, i32 0
  ret i32 %code""",
)


def tensor(name: str, dtype: str, *shape: int | str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "dtype": dtype,
        "shape": list(shape),
        "loc": f"train.py:{len(name)}",
    } | more


def output(name: str, dtype: str, rank: int = 0) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "rank": rank}


PROGRAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "axpy": (
        AXPY,
        {
            "inputs": [tensor("a", "f32"), tensor("x", "f32", "B"), tensor("yy", "f32", "B")],
            "outputs": [output("z", "f32", 1)],
            "dims": ["B"],
            "checks": [{"message": "add: x and yy differ in B", "loc": "train.py:12"}],
        },
    ),
    "counter": (
        COUNTER,
        {
            "inputs": [tensor("step", "f32")],
            "outputs": [],
            "state": [tensor("v", "f32", 4, mode="rw")],
        },
    ),
    "psum": (
        PSUM,
        {"inputs": [tensor("x", "f32", "N")], "outputs": [output("s", "f32")], "dims": ["N"]},
    ),
    "endless": (
        ENDLESS,
        {"inputs": [], "outputs": [], "state": [tensor("v", "f32", 4, mode="rw")]},
    ),
    "divide": (
        DIVIDE,
        {
            "inputs": [tensor("a", "i32"), tensor("b", "i32")],
            "outputs": [output("q", "i32")],
            "ops": [{"id": 7, "op": "floordiv", "loc": "train.py:30"}],
        },
    ),
    "positive": (
        POSITIVE,
        {
            "inputs": [tensor("x", "f32", "B")],
            "outputs": [output("p", "f32", 1)],
            "dims": ["B", "K"],
            "data_dims": True,
        },
    ),
    "callbacks": (
        CALLBACKS,
        {"inputs": [], "outputs": [output("o", "i64")], "host_calls": ["first", "second"]},
    ),
}


@pytest.fixture(scope="session")
def program() -> Callable[[str], tuple[bytes, dict[str, Any]]]:
    """`program(name)`: object and manifest of one of the functions above."""

    def build(name: str) -> tuple[bytes, dict[str, Any]]:
        text, manifest = PROGRAMS[name]
        return jit.compile_ir(text), {"name": name, "abi": ABI_VERSION} | manifest

    return build


@pytest.fixture(scope="session")
def executable(
    program: Callable[[str], tuple[bytes, dict[str, Any]]],
) -> Callable[[str], Executable]:
    """`executable(name)`: the function, loaded; one for the session."""
    built: dict[str, Executable] = {}

    def get(name: str) -> Executable:
        if name not in built:
            image, manifest = program(name)
            built[name] = Executable(manifest, jit.load(image))
        return built[name]

    return get
