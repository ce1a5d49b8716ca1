"""Targets, and the guards between our text and LLVM."""

from __future__ import annotations

import pytest

from flowc.backends.cpu import codegen
from flowc.backends.cpu.target import LEVELS, CpuTarget, host, level
from flowc.backends.llvm.emit import Function, Unit, V
from flowc.ir import dtypes as dt
from flowc.runtime.errors import InternalError, InvalidArgumentError


def test_levels() -> None:
    facts = [(t.vector_bits, t.has_fma, t.has_round, t.has_f16) for t in map(level, LEVELS)]
    assert facts == [
        (128, False, False, False), (128, False, True, False),
        (256, True, True, True), (512, True, True, True),
    ]
    v3 = level("x86-64-v3")
    assert [v3.lanes(t) for t in (dt.f32, dt.f64, dt.bf16, dt.i8, dt.i64, dt.bool_, dt.i4)] == [
        8, 4, 8, 32, 4, 32, 32]


def test_others() -> None:
    arm = CpuTarget("aarch64-unknown-linux-gnu")
    assert (arm.arch, arm.vector_bits, arm.has_fma, arm.has_round) == ("aarch64", 128, True, True)
    assert CpuTarget("arm64-apple-macosx").vector_bits == 128
    assert CpuTarget("riscv64-unknown-linux-gnu").lanes(dt.f32) == 1
    assert CpuTarget("armv7-unknown-linux-gnueabihf").arch == "arm"
    assert host().arch in ("x86_64", "aarch64")


@pytest.mark.parametrize(("triple", "cpu", "features"), [
    ("x86_64-linux-gnu", "pentium-pro-max", ""), ("x86_64-linux-gnu", "cortex-a72", ""),
    ("x86_64-linux-gnu", "", "+avx1024"), ("x86_64-linux-gnu", "", "avx2"),
    ("x86_64-linux-gnu", "", "+avx2,,+x"), ("z80-none", "", ""), ("x86_64", "", ""),
    ('x86_64-"; target', "", ""), ("", "", ""), ("aarch64-linux-gnu", "", "+avx2"),
])
def test_unknown_names_are_refused(triple: str, cpu: str, features: str) -> None:
    with pytest.raises(InvalidArgumentError):
        CpuTarget(triple, cpu, features)


def test_unknown_level() -> None:
    with pytest.raises(InvalidArgumentError, match="x86-64-v9"):
        level("x86-64-v9")


def test_intrinsics_are_listed() -> None:
    fn = Function(Unit(host()), "define void @f()")
    with pytest.raises(InternalError, match="tanh"):
        fn.intrinsic("tanh", "float", 0, [V("float", 0, "%x")])


def test_bad_text_is_an_internal_error() -> None:
    for text in ("define void @f() {", "define void @f() { %x = add i32 1, %y\n ret void }"):
        with pytest.raises(InternalError, match="generated LLVM IR"):
            codegen.compile_ir(text, host())
    with pytest.raises(InternalError, match="level"):
        codegen.compile_ir("define void @f() { ret void }", host(), 7)


def test_objects_for_other_machines() -> None:
    text = "define i32 @f(i32 %x) { %y = add i32 %x, 1\n ret i32 %y }"
    for t, machine in ((CpuTarget("aarch64-unknown-linux-gnu"), 183), (level("x86-64-v3"), 62)):
        image = codegen.compile_ir(text, t)
        assert image[:4] == b"\x7fELF"
        assert image[18] == machine
