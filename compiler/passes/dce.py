"""Dead code."""

from __future__ import annotations

from dataclasses import dataclass

from flowc.ir import dims
from flowc.ir.core import Function, Instr, Value

from .base import Context, Pass, Unit, register
from .rewrite import instr_symbols, map_subfunctions, sweep, type_symbols


@register
@dataclass(frozen=True)
class Dce(Pass):
    """Remove operations whose results nothing needs; effects stay.

    An operation that defines a size stays while a type or attribute speaks of that size. Functions
    inside control flow are cleaned too. prune: drop inputs that nothing uses and that no size comes
    from (state that is not updated, too); otherwise the signature stays.
    """

    name = "dce"
    prune: bool = False

    def run(self, unit: Unit, ctx: Context) -> Unit:
        unit = unit.map_functions(lambda f: clean(f, ctx))
        return unit.map_functions(pruned) if self.prune else unit


def clean(f: Function, ctx: Context) -> Function:
    """The function without dead operations, inside its sub-functions too."""
    kept = sweep(f.instrs, f.results)
    if len(kept) < len(f.instrs) and not ctx.allow("remove-dead"):
        kept = f.instrs
    out = []
    for i in kept:
        op = map_subfunctions(i.op, lambda sub: clean(sub, ctx))
        out.append(i if op is i.op else Instr(op, i.operands, i.results, i.loc, i.source))
    same = len(out) == len(f.instrs) and all(a is b for a, b in zip(out, f.instrs, strict=True))
    return f if same else f.replace(instrs=tuple(out))


def pruned(f: Function) -> Function:
    """The function without parameters that it does not use."""
    used: set[Value] = set(f.results)
    symbols: set[str] = set()
    for i in f.instrs:
        used.update(i.operands)
        symbols |= instr_symbols(i)
    for v in (*f.results, *(p for p in f.params if p in used)):
        symbols |= type_symbols(v.type)
    bound: set[str] = set()
    for p in f.params:
        if p in used:
            bound |= type_symbols(p.type)
    keep = []
    for n, (p, info) in enumerate(zip(f.params, f.infos, strict=True)):
        own = type_symbols(p.type)
        gives = (own & symbols) - bound
        guarded = any(own & (dims.symbols(g.left) | dims.symbols(g.right)) for g in f.guards)
        if p in used or info.updated_by >= 0 or gives or guarded:
            keep.append(n)
            bound |= own
    if len(keep) == len(f.params):
        return f
    return f.replace(
        params=tuple(f.params[n] for n in keep), infos=tuple(f.infos[n] for n in keep)
    )
