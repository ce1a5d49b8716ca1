"""What a stage is, by the shape of its computation: map, reduction of rows or columns, contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

from .. import dims
from ..dims import Dim
from .expr import Expr, is_const_index, linear, load_parts, walk
from .form import AnyStage, Buffer, Proc, Stage

Kind = Literal["map", "rows", "columns", "contract", "proc"]

_WEIGHT = {
    "const": 0, "var": 0, "lin": 0, "dim": 0, "load": 1, "cast": 1, "div": 4, "rem": 8, "sqrt": 4,
    "floordiv": 3, "mod": 3, "imul": 1, "rsqrt": 4, "neg": 0, "check": 2,
}
_HEAVY = frozenset(
    ("exp", "expm1", "log", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "tanh",
     "sigmoid", "erf", "erfinv", "lgamma", "digamma", "pow")
)


@dataclass(frozen=True)
class Reduction:
    """A stage's reduce node taken apart."""

    op: str
    axes: tuple[Expr, ...]
    body: Expr


_reductions: WeakKeyDictionary[AnyStage, Reduction | None] = WeakKeyDictionary()
_iterations: WeakKeyDictionary[Stage, Dim] = WeakKeyDictionary()


def reduction(s: AnyStage) -> Reduction | None:
    """The one reduce of a stage whose value is it, perhaps under casts or other scalar work; found
    once."""
    if s not in _reductions:
        _reductions[s] = _reduction(s)
    return _reductions[s]


def _reduction(s: AnyStage) -> Reduction | None:
    if isinstance(s, Proc):
        return None
    found = [e for e in walk(s.value) if e.op == "reduce"]
    if len(found) != 1:
        return None
    (e,) = found
    return Reduction(e.attr, e.args[1:], e.args[0])


def weight(e: Expr) -> int:
    """Rough cycles of one node."""
    return _WEIGHT.get(e.op, 12 if e.op in _HEAVY else 1)


def is_heavy(e: Expr) -> bool:
    """Whether a node is a transcendental: a dozen cycles and more."""
    return e.op in _HEAVY


def cost(value: Expr) -> int:
    """Rough cycles an element of computing the expression once."""
    return sum(weight(e) for e in walk(value))


def variables(e: Expr) -> set[Expr]:
    """The loop variables below an expression."""
    return {x for x in walk(e) if x.op == "var"}


def is_identity(e: Expr, axes: tuple[Expr, ...]) -> bool:
    """Whether a load reads its buffer at exactly these axes, with no predicate."""
    _, idx, pred = load_parts(e)
    return pred is None and len(idx) == len(axes) and all(map(same_index, idx, axes))


def same_index(i: Expr, axis: Expr) -> bool:
    """Whether an index is this axis; along one of extent 1 that is 0."""
    return i is axis or (axis.attr.extent == 1 and is_const_index(i) == 0)


def is_view(s: AnyStage) -> Buffer | None:
    """The buffer whose memory the stage's result could be: the same bytes in the same order."""
    if isinstance(s, Proc) or s.value.op != "load":
        return None
    src, idx, pred = load_parts(s.value)
    if pred is not None or src.dtype != s.out.dtype or src.scope != "global":
        return None
    if dims.product(src.shape) != dims.product(s.out.shape):
        return None
    return src if src.offset(idx) is s.out.offset(s.axes) else None


def is_contract(s: AnyStage) -> bool:
    """A sum of products of two operands, one of which has an output axis that the other lacks.

    Where only one has, as in a matrix times a vector, both must be loads: formulas of which each
    element is used once are cheaper computed with the rows or columns that they come from.
    """
    return _product(s) is not None


def is_product(s: AnyStage) -> bool:
    """Whether a contract uses each element of both operands more than once."""
    return _product(s) == "both"


