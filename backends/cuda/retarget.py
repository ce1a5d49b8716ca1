"""A device module's text made to run on the host: the emulator's input.

The code stays what it is, line for line. What changes: triple and calling convention; address
spaces are dropped; special registers and barriers become calls that take the emulated thread
(`%emu`, one more parameter); shared buffers become offsets into the block's memory; with `checks`
every access to global or shared memory goes through `@flowc_emu_access`, which knows which buffer
the pointer was made from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from flowc.runtime.errors import InternalError

from .lower import BARRIER, CTAID, ERROR, TID, digest, shared_size

THREAD = "%emu"
_DEFINE = re.compile(r"define ptx_kernel void @(\w+)\((.*)\) nounwind (.*)\{")
_SHARED = re.compile(r"(@\w+) = internal addrspace\(3\) global \[(\d+) x i8\]")
_GEP = re.compile(r"  (%\w+) = getelementptr [^,]+, ptr addrspace\(\d\) ([%@]\w+),")
_SELECT = re.compile(r"  (%\w+) = select i1 \S+, ptr addrspace\(\d\) (\S+),")
_LOAD = re.compile(r"(  %\w+ = load )(\w+), (ptr addrspace\(\d\)) ([%@]\w+)(.*)")
_STORE = re.compile(r"(  store )(\w+) (\S+), (ptr addrspace\(\d\)) ([%@]\w+)(.*)")
_SIZES = {"i8": 1, "i16": 2, "i32": 4, "float": 4, "i64": 8, "double": 8}
READ, WRITE, SHARED = 1, 2, 4


def host_text(device: str, triple: str, checks: bool) -> str:
    """The device module `device` for the host, and a trampoline for each kernel.

    The first line names the hash of what it was made from. InternalError for a construct that the
    emulator does not know.
    """
    out = [f"; emulates sha256:{digest(device)}"]
    lines = device.splitlines()
    sizes = {m[1]: int(m[2]) for m in map(_SHARED.match, lines) if m}
    made: list[_Function] = []
    function: _Function | None = None
    for n, line in enumerate(lines):
        if line.startswith("target triple"):
            out.append(f'target triple = "{triple}"')
            continue
        if _SHARED.match(line):
            continue
        if line.startswith("declare") and any(f"{r}(" in line for r in (TID, CTAID, BARRIER)):
            continue
        head = _DEFINE.match(line)
        if head is not None:
            body = "\n".join(lines[n : lines.index("}", n)])
            used = [(s, size) for s, size in sizes.items() if re.search(rf"{s}\b", body)]
            function = _Function(head[1], head[2], used, checks)
            made.append(function)
            out.extend(function.header())
            continue
        out.extend(function.line(line) if function is not None else [line])
        if line == "}":
            function = None
    out.extend(f.trampoline() for f in made)
    text = "\n".join(out) + "\n"
    if "addrspace(" in text or "llvm.nvvm" in text:
        raise InternalError("the emulator does not know a construct of the device module")
    return text


def trampoline_name(kernel: str) -> str:
    """The function that calls a kernel with arguments from memory."""
    return f'@"emu.{kernel}"'


class _Function:
    """One kernel on its way to the host."""

    def __init__(
        self, name: str, params: str, shared: Sequence[tuple[str, int]], checks: bool
    ) -> None:
        self.name, self.params, self.checks = name, params, checks
        self.buffers, self.scalars = params.count("%b"), params.count("%d")
        self.checked = ERROR in params
        self.roots: dict[str, str] = {}  # pointer → the parameter or shared buffer it is into
        self.serial = 0
        self.shared = {
            symbol: (shared_size(shared[:n]), size) for n, (symbol, size) in enumerate(shared)
        }

    def trampoline(self) -> str:
        """``void @"emu.NAME"(ptr %emu, ptr %args)``: pointers, symbols, error; with checks the
        sizes of the buffers in bytes follow."""
        lines, call = [], [f"ptr {THREAD}"]

        def word(ty: str, at: int) -> str:
            n = len(call)
            lines.append(f"  %p{n} = getelementptr i64, ptr %args, i64 {at}")
            lines.append(f"  %v{n} = load {ty}, ptr %p{n}")
            return f"{ty} %v{n}"

        words = self.buffers + self.scalars + self.checked
        for i in range(self.buffers):
            call.append(word("ptr", i))
            if self.checks:
                call.append(word("i64", words + i))
        for i in range(self.scalars):
            call.append(word("i64", self.buffers + i))
        if self.checked:
            call.append(word("ptr", words - 1))
        body = "\n".join(lines)
        return (f"define void {trampoline_name(self.name)}(ptr {THREAD}, ptr %args) nounwind"
                f" {{\n{body}\n  call void @{self.name}({', '.join(call)})\n  ret void\n}}")

    def header(self) -> list[str]:
        """Definition and first block up to where the kernel's own code begins."""
        params = re.sub(r"ptr addrspace\(1\)", "ptr", self.params)
        if self.checks:
            params = re.sub(r"(%b\d+)", r"\1, i64 \1.bytes", params.replace(" noalias", ""))
        both = ", ".join(p for p in (f"ptr {THREAD}", params) if p)
        return [f"define internal void @{self.name}({both}) nounwind {{"]

    def line(self, line: str) -> list[str]:
        """A line's replacement."""
        if line == "entry:":
            return [line, *self._shared_memory()]
        for match in (_GEP.match(line), _SELECT.match(line)):
            if match:
                self.roots[match[1]] = self.roots.get(match[2], match[2])
        out = self._access(line) if self.checks else [line]
        return [self._plain(x) for x in out]

    def _shared_memory(self) -> list[str]:
        if not self.shared:
            return []
        out = [f"  %emu.sharedp = getelementptr i8, ptr {THREAD}, i64 32",
               "  %emu.shared = load ptr, ptr %emu.sharedp"]
        for n, (at, _) in enumerate(self.shared.values()):
            out.append(f"  %emu.s{n} = getelementptr i8, ptr %emu.shared, i64 {at}")
        return out

    def _plain(self, line: str) -> str:
        """Without address spaces; registers and barriers from the thread."""
        line = re.sub(r"ptr addrspace\(\d\)", "ptr", line)
        for n, symbol in enumerate(self.shared):
            line = line.replace(symbol, f"%emu.s{n}")
        line = line.replace(f"{TID}()", f"@flowc_emu_tid(ptr {THREAD})")
        line = line.replace(f"{CTAID}()", f"@flowc_emu_ctaid(ptr {THREAD})")
        return line.replace(f"{BARRIER}(i32 0)", f"@flowc_emu_barrier(ptr {THREAD})")

    def _access(self, line: str) -> list[str]:
        load, store = _LOAD.match(line), _STORE.match(line)
        if load:
            head, ty, space, pointer, tail = load.groups()
            check, pointer = self._check(pointer, _SIZES[ty], READ)
            return [*check, f"{head}{ty}, {space} {pointer}{tail}"]
        if store:
            head, ty, value, space, pointer, tail = store.groups()
            check, pointer = self._check(pointer, _SIZES[ty], WRITE)
            return [*check, f"{head}{ty} {value}, {space} {pointer}{tail}"]
        return [line]

    def _check(self, pointer: str, size: int, kind: int) -> tuple[list[str], str]:
        root = self.roots.get(pointer, pointer)
        if root.startswith(ERROR):
            return [], pointer
        if root in self.shared:
            names = list(self.shared)
            index, kind = self.buffers + names.index(root), kind | SHARED
            bytes_ = str(self.shared[root][1])
        elif re.fullmatch(r"%b\d+", root):
            index, bytes_ = int(root[2:]), f"{root}.bytes"
        else:
            raise InternalError(f"an access through {pointer} to no known buffer")
        self.serial += 1
        name = f"%emu.a{self.serial}"
        call = (f"  {name} = call ptr @flowc_emu_access(ptr {THREAD}, ptr {pointer}, ptr {root},"
                f" i64 {bytes_}, i64 {size}, i32 {kind}, i32 {index})")
        return [call], name
