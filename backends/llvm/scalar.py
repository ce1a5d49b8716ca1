"""Basic scalar operations as LLVM instructions, on scalars and vectors alike.

Basic means what `legalize` leaves: no transcendentals, no arithmetic on narrow types. Every result
is defined (docs/ir.md): nothing here can trap or give poison.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from flowc.ir.dtypes import DType
from flowc.ir.kernel.expr import COMPARE, Expr, const_value
from flowc.runtime.errors import InternalError, UnimplementedError

from .emit import Function, Target, V, is_signed, llvm_type

DOT_BF16 = "@llvm.x86.avx512bf16.dpbf16ps.512"


def float_text(x: float) -> str:
    """An LLVM float or double literal (both are written as the bits of the double)."""
    return f"0x{struct.unpack('<Q', struct.pack('<d', x))[0]:016X}"


def constant(e: Expr) -> V:
    """The value of a `const` node."""
    dt, ty = e.dtype, llvm_type(e.dtype)
    if dt.is_bool:
        return V(ty, 0, "true" if const_value(e) else "false")
    if ty in ("float", "double"):
        return V(ty, 0, float_text(float(const_value(e))))
    if dt.is_float:  # narrow: its bits
        bits = np.frombuffer(e.attr, f"u{dt.size}")[0]
        return V(ty, 0, str(int(bits)))
    return V(ty, 0, str(int(const_value(e))))


def integer(ty: str, x: int, n: int = 0) -> V:
    """An integer literal, splat to n lanes."""
    return V(ty, n, f"splat ({ty} {x})" if n else str(x))


def has_scale(target: Target) -> bool:
    """Whether the target has p · 2ⁿ as an instruction: AVX-512."""
    return target.triple.startswith("x86_64") and target.vector_bits == 512


class Scalars:
    """Emits the basic operations into a function."""

    def __init__(self, fn: Function) -> None:
        self.fn = fn

    def apply(self, e: Expr, args: list[V]) -> V:
        """The operation of node e on values of its arguments; scalars are splat as needed."""
        n = max(a.n for a in args)
        args = [self.fn.splat(a, n) for a in args]
        if e.op in COMPARE:
            return self.compare(e.op, e.args[0].dtype, args[0], args[1])
        if e.op == "select":
            c, a, b = args
            return self.fn.op(a.ty, n, f"select {c}, {a}, {b}")
        if e.op in ("cast", "bitcast"):
            convert = self.cast if e.op == "cast" else self.bitcast
            return convert(args[0], e.args[0].dtype, e.dtype)
        if e.op == "is_nan":
            return self.fn.op("i1", n, f"fcmp uno {args[0]}, {args[0].s}")
        if e.dtype.is_bool:
            return self._logical(e.op, args)
        if e.dtype.is_float:
            return self._float(e, args)
        return self._integer(e, args)

    def inst(self, text: str, a: V, *rest: V) -> V:
        """``text a, rest…`` with the result type of a."""
        more = "".join(f", {r.s}" for r in rest)
        return self.fn.op(a.ty, a.n, f"{text} {a}{more}")

    def select(self, c: V, a: V, b: V) -> V:
        """A select on values of one shape."""
        return self.fn.op(a.ty, a.n, f"select {c}, {a}, {b}")

    # ---- families

    def compare(self, op: str, dt: DType, a: V, b: V) -> V:
        """a `op` b as i1; floats: false for NaN but for `ne`."""
        if dt.is_float:
            if a.ty not in ("float", "double"):
                raise InternalError(f"comparison of {dt} was not legalized")
            code = "une" if op == "ne" else "o" + op
            return self.fn.op("i1", a.n, f"fcmp {code} {a}, {b.s}")
        code = op if op in ("eq", "ne") else ("s" if is_signed(dt) else "u") + op
        return self.fn.op("i1", a.n, f"icmp {code} {a}, {b.s}")

    def _logical(self, op: str, args: list[V]) -> V:
        if op == "not":
            return self.inst("xor", args[0], V("i1", args[0].n, _all_ones(args[0])))
        word = {"and": "and", "or": "or", "xor": "xor", "min": "and", "max": "or"}.get(op)
        if word is None:
            raise InternalError(f"{op} on bool")
        return self.inst(word, args[0], args[1])

    def _float(self, e: Expr, args: list[V]) -> V:
        if args[0].ty not in ("float", "double"):
            raise InternalError(f"{e.op} on {e.dtype} was not legalized")
        if e.op in _FLOAT_WORDS:
            return self.inst(_FLOAT_WORDS[e.op], *args)
        if e.op == "scale":
            return self._scale(*args)
        if e.op == "dot_bf16":
            return self._dot_bf16(*args)
        if e.op == "fma" and not self.fn.unit.target.has_fma:
            return self.inst("fadd", self.inst("fmul", args[0], args[1]), args[2])
        if e.op not in _FLOAT_INTRINSICS:
            raise InternalError(f"{e.op} on {e.dtype} was not legalized")
        if e.op in ("min", "max"):
            for n in (0, 1):
                if e.args[n].op == "const" and const_value(e.args[n]) == const_value(e.args[n]):
                    return self._bound(e.op, args[n], args[1 - n], const_value(e.args[n]))
        return self._call(_FLOAT_INTRINSICS[e.op], args)

    def _dot_bf16(self, *args: V) -> V:
        """x86's instruction, on 16 lanes."""
        if args[0].n != 16:
            raise InternalError(f"dot_bf16 on {args[0].n} lanes")
        kinds = "<16 x float>", "<32 x bfloat>", "<32 x bfloat>"
        head = f"declare {kinds[0]} {DOT_BF16}({', '.join(kinds)})"
        self.fn.unit.declare(DOT_BF16, head + " nounwind willreturn memory(none)")
        acc, *words = args
        a, b = (self.fn.op("bfloat", 32, f"bitcast {x} to {kinds[1]}") for x in words)
        return self.fn.op("float", 16, f"call {kinds[0]} {DOT_BF16}({acc}, {a}, {b})")

    def _bound(self, op: str, c: V, x: V, known: float) -> V:
        """The extremum with a constant that is not NaN: a comparison and a select, a third of what
        the intrinsic costs. Where both are 0 the comparison is strict unless c is the one to take.
        """
        keeps = math.copysign(1.0, known) == (1.0 if op == "max" else -1.0)
        word = ("ogt" if op == "max" else "olt") if not keeps else ("oge" if op == "max" else "ole")
        return self.select(self.fn.op("i1", x.n, f"fcmp {word} {c}, {x.s}"), c, x)

    def _scale(self, p: V, n: V) -> V:
        """p · 2ⁿ by AVX-512's instruction, a whole register at a time."""
        ty, full = p.ty, 16 if p.ty == "float" else 8
        if not p.n:
            p, n = self.fn.splat(p, full), self.fn.splat(n, full)
            return self.fn.op(ty, 0, f"extractelement {self._scale(p, n)}, i32 0")
        if p.n == full:
            name = f"@llvm.x86.avx512.mask.scalef.p{'s' if full == 16 else 'd'}.512"
            v, mask = p.type, f"i{full}"
            self.fn.unit.declare(
                name, f"declare {v} {name}({v}, {v}, {v}, {mask}, i32) nounwind memory(none)"
            )
            return self.fn.op(ty, full, f"call {v} {name}({p}, {n}, {p}, {mask} -1, i32 4)")
        wide = max(full, 1 << (p.n - 1).bit_length())  # whole registers, and a power of two
        parts = [self._scale(self._lanes(p, at, full), self._lanes(n, at, full))
                 for at in range(0, wide, full)]
        while len(parts) > 1:
            parts = [self._joined(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return self._lanes(parts[0], 0, p.n)

    def _lanes(self, v: V, start: int, count: int) -> V:
        """Lanes start … start + count, undefined beyond the vector's own."""
        if start == 0 and count == v.n:
            return v
        picks = ", ".join(f"i32 {i if i < v.n else 'poison'}" for i in range(start, start + count))
        order = f"<{count} x i32> <{picks}>"
        return self.fn.op(v.ty, count, f"shufflevector {v}, {v.type} poison, {order}")

    def _joined(self, a: V, b: V) -> V:
        order = ", ".join(f"i32 {i}" for i in range(a.n + b.n))
        return self.fn.op(
            a.ty, a.n + b.n, f"shufflevector {a}, {b}, <{a.n + b.n} x i32> <{order}>"
        )

    def _call(self, name: str, args: list[V], *more: str) -> V:
        return self.fn.intrinsic(name, args[0].ty, args[0].n, [*args, *more])

    def _integer(self, e: Expr, args: list[V]) -> V:
        signed, a = is_signed(e.dtype), args[0]
        if e.op in _INT_WORDS:
            return self.inst(_INT_WORDS[e.op], *args)
        if e.op in ("div", "rem"):
            return self._divide(e, args, signed)
        if e.op in ("shl", "shr"):
            return self._shift(e, args, signed)
        if e.op in ("min", "max"):
            return self._call(("s" if signed else "u") + e.op, args)
        if e.op == "neg":
            return self.inst("sub", integer(a.ty, 0, a.n), a)
        if e.op == "not":
            return self.inst("xor", a, integer(a.ty, -1, a.n))
        if e.op == "abs":
            negative = self.inst("sub", integer(a.ty, 0, a.n), a)
            return self._call("smax", [a, negative]) if signed else a
        if e.op == "popcount":
            return self._call("ctpop", args)
        if e.op == "mulhi":
            return self._mulhi(args, signed)
        raise InternalError(f"{e.op} on {e.dtype} was not legalized")

    def _divide(self, e: Expr, args: list[V], signed: bool) -> V:
        """Truncating; x / 0 = x and x rem 0 = 0 here (a `check` reports), MIN / −1 = MIN."""
        a, b = args
        word = ("s" if signed else "u") + e.op
        known = int(const_value(e.args[1])) if e.args[1].op == "const" else 0
        if known in (0, -1):
            bad = self.fn.op("i1", b.n, f"icmp eq {b}, {integer(b.ty, 0, b.n).s}")
            if signed:
                least = integer(a.ty, -(1 << (int(a.ty[1:]) - 1)), a.n)
                low = self.fn.op("i1", a.n, f"icmp eq {a}, {least.s}")
                minus = self.fn.op("i1", b.n, f"icmp eq {b}, {integer(b.ty, -1, b.n).s}")
                bad = self.inst("or", bad, self.inst("and", low, minus))
            b = self.select(bad, integer(b.ty, 1, b.n), b)
        return self.inst(word, a, b)

    def _shift(self, e: Expr, args: list[V], signed: bool) -> V:
        """By the amount as an unsigned number; at least the width: 0, or the sign for `shr`."""
        (a, b), bits = args, e.dtype.bits
        width = int(a.ty[1:])
        arithmetic = e.op == "shr" and signed
        word = "ashr" if arithmetic else ("shl" if e.op == "shl" else "lshr")
        if e.args[1].op == "const":
            known = int(const_value(e.args[1])) & ((1 << bits) - 1)
            if known >= width and not arithmetic:
                return integer(a.ty, 0, a.n)
            return self.inst(word, a, integer(a.ty, min(known, width - 1), a.n))
        if arithmetic:
            return self.inst(word, a, self._call("umin", [b, integer(b.ty, width - 1, b.n)]))
        fits = self.fn.op("i1", b.n, f"icmp ult {b}, {integer(b.ty, width, b.n).s}")
        low = self.inst("and", b, integer(b.ty, width - 1, b.n))
        return self.select(fits, self.inst(word, a, low), integer(a.ty, 0, a.n))

    def _mulhi(self, args: list[V], signed: bool) -> V:
        bits = int(args[0].ty[1:])
        if bits > 32:
            raise InternalError("mulhi of 64 bits was not legalized")
        wide, word = f"i{2 * bits}", "sext" if signed else "zext"
        a, b = (self._convert(word, x, wide) for x in args)
        product = self.inst("mul", a, b)
        high = self.inst("lshr", product, integer(wide, bits, product.n))
        return self._convert("trunc", high, args[0].ty)

    # ---- conversions

    def _convert(self, word: str, x: V, ty: str) -> V:
        return self.fn.op(ty, x.n, f"{word} {x} to {V(ty, x.n, '').type}")

    def cast(self, x: V, src: DType, to: DType) -> V:
        """Conversion by value of types that need no legalization (and index)."""
        if to.is_bool:
            return self._nonzero(x, src)
        ty = llvm_type(to)
        wide_float = x.ty in ("float", "double")
        if (src.is_float and not wide_float) or (to.is_float and ty not in ("float", "double")):
            return self._half(x, src, to)
        if src.is_float and to.is_float:
            if x.ty == ty:
                return x
            return self._convert("fpext" if ty == "double" else "fptrunc", x, ty)
        if src.is_float:
            return self._saturate(x, to)
        if to.is_float:
            return self._convert("sitofp" if is_signed(src) else "uitofp", x, ty)
        out = self._resize(x, is_signed(src), ty)
        return self._wrap4(out, to) if to.bits == 4 and src != to else out

    def _half(self, x: V, src: DType, to: DType) -> V:
        """f16 ↔ f32 where the target converts them itself."""
        names = {src.name, to.name}
        if names != {"f16", "f32"} or not self.fn.unit.target.has_f16:
            raise InternalError(f"cast of {src} to {to} was not legalized")
        if src.name == "f16":
            return self._convert("fpext", self._convert("bitcast", x, "half"), "float")
        return self._convert("bitcast", self._convert("fptrunc", x, "half"), "i16")

    def _nonzero(self, x: V, src: DType) -> V:
        if src.is_bool:
            return x
        if x.ty in ("float", "double"):
            zero = V(x.ty, x.n, "zeroinitializer" if x.n else float_text(0.0))
            return self.fn.op("i1", x.n, f"fcmp une {x}, {zero.s}")
        if src.is_float:
            raise InternalError(f"cast of {src} was not legalized")
        return self.fn.op("i1", x.n, f"icmp ne {x}, {integer(x.ty, 0, x.n).s}")

    def _resize(self, x: V, signed: bool, ty: str) -> V:
        have, want = int(x.ty[1:]), int(ty[1:])
        if have == want:
            return x
        word = "trunc" if have > want else ("sext" if signed else "zext")
        return self._convert(word, x, ty)

    def _wrap4(self, x: V, to: DType) -> V:
        if to.kind == "u":
            return self.inst("and", x, integer(x.ty, 15, x.n))
        four = integer(x.ty, 4, x.n)
        return self.inst("ashr", self.inst("shl", x, four), four)

    def canonical4(self, x: V, dt: DType) -> V:
        """A 4-bit integer as read from memory: the high bits of its byte do not count."""
        return self._wrap4(x, dt)

    def _saturate(self, x: V, to: DType) -> V:
        """Float to integer: truncates, saturates, NaN gives 0; the conversion sees no overflow."""
        lo, hi = int(to.min), int(to.max)
        signed, ty, bits = is_signed(to), llvm_type(to), 24 if x.ty == "float" else 53
        top = hi if hi.bit_length() <= bits else (1 << hi.bit_length()) - (
            1 << (hi.bit_length() - bits)
        )  # the greatest float that is not above the greatest integer
        value = self._literal(x, top)
        above = self.fn.op("i1", x.n, f"fcmp oge {x}, {self._literal(x, hi + 1).s}")
        over = self.fn.op("i1", x.n, f"fcmp ogt {x}, {value.s}")
        inside = self.select(over, value, x)
        least = self._literal(x, lo)
        under = self.fn.op("i1", x.n, f"fcmp olt {inside}, {least.s}")
        inside = self.select(under, least, inside)
        nan = self.fn.op("i1", x.n, f"fcmp uno {x}, {x.s}")
        inside = self.select(nan, self._literal(x, 0), inside)
        wide = ty if int(ty[1:]) >= 32 else "i32"  # x86 has no conversions to less
        word = "fptosi" if signed or wide != ty else "fptoui"
        out = self._convert(word, inside, wide)
        if wide != ty:
            out = self._convert("trunc", out, ty)
        return self.select(above, integer(ty, hi, x.n), out)

    def _literal(self, like: V, x: int) -> V:
        text = float_text(float(x))
        return V(like.ty, like.n, f"splat ({like.ty} {text})" if like.n else text)

    def bitcast(self, x: V, src: DType, to: DType) -> V:
        """The same bits as another type."""
        if src.is_bool:
            return self._convert("zext", x, llvm_type(to))
        if to.is_bool:
            return self._nonzero(x, src)
        ty = llvm_type(to)
        out = x if x.ty == ty else self._convert("bitcast", x, ty)
        return self._wrap4(out, to) if to.bits == 4 else out

    # ---- combiners

    def combine(self, op: str, dt: DType, a: V, b: V) -> V:
        """A combiner of `COMBINERS` on wide types."""
        name = {"sum": "add", "prod": "mul"}.get(op, op)
        if dt.is_bool:
            return self._logical(name, [a, b])
        if a.ty in ("float", "double"):
            if name in _FLOAT_WORDS:
                return self.inst(_FLOAT_WORDS[name], a, b)
            return self._call(_FLOAT_INTRINSICS[name], [a, b])
        if dt.is_float or dt.bits == 4:
            raise UnimplementedError(f"{op} of {dt}: accumulate in a wider type")
        if name in ("min", "max"):
            name = ("s" if is_signed(dt) else "u") + name
            return self._call(name, [a, b])
        return self.inst(name, a, b)


def _all_ones(x: V) -> str:
    return f"splat ({x.ty} true)" if x.n else "true"


_FLOAT_WORDS = {
    "add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv", "rem": "frem", "neg": "fneg",
}  # fmt: skip
_FLOAT_INTRINSICS = {
    "abs": "fabs", "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "round": "roundeven",
    "fma": "fma", "min": "minimum", "max": "maximum",
}  # fmt: skip
_INT_WORDS = {w: w for w in ("add", "sub", "mul", "and", "or", "xor")}