def _product(s: AnyStage) -> Literal["one", "both"] | None:
    """Which operands of a contract have an output axis that the other lacks; None: no contract."""
    r = reduction(s)
    if r is None or r.op != "sum" or isinstance(s, Proc):
        return None
    body = r.body
    while body.op == "cast":
        body = body.args[0]
    if body.op != "mul":
        return None
    a, b = (variables(x) for x in body.args)
    if not all(any(e.op == "load" for e in walk(x)) for x in body.args):
        return None
    outer = {v for v in s.axes if v.attr.extent != 1}
    if not all(v in a and v in b for v in r.axes if v.attr.extent != 1):
        return None
    if outer & (a - b) and outer & (b - a):
        return "both"
    return "one" if outer & (a ^ b) and all(map(is_loaded, body.args)) else None


def is_loaded(e: Expr) -> bool:
    """Whether a value comes from memory as it is, cast perhaps."""
    while e.op == "cast":
        e = e.args[0]
    return e.op == "load"


def _unit_axis(e: Expr) -> Expr | None:
    """The variable that steps through a load's memory by one element."""
    buf, idx, _ = load_parts(e)
    terms, _ = linear(buf.offset(idx))
    return next((v for v, k in terms.items() if k == 1 and v.op == "var"), None)


_kinds: WeakKeyDictionary[AnyStage, Kind] = WeakKeyDictionary()


def classify(s: AnyStage) -> Kind:
    """The kind of a stage, found once; see the module's text."""
    found = _kinds.get(s)
    if found is None:
        found = _kinds[s] = _classify(s)
    return found


def _classify(s: AnyStage) -> Kind:
    if isinstance(s, Proc):
        return "proc"
    r = reduction(s)
    if r is None:
        return "map"
    return "contract" if is_contract(s) else _folds(s, r)


def folded(s: AnyStage) -> Kind:
    """The kind of a stage, that of a contract as if it were any other reduction."""
    kind, r = classify(s), reduction(s)
    return _folds(s, r) if kind == "contract" and r is not None else kind  # type: ignore[arg-type]


def _folds(s: Stage, r: Reduction) -> Kind:
    """Whether a stage that reduces walks along rows or along columns.

    Columns: some load steps through memory along an axis of the result, and none that steps along
    a reduced axis depends on that one (as the indices of a gather do not).
    """
    loads = [(e, _unit_axis(e)) for e in walk(r.body) if e.op == "load"]
    along = {u for _, u in loads if u is not None and u not in r.axes}
    if not along or not s.axes or any(u in r.axes and along & variables(e) for e, u in loads):
        return "rows"
    return "columns"


def iterations(s: Stage) -> Dim:
    """How often the innermost expression of a stage is evaluated; found once."""
    found = _iterations.get(s)
    if found is not None:
        return found
    out = dims.product(s.out.shape)
    for e in walk(s.value):
        if e.op == "reduce":
            for v in e.args[1:]:
                out = dims.mul(out, v.attr.extent)
    _iterations[s] = out
    return out


def estimate(d: Dim, symbol: int = 64) -> int:
    """A dimension with a typical size for its symbols: for cost models only."""
    value = dims.substitute(d, dict.fromkeys(dims.symbols(d), symbol))
    return value if isinstance(value, int) else symbol


def is_affine(idx: tuple[Expr, ...]) -> bool:
    """Whether index expressions are sums of variables times constants."""
    return all(
        is_const_index(i) is not None or all(a.op == "var" for a in linear(i)[0]) for i in idx
    )


def split_point(axes: Sequence[Expr], *roots: Expr) -> tuple[Expr, Dim, Dim] | None:
    """An axis v that is read as v // d or v % d where d divides its extent: (v, d, extent / d).

    As two axes, v = hi·d + lo, what is read becomes affine.
    """
    for e in walk(*roots):
        if e.op in ("floordiv", "mod") and e.args[0].op == "var" and e.args[0] in axes:
            v, d = e.args[0], is_const_index(e.args[1])
            q = None if d is None else dims.exact_div(v.attr.extent, d)
            if d is not None and q is not None:
                return v, d, q
    return None
