"""The functions that the ABI wants beside an entry point: bind, workspace_size, output_shapes."""

from __future__ import annotations

from flowc.ir import dims
from flowc.ir.core import Guard
from flowc.ir.dims import Dim
from flowc.ir.plan import Program

from .emit import Function, Unit
from .sizes import Sizes


def checked_guards(p: Program) -> list[Guard]:
    """The guards that `NAME_bind` evaluates: those over symbols that the inputs' shapes have.

    A guard over a symbol that has been merged away is checked by the shapes themselves.
    """
    known = {s for b in p.inputs for d in b.shape for s in dims.symbols(d)}
    return [g for g in p.guards if (dims.symbols(g.left) | dims.symbols(g.right)) <= known]


class Companions:
    """Emits the three functions for a program; symbols: the order of `dims`."""

    def __init__(self, p: Program, unit: Unit, symbols: list[str], data: frozenset[str]) -> None:
        self.p, self.unit, self.symbols, self.data = p, unit, symbols, data

    def _start(self, result: str, suffix: str, params: str) -> None:
        header = f"define {result} @{self.p.name}_{suffix}({params}) nounwind"
        self.f = Function(self.unit, header)
        self.loaded: dict[str, str] = {}

    def _load(self, ty: str, ptr: str) -> str:
        name = self.f.fresh("x")
        self.f.emit(f"{name} = load {ty}, ptr {ptr}")
        return name

    def _gep(self, base: str, n: int) -> str:
        name = self.f.fresh("p")
        self.f.emit(f"{name} = getelementptr i64, ptr {base}, i64 {n}")
        return name

    def _symbol(self, name: str) -> str:
        if name not in self.loaded:
            self.loaded[name] = self._load("i64", self._gep("%dims", self.symbols.index(name)))
        return self.loaded[name]

    def bind(self) -> None:
        """NAME_bind: solves the symbols from the shapes, then checks every axis and guard."""
        self._start("i32", "bind", "ptr %shapes, ptr %dims")
        f = self.f
        flat: list[Dim] = [d for b in self.p.inputs for d in b.shape]
        given = [self._load("i64", self._gep("%shapes", n)) for n in range(len(flat))]
        values = self._solve(flat, given)
        for n, name in enumerate(self.symbols):
            f.emit(f"store i64 {values.get(name, '0')}, ptr {self._gep('%dims', n)}")
        sizes = Sizes(f, lambda name: values.get(name, "0"))
        for name, bound in self.p.bounds.items():
            at = self._gep("%dims", self.symbols.index(name))
            f.emit(f"store i64 {sizes.dim(dims.substitute(bound, self.p.bounds))}, ptr {at}")
        for n, (d, v) in enumerate(zip(flat, given, strict=True)):
            self._check(v, sizes.dim(d), n + 1)
        for n, g in enumerate(checked_guards(self.p)):
            self._check(sizes.dim(g.left), sizes.dim(g.right), len(flat) + n + 1)
        f.emit("ret i32 0")
        self.unit.functions.append(f.text())

    def _solve(self, flat: list[Dim], given: list[str]) -> dict[str, str]:
        """The symbols' values: from an axis that is one, else from one that is k·s + c."""
        values: dict[str, str] = {}
        for d, v in zip(flat, given, strict=True):
            if isinstance(d, dims.Expr) and d == dims.sym(str(d)):
                values.setdefault(str(d), v)
        for d, v in zip(flat, given, strict=True):
            found = dims.linear(d)
            if found is not None and found[0] not in values:
                values[found[0]] = self._solved(v, found[1], found[2])
        return values

    def _solved(self, value: str, factor: int, rest: int) -> str:
        """The s of value = factor·s + rest, rounded towards zero: the check of sizes finds that."""
        f, out = self.f, value
        for op, by in (("sub", rest), ("sdiv", factor)):
            name = f.fresh("t")
            f.emit(f"{name} = {op} i64 {out}, {by}")
            out = name
        return out

    def _check(self, a: str, b: str, number: int) -> None:
        """Return `number` unless a = b."""
        if a == b:
            return
        f = self.f
        bad, fail, ok = f.fresh("t"), f.label("fail"), f.label("ok")
        f.emit(f"{bad} = icmp ne i64 {a}, {b}")
        f.branch(bad, fail, ok)
        f.start(fail)
        f.emit(f"ret i32 {number}")
        f.start(ok)

    def workspace_size(self, scratch: Dim) -> None:
        """NAME_workspace_size: temporaries and each worker's scratch; −1 where sizes overflow."""
        self._start("i64", "workspace_size", "ptr %dims, i32 %workers")
        f = self.f
        for op in ("add", "sub", "mul"):
            name = f"@llvm.s{op}.with.overflow.i64"
            self.unit.declare(name, f"declare {{ i64, i1 }} {name}(i64, i64)")
        f.entry.append("  %over = alloca i1")
        f.emit("store i1 false, ptr %over")
        sizes = Sizes(f, self._symbol, "%over")
        workers = f.fresh("w")
        f.emit(f"{workers} = sext i32 %workers to i64")
        local = sizes.arith("mul", workers, sizes.dim(scratch))
        total = sizes.arith("add", sizes.dim(self.p.workspace), local)
        for b in (*self.p.inputs, *self.p.outputs):  # their sizes must be addressable too
            if not any(dims.symbols(d) & self.data for d in b.shape):
                sizes.dim(b.type.nbytes)
        over, out = self._load("i1", "%over"), f.fresh("w")
        f.emit(f"{out} = select i1 {over}, i64 -1, i64 {total}")
        f.emit(f"ret i64 {out}")
        self.unit.functions.append(f.text())

    def output_shapes(self) -> None:
        """NAME_output_shapes."""
        self._start("void", "output_shapes", "ptr %dims, ptr %shapes")
        sizes = Sizes(self.f, self._symbol)
        for n, d in enumerate(d for b in self.p.outputs for d in b.shape):
            self.f.emit(f"store i64 {sizes.dim(d)}, ptr {self._gep('%shapes', n)}")
        self.f.emit("ret void")
        self.unit.functions.append(self.f.text())
