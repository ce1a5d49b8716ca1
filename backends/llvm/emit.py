"""Textual LLVM IR: values, functions under construction, and the unit (module) that collects them.

Text is 40 times faster to build than `llvmlite.ir` objects. A name of an `llvm.*` intrinsic that
LLVM does not know would become an external call, and one that the target cannot select ends the
process: `Function.intrinsic` takes the names of an allow-list only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from flowc.ir.dtypes import DType
from flowc.ir.kernel.expr import INDEX
from flowc.runtime.abi import LLVM_TYPES, error_helper
from flowc.runtime.errors import InternalError, UnimplementedError
from flowc.runtime.timings import Timings


class Target(Protocol):
    """What code generation asks of a target."""

    @property
    def triple(self) -> str: ...
    @property
    def features(self) -> str: ...
    @property
    def vector_bits(self) -> int: ...
    @property
    def has_fma(self) -> bool: ...
    @property
    def has_round(self) -> bool: ...
    @property
    def has_f16(self) -> bool: ...
    @property
    def has_bf16_dot(self) -> bool: ...


class V(NamedTuple):
    """A value: LLVM element type, lanes (0: a scalar), and its text."""

    ty: str
    n: int
    s: str

    @property
    def type(self) -> str:
        """The LLVM type."""
        return f"<{self.n} x {self.ty}>" if self.n else self.ty

    def __str__(self) -> str:
        return f"{self.type} {self.s}"


_LLVM = {
    "f32": "float", "f64": "double", "bool": "i1", "index": "i64",
    "f16": "i16", "bf16": "i16", "f8e4m3fn": "i8", "f8e5m2": "i8", "i4": "i8", "u4": "i8",
    "i8": "i8", "i16": "i16", "i32": "i32", "i64": "i64",
    "u8": "i8", "u16": "i16", "u32": "i32", "u64": "i64",
}  # fmt: skip


def llvm_type(dt: DType) -> str:
    """The type of an element as a value: narrow floats are their bits, bool is i1."""
    try:
        return _LLVM[dt.name]
    except KeyError:
        raise UnimplementedError(f"no code is generated for {dt} yet") from None


def memory_type(dt: DType) -> str:
    """The type of an element in memory: bool is a byte 0 or 1."""
    return "i8" if dt.is_bool else llvm_type(dt)


def is_signed(dt: DType) -> bool:
    """Whether integers of the type (and indices) are signed."""
    return dt is INDEX or dt.kind == "i"


# name → signature: result, then arguments; T the overloaded type, P a pointer (vector), M a mask
# of T's lanes, E T's element. Overload suffixes: T's alone but for those listed in _SUFFIX.
INTRINSICS = {
    "fma": "TTTT", "sqrt": "TT", "fabs": "TT", "floor": "TT", "ceil": "TT", "roundeven": "TT",
    "minimum": "TTT", "maximum": "TTT", "copysign": "TTT", "ctpop": "TT",
    "smin": "TTT", "smax": "TTT", "umin": "TTT", "umax": "TTT",
    "masked.load": "TPMT", "masked.store": "vTPM", "masked.gather": "TPMT",
    "masked.scatter": "vTPM", "vector.reduce.or": "ET", "cttz": "TTb",
    "prefetch": "vPiii",
}  # fmt: skip
_POINTER_SUFFIX = {"masked.load", "masked.store", "masked.gather", "masked.scatter", "prefetch"}
_ATTRS = "nounwind willreturn"

# Instructions whose results follow from their text: in one region, the first of two serves both.
_PURE = frozenset(
    "add sub mul udiv sdiv urem srem and or xor shl lshr ashr trunc zext sext bitcast icmp fcmp"
    " fadd fsub fmul fdiv fneg select getelementptr insertelement extractelement shufflevector"
    .split()
)


def suffix(ty: str, n: int) -> str:
    """The mangled form of a type: v16f32, i64, p0, p3."""
    space = re.fullmatch(r"ptr(?: addrspace\((\d)\))?", ty)
    if space:
        short = f"p{space[1] or 0}"
    else:
        short = {"float": "f32", "double": "f64"}.get(ty, ty)
    return f"v{n}{short}" if n else short


class Unit:
    """A module under construction: functions, the intrinsics they need, metadata, error sites.

    `sites` lists (code, op, loc) in the order of their ids, which are `flowc_context.error_op`.
    """

    def __init__(self, target: Target, first_site: int = 0) -> None:
        self.target = target
        self.functions: list[str] = []
        self.globals: list[str] = []
        self.sites: list[tuple[int, str, str]] = []
        self.first_site = first_site
        self.helpers: set[str] = set()  # functions of `calls.py` that the module has
        self.spent = Timings()  # in LLVM
        self.expansions = 0  # transcendentals written out so far
        self._site_ids: dict[tuple[int, str, str], int] = {}
        self._declared: dict[str, str] = {}
        self._metadata: list[str] = []
        self._interned: dict[str, str] = {}

    def site(self, code: int, op: str, loc: str) -> int:
        """The id of a place that can fail."""
        key = (code, op, loc)
        if key not in self._site_ids:
            self._site_ids[key] = self.first_site + len(self.sites)
            self.sites.append(key)
        return self._site_ids[key]

    def declare(self, name: str, text: str) -> None:
        """An external function of the module, once."""
        self._declared.setdefault(name, text)

    def metadata(self, text: str, distinct: bool = False) -> str:
        """The number of a metadata node; SELF in the text stands for the node itself."""
        if not distinct and text in self._interned:
            return self._interned[text]
        ref = f"!{len(self._metadata)}"
        word = "distinct " if distinct else ""
        self._metadata.append(f"{ref} = {word}{text.replace('SELF', ref)}")
        if not distinct:
            self._interned[text] = ref
        return ref

    def text(self) -> str:
        """The whole module."""
        parts = [f'target triple = "{self.target.triple}"', LLVM_TYPES, *self.globals]
        body = "\n".join(self.functions)
        if "@flowc_report" in body:
            parts.append(error_helper())
            parts.append(REPORT)
        if self.target.triple.startswith("riscv64") and "+d" in self.target.features:
            abi = self.metadata('!{i32 1, !"target-abi", !"lp64d"}')  # floats in registers
            parts.append(f"!llvm.module.flags = !{{{abi}}}")
        parts += [body, *self._declared.values(), *self._metadata]
        return "\n".join(parts) + "\n"


# The host decodes: word == 0 none, else v = 0xFFFFFFFF - word; code = v & 255, site = v >> 8.
REPORT = """
define internal void @flowc_report(ptr %args, i32 %code, i32 %site, i64 %d0, i64 %d1)
    noinline cold nounwind {
  %ctx = load ptr, ptr %args
  %flagp = getelementptr i8, ptr %args, i64 8
  %flag = load ptr, ptr %flagp
  %high = shl i32 %site, 8
  %both = or i32 %high, %code
  %word = xor i32 %both, -1
  %old = atomicrmw umax ptr %flag, i32 %word monotonic
  call void @flowc_fail(ptr %ctx, i32 %code, i32 %site, i64 %d0, i64 %d1, i64 0, i64 0)
  ret void
}
"""


def decode_error(word: int) -> tuple[int, int] | None:
    """(code, site id) of the word that `error_flag` points to, None where there was no error."""
    if word & 0xFFFFFFFF == 0:
        return None
    v = ~word & 0xFFFFFFFF
    return v & 255, v >> 8


class Function:
    """A function under construction. Instructions go to the current block; see `lower.py`."""

    def __init__(self, unit: Unit, header: str) -> None:
        self.unit = unit
        self.header = header
        self.entry: list[str] = []  # allocas, arguments, sizes: before everything else
        self.lines: list[str] = []
        self._serial = 0
        self.block = "start"
        self._known: dict[str, V] = {}  # by text: what the open regions have computed
        self._regions: list[list[str]] = []  # the texts in it that each has added
        self._entered: dict[str, V] = {}  # what the entry block has

    def push(self) -> None:
        """Enters a region: what is computed in it is forgotten by `pop`. Outside of all regions
        nothing is remembered: only who opens one says where control flow splits."""
        self._regions.append([])

    def pop(self) -> None:
        """Leaves it."""
        for text in self._regions.pop():
            del self._known[text]

    def fresh(self, hint: str = "v") -> str:
        """A new local name."""
        self._serial += 1
        return f"%{hint}{self._serial}"

    def label(self, hint: str = "b") -> str:
        """A new block label."""
        self._serial += 1
        return f"{hint}{self._serial}"

    def emit(self, line: str) -> None:
        """An instruction with no result."""
        self.lines.append(f"  {line}")

    def op(self, ty: str, n: int, text: str, entry: bool = False) -> V:
        """An instruction with a result of the type; `entry`: in the entry block. Equal pure
        instructions of a region and those around it are one."""
        pure = bool(self._regions) and text[: text.index(" ")] in _PURE
        if pure:
            found = self._entered.get(text)
            if found is None and not entry:
                found = self._known.get(text)
            if found is not None:
                return found
        out = V(ty, n, self.fresh())
        (self.entry if entry else self.lines).append(f"  {out.s} = {text}")
        if pure and entry:
            self._entered[text] = out
        elif pure:
            self._known[text] = out
            self._regions[-1].append(text)
        return out

    def start(self, label: str) -> None:
        """Begins a block; the one before has to end in a branch."""
        self.lines.append(f"{label}:")
        self.block = label

    def jump(self, label: str) -> None:
        """An unconditional branch."""
        self.emit(f"br label %{label}")

    def branch(self, cond: str, yes: str, no: str, extra: str = "") -> None:
        """A conditional branch on an i1."""
        self.emit(f"br i1 {cond}, label %{yes}, label %{no}{extra}")

    def phi(self, ty: str, incoming: Sequence[tuple[str, str]]) -> V:
        """A phi of (value, label) pairs."""
        arms = ", ".join(f"[ {v}, %{b} ]" for v, b in incoming)
        return self.op(ty, 0, f"phi {ty} {arms}")

    def intrinsic(
        self, name: str, ty: str, n: int, args: Iterable[V | str], meta: str = ""
    ) -> V:
        """A call of `llvm.<name>` overloaded at the type; strings are arguments as they are."""
        if name not in INTRINSICS:
            raise InternalError(f"llvm.{name} is not on the list of intrinsics")
        args = list(args)
        signature = INTRINSICS[name]
        pointer = next((a for a in args if isinstance(a, V) and a.ty.startswith("ptr")), None)
        symbol = f"@llvm.{name}.{suffix(ty, n)}" if ty else f"@llvm.{name}"
        if name in _POINTER_SUFFIX and pointer is not None:
            symbol += f".{suffix(pointer.ty, pointer.n)}"
        full = V(ty, n, "").type
        kinds = {"T": full, "v": "void", "E": ty, "b": "i1", "i": "i32", "M": f"<{n} x i1>"}
        kinds["P"] = pointer.type if pointer else "ptr"
        params = ", ".join(kinds[k] for k in signature[1:])
        result = kinds[signature[0]]
        self.unit.declare(symbol, f"declare {result} {symbol}({params}) {_ATTRS}")
        text = f"call {result} {symbol}({', '.join(map(str, args))}){meta}"
        if result == "void":
            self.emit(text)
            return V("void", 0, "")
        return self.op(ty, 0 if signature[0] == "E" else n, text)

    def splat(self, v: V, n: int) -> V:
        """v in every lane of a vector of n (v itself where it is a vector or n is 0)."""
        if v.n or not n:
            return v
        if not v.s.startswith(("%", "@")):
            return V(v.ty, n, f"splat ({v.ty} {v.s})")
        first = self.op(v.ty, n, f"insertelement <{n} x {v.ty}> poison, {v}, i32 0")
        zero = f"<{n} x i32> zeroinitializer"
        return self.op(v.ty, n, f"shufflevector {first}, <{n} x {v.ty}> poison, {zero}")

    def text(self) -> str:
        """The function's text."""
        body = ["entry:", *self.entry, "  br label %start", "start:", *self.lines]
        return "\n".join([self.header + " {", *body, "}", ""])
