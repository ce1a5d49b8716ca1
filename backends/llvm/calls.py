"""Transcendentals as functions: a body of many calls them instead of holding each expansion.

An expansion is some forty instructions. LLVM's time grows faster than a function's length, so a
kernel with dozens of them is smaller, and sooner made, with calls; the results are the same bits.
"""

from __future__ import annotations

from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Stmt, stmt_exprs
from flowc.runtime.errors import InternalError

from .emit import Function, Unit, V, llvm_type, suffix
from .legalize import legalize
from .values import Values

OUTLINED = frozenset(
    "exp expm1 tanh sigmoid log log1p sin cos tan asin acos atan atan2 erf erfinv lgamma digamma"
    " pow".split()
)
MOST_IN_BODY = 12  # expansions that a phase may hold
MOST_IN_UNIT = 300  # and a module, before all further ones are calls


def kept_ops(body: tuple[Stmt, ...], unit: Unit) -> frozenset[str]:
    """The ops that a phase calls functions for: none, or all of them."""
    count = sum(1 for e in ex.walk(*stmt_exprs(body)) if e.op in OUTLINED and e.dtype.is_float)
    if count > MOST_IN_BODY or unit.expansions + count > MOST_IN_UNIT:
        return OUTLINED
    unit.expansions += count
    return frozenset()


def call(fn: Function, e: Expr, args: list[V]) -> V:
    """The call of the function for node `e`, which the module gets where it lacks it."""
    n = max(a.n for a in args)
    ty = llvm_type(e.dtype)
    name = f"@flowc_{e.op}_{suffix(ty, n)}"
    if name not in fn.unit.helpers:
        fn.unit.helpers.add(name)
        _define(fn.unit, name, e, ty, n)
    text = ", ".join(str(fn.splat(a, n)) for a in args)
    return fn.op(ty, n, f"call {V(ty, n, '').type} {name}({text})")


def _define(unit: Unit, name: str, e: Expr, ty: str, n: int) -> None:
    params = [ex.let_var(f"a{i}", a.dtype) for i, a in enumerate(e.args)]
    given = [V(ty, n, f"%a{i}") for i in range(len(params))]
    bits = unit.target.vector_bits
    width = f' "prefer-vector-width"="{bits}"' if bits else ""
    header = f"define internal {V(ty, n, '').type} {name}({', '.join(map(str, given))})"
    fn = Function(unit, f"{header} noinline nounwind willreturn memory(none){width}")
    values = Values(fn, _no_symbols)
    for p, v in zip(params, given, strict=True):
        values.bind(p, v)
    body = legalize(ex.node(e.op, tuple(params), e.attr, e.dtype), unit.target)
    fn.emit(f"ret {fn.splat(values.value(body), n)}")
    unit.functions.append(fn.text())


def _no_symbols(name: str) -> V:
    raise InternalError(f"size {name} in a function of numbers")
