"""ABI, dtypes, manifests, errors, loading, arrays."""

from __future__ import annotations

import contextlib
import ctypes
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowc.runtime import Manifest, Recycler, abi, dtypes, empty, errors, jit
from flowc.runtime.arrays import RECYCLE_BYTES, address
from flowc.runtime.errors import (
    FailedPreconditionError,
    FlowcError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
)


def test_the_context_has_one_layout(tmp_path: Path) -> None:
    """ctypes, LLVM and, where there is a compiler, C agree on every offset."""
    jit.initialize()
    machine = jit.host_target_machine()
    functions = "\n".join(
        f"define ptr @at_{f.name}(ptr %c) {{\n  {abi.field_pointer('%p', '%c', f.name)}\n"
        "  ret ptr %p\n}"
        for f in abi.FIELDS
    )
    library = jit.load(jit.compile_ir(abi.LLVM_TYPES + functions, machine))
    offsets = {f.name: getattr(abi.ContextStruct, f.name).offset for f in abi.FIELDS}
    for name, offset in offsets.items():
        at = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(library.address(f"at_{name}"))
        assert at(4096) == 4096 + offset
    compiler = shutil.which("cc")
    if compiler is None:
        return
    prints = "".join(f'printf("%s %zu\\n", "{n}", offsetof(flowc_context, {n}));' for n in offsets)
    source = tmp_path / "c.c"
    includes = "#include <stddef.h>\n#include <stdio.h>\n"
    source.write_text(f"{includes}{abi.header_text()}int main(void){{{prints}return 0;}}")
    subprocess.run(
        [compiler, "-std=c99", "-Wall", "-Werror", "-o", tmp_path / "c", source], check=True
    )
    lines = subprocess.run([tmp_path / "c"], check=True, capture_output=True, text=True).stdout
    assert {a: int(b) for a, b in map(str.split, lines.splitlines())} == offsets


def test_error_codes_name_exceptions() -> None:
    for code in abi.ERROR_CODES:
        assert issubclass(getattr(errors, code.error), FlowcError)
        code.template.format(d0=1, d1=2, d2=3, d3=4)
        assert f"#define {code.name} {code.code}" in abi.header_text()


def test_dtypes() -> None:
    for name, kind in dtypes.DTYPES.items():
        assert dtypes.from_numpy(kind.numpy) is kind
        assert dtypes.dtype(name).itemsize == kind.numpy.itemsize
        if kind.format is not None:
            assert memoryview(np.zeros(1, kind.numpy)).format in (kind.format, "l", "L")
    with pytest.raises(InvalidArgumentError, match="unknown dtype"):
        dtypes.dtype("f17")
    with pytest.raises(InvalidArgumentError, match="no flowc dtype"):
        dtypes.from_numpy("datetime64[s]")


def test_errors_carry_where() -> None:
    error = InvalidArgumentError("bad", op="add", loc="a.py:3", shapes=[(2, "B")])
    assert str(error) == "bad (op add, at a.py:3)"
    assert isinstance(error, ValueError)
    assert error.shapes == ((2, "B"),)


GOOD = {"name": "f", "abi": 1, "inputs": [], "outputs": []}


def test_manifests() -> None:
    assert Manifest.parse(json.dumps(GOOD)) == Manifest.parse(GOOD)
    with pytest.raises(FailedPreconditionError, match="ABI version 99"):
        Manifest.parse(GOOD | {"abi": 99})
    for bad in ("", "[]", "{}", "3", json.dumps(GOOD | {"inputs": [{"name": "x"}]})):
        with pytest.raises(InvalidArgumentError, match="malformed manifest"):
            Manifest.parse(bad)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*GOOD, "ops", "checks", "state", "dims"]),
        st.recursive(st.none() | st.integers() | st.text(max_size=3), st.lists, max_leaves=5),
    )
)
def test_fuzzed_manifests(changes: dict[str, object]) -> None:
    with contextlib.suppress(FlowcError):
        Manifest.parse(GOOD | changes)


def test_load() -> None:
    image = jit.compile_ir("define i32 @f() { ret i32 7 }\ndefine i32 @g() { ret i32 8 }")
    assert jit.defined_symbols(image) == ("f", "g")
    library = jit.load(image)
    assert ctypes.CFUNCTYPE(ctypes.c_int)(library.address("g"))() == 8
    assert "f" in library
    assert "f" not in jit.load(image, ["g"])
    with pytest.raises(NotFoundError, match="does not define h"):
        jit.load(image, ["f", "h"])
    with pytest.raises(NotFoundError, match="no symbol"):
        library.address("h")


def test_symbols_of_libm_and_imports_resolve() -> None:
    image = jit.compile_ir(
        "declare double @cbrt(double)\ndeclare i32 @ours()\n"
        "define double @f() { %r = call double @cbrt(double 27.0)\n ret double %r }\n"
        "define i32 @g() { %r = call i32 @ours()\n ret i32 %r }"
    )
    seven = jit.load(jit.compile_ir("define i32 @seven() { ret i32 7 }"))
    library = jit.load(image, imports={"ours": seven.address("seven")})
    assert ctypes.CFUNCTYPE(ctypes.c_double)(library.address("f"))() == pytest.approx(3.0)
    assert ctypes.CFUNCTYPE(ctypes.c_int)(library.address("g"))() == 7
    with pytest.raises(InternalError, match="cannot link"):
        jit.load(image)


def test_bad_objects() -> None:
    good = jit.compile_ir("define i32 @f() { ret i32 7 }")
    for bad in (b"", b"\x7fELF", b"garbage" * 100, good[:64], good[:-200]):
        with pytest.raises(InvalidArgumentError, match="not an ELF object"):
            jit.load(bad)
    with pytest.raises(InvalidArgumentError, match="bad LLVM IR"):
        jit.compile_ir("define nonsense")


def test_host_cpu() -> None:
    host = jit.host_cpu()
    assert host.triple
    assert host.features == "" or host.features[0] in "+-"


def test_empty() -> None:
    for shape in ((), (0,), (3, 5), (1000, 1000)):
        for kind in dtypes.DTYPES.values():
            a = empty(shape, kind.numpy)
            assert (a.shape, a.dtype, address(a) % 64) == (shape, kind.numpy, 0)
    for bad in ((-1,), (1 << 40, 1 << 40)):
        with pytest.raises(InvalidArgumentError, match="no array can have"):
            empty(bad, np.dtype(np.float32))


def test_recycled_only_when_no_reference_is_left() -> None:
    recycler, kind = Recycler(), np.dtype(np.float32)
    shape = (RECYCLE_BYTES // 4, 2)
    a = recycler.take(shape, kind)
    at = address(a)
    row = a[3:5, 1]
    del a
    b = recycler.take(shape, kind)
    assert address(b) != at, "a view still held the block"
    export = memoryview(row)
    del row
    assert address(recycler.take(shape, kind)) != at, "an export still held the block"
    export.release()
    del export
    taken = {address(x) for x in (recycler.take(shape, kind), recycler.take(shape, kind))}
    assert at in taken


def test_idle_memory_is_bounded() -> None:
    recycler, kind = Recycler(max_idle_bytes=1 << 20), np.dtype(np.uint8)
    held = [recycler.take((300_000 + i * 40_000,), kind) for i in range(10)]
    assert recycler.idle_bytes() == 0
    del held
    recycler.take((5_000_000,), kind)
    assert recycler.idle_bytes() <= (1 << 20) + 5_100_000 + 600_000
    recycler.clear()
    assert recycler.idle_bytes() == 0
