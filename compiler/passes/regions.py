"""The operands of control flow: which parameter of which sub-function each one feeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from flowc.ir.core import Function, Op

from .rewrite import sweep


@dataclass(frozen=True)
class Layout:
    """Operand i feeds parameter i − lead of every function in `names`.

    After `lead` operands come `carried` values, `xs` arrays of which the body sees elements, and
    invariants. body: the function whose first results are the next carried values, if any.
    """

    lead: int
    carried: int
    xs: int
    names: tuple[str, ...]
    body: str = ""

    @property
    def first_invariant(self) -> int:
        return self.lead + self.carried + self.xs


def layout_of(op: Op) -> Layout | None:
    """The layout of a control-flow op; None of others."""
    o: Any = op
    if op.name == "cond":
        return Layout(1, 0, 0, ("then", "otherwise"))
    if op.name == "while":
        return Layout(0, o.carried, 0, ("cond", "body"), "body")
    if op.name == "scan":
        return Layout(0, o.carried, o.xs, ("body",), "body")
    return None


def map_functions(op: Op, fn: Callable[[str, Function], Function]) -> Op:
    """The op with each of its functions replaced by fn(attribute name, function)."""
    names = [n for n, v in op.attrs().items() if isinstance(v, Function)]
    return dataclasses.replace(op, **{n: fn(n, getattr(op, n)) for n in names})  # type: ignore[type-var]


def select_params(f: Function, keep: list[int]) -> Function:
    """f with these parameters only."""
    return f.replace(
        params=tuple(f.params[i] for i in keep), infos=tuple(f.infos[i] for i in keep)
    )


def select_results(f: Function, keep: list[int]) -> Function:
    """f with these results only, and without what the others needed."""
    results = tuple(f.results[i] for i in keep)
    names = f.result_names
    names = tuple(names[i] for i in keep) if len(names) == len(f.results) else ()
    return f.replace(results=results, instrs=sweep(f.instrs, results), result_names=names)


def without(op: Op, drop: Collection[int]) -> Op:
    """The op without these operands; a carried value's result goes with it."""
    lay = layout_of(op)
    assert lay is not None

    def fewer(name: str, f: Function) -> Function:
        f = select_params(f, [i for i in range(len(f.params)) if i + lay.lead not in drop])
        if name == lay.body:
            gone = {i for i in drop if i < lay.carried}
            f = select_results(f, [i for i in range(len(f.results)) if i not in gone])
        return f

    new = map_functions(op, fewer)
    counts: dict[str, int] = {}
    if lay.body:
        counts["carried"] = lay.carried - sum(i < lay.carried for i in drop)
    if lay.xs:
        counts["xs"] = lay.xs - sum(lay.carried <= i < lay.carried + lay.xs for i in drop)
    return dataclasses.replace(new, **counts) if counts else new  # type: ignore[type-var]
