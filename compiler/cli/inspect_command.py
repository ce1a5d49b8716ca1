"""``flowc inspect``: what is in a file."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import Any

from flowc.ir import dims
from flowc.ir.core import Function
from flowc.ir.plan import launches
from flowc.runtime import checkpoint

from .. import analysis, artifact, driver, elf, loading
from . import inputs
from .failures import UserError, compiling


def run(a: argparse.Namespace) -> None:
    """Describe a library, object, program or checkpoint."""
    image = loading.read(a.file)
    if elf.is_elf(image):
        library(a, image)
    elif a.file.endswith(".flow"):
        flow(a)
    elif a.file.endswith(".safetensors") or image[8:9] == b"{":
        tensors(a)
    else:
        raise UserError(f"{a.file} is neither a compiled library, a .flow file nor a checkpoint")


def library(a: argparse.Namespace, image: bytes) -> None:
    """Functions, buffers, kernels and sizes of a library or object."""
    found = artifact.records(image)
    if a.json:
        print(json.dumps([r.manifest for r in found], indent=1))
        return
    file = elf.parse(image)
    kind = {elf.RELOCATABLE: "object", elf.SHARED: "shared library"}.get(file.kind, "ELF file")
    print(f"{a.file}: {kind} for {file.machine}, {len(image)} bytes")
    if not found:
        raise UserError("it holds no function of flowc")
    first = found[0]
    if any(first.digest):
        intact = artifact.file_digest(image, first.offset) == first.digest
        print(f"  hash of the file: {'correct' if intact else 'WRONG, the file is damaged'}")
    for s in file.sections:
        if s.size and s.kind != 8 and s.name in (".text", ".rodata", ".data", artifact.SECTION):
            print(f"  {s.name:16} {s.size:>10} bytes")
    for r in found:
        function(r.manifest)


def function(m: dict[str, Any]) -> None:
    """One entry point."""
    print(f"function {m['name']}  (flowc {m.get('flowc', '?')}, ABI {m['abi']}, {m['target']},"
          f" cpu {m['cpu'] or 'generic'})")
    for kind in ("inputs", "state", "outputs"):
        for t in m[kind]:
            shape = ",".join(map(str, t.get("shape", ["…"])))
            mode = f" ({t['mode']})" if kind == "state" else ""
            starts = " starts with a value" if t["name"] in m.get("initial", ()) else ""
            print(f"  {kind.rstrip('s'):7} {t['name']}: {t['dtype']}[{shape}]{mode}{starts}")
    print(f"  sizes   {', '.join(m['dims']) or 'all known'}")
    print(f"  kernels {len(m['kernels'])}: {', '.join(m['kernels'])}")
    if m["host_calls"]:
        print(f"  calls the host: {', '.join(m['host_calls'])}")


def flow(a: argparse.Namespace) -> None:
    """Functions of a .flow file, their operations; with --kernels what they compile to."""
    options = inputs.options(a)
    for name, f in inputs.flow_module(a.file).functions.items():
        ins = ", ".join(f"{i.name}: {p.type}" for p, i in zip(f.params, f.infos, strict=True))
        print(f"function @{name}({ins}) -> ({', '.join(map(str, f.result_types))})")
        count = Counter(i.op.name for i in f.walk())
        total = sum(count.values())
        print(f"  {total} operations: {', '.join(f'{n} {op}' for op, n in count.most_common())}")
        if a.kernels:
            with compiling(options, f):
                kernels(f, options)


def kernels(f: Function, options: Any) -> None:
    """The kernels of a compiled function."""
    compiled = driver.compile_program(f, options)
    cost = analysis.cost_analysis(compiled.program)
    memory = analysis.memory_analysis(compiled.program)
    print(f"  {cost.kernels} kernels, {cost.flops} operations, {cost.bytes} bytes moved; workspace"
          f" {memory.workspace} bytes, constants {memory.constants} (sizes not known taken as 64)")
    for launch in launches(compiled.program.steps):
        k = launch.kernel
        work = analysis.kernel_flops(k, {s: 64 for b in (*k.inputs, *k.outputs) for d in b.shape
                                         for s in dims.symbols(d)})
        outs = ", ".join(f"{b.name}: {b.type}" for b in k.outputs)
        print(f"  {k.name}: {len(k.stages)} stages, {work} operations → {outs}")


def tensors(a: argparse.Namespace) -> None:
    """The arrays of a checkpoint."""
    found = checkpoint.load(a.file)
    total = sum(v.nbytes for v in found.values())
    print(f"{a.file}: checkpoint, {len(found)} arrays, {total} bytes")
    for name, value in found.items():
        print(f"  {name}: {value.dtype}{list(value.shape)}")
    for key, text in checkpoint.load_metadata(a.file).items():
        if not key.startswith("flowc."):
            print(f"  {key} = {text}")
