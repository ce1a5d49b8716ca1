"""Every op record on the emulated GPU, with checks of bounds and races, and through ptxas."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from flowc.backends.cuda.ptx import assemble, compile_ptx, find_ptxas
from flowc.backends.cuda.target import CudaTarget
from flowc.compiler import driver
from gpu_harness import OPTIONS, Batch, checked, is_straight, plan
from op_records import RECORDS, Case, Record

OUTSIDE = {"all_reduce", "send", "recv", "assert_"}  # no kernels: a transport's or a host's work
OPS = [n for n in sorted(RECORDS) if any(r.run for r in RECORDS[n]) and n not in OUTSIDE]
CPUS = ("sm_80", "sm_90", "sm_100")
NATIVE = 3  # cases of a record with control flow: each is a compilation
COMPLEX = ("c64", "c128")


def selected(r: Record) -> Iterator[Case]:
    """Each shape in one element type, each element type in one shape, and one case of edges."""
    groups: dict[tuple[str, bool], list[Case]] = {}
    for case in r.cases([t for t in r.dtypes if t not in COMPLEX]):
        dtype, edges = case.id[len(r.id) + 1 :].split("-")[0], case.id.endswith("edges")
        groups.setdefault((dtype, edges), []).append(case)
    plain = [cases for (_, edges), cases in groups.items() if not edges]
    for n, cases in enumerate(plain):
        yield from cases if n == 0 else (cases[n % len(cases)],)
    for (_, edges), cases in itertools.islice(
        (item for item in groups.items() if item[0][1]), 1
    ):
        assert edges
        yield from cases


@pytest.mark.parametrize("name", OPS)
def test_record(name: str) -> None:
    batch, todo = Batch(), []
    native: dict[str, int] = {}
    for r in (r for r in RECORDS[name] if r.run):
        for case in selected(r):
            p = plan(case.function)
            if is_straight(p):
                batch.add(p)
                todo.append((case, p))
            elif native.setdefault(r.id, 0) < NATIVE:
                native[r.id] += 1
                run_native(case)
    if batch.module.kernels:
        batch.compile()
    for case, p in todo:
        case.check(checked(batch, p, case.inputs))
    if batch.module.kernels:
        assembles(batch, CPUS[OPS.index(name) % len(CPUS)])


def run_native(case: Case) -> None:
    """Programs with control flow run through the host function."""
    loaded = driver.compile_program(case.function, OPTIONS).load()
    case.check(loaded.call([np.asarray(x, order="C") for x in case.inputs]))


def assembles(batch: Batch, cpu: str) -> None:
    """What was emulated becomes PTX that ptxas takes."""
    ptx = compile_ptx(batch.module.text(), CudaTarget(cpu), 1)
    assert batch.code is not None
    assert ptx.source == batch.code.source
    if find_ptxas() is not None:
        cubin = assemble(ptx)
        assert set(cubin.usage) == {k.name for k in batch.module.kernels}
