"""Statements of other schedules put to use inside a nest: serial loops, buffers at other places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from flowc.ir.kernel import expr as ex
from flowc.ir.kernel.expr import Expr
from flowc.ir.kernel.form import Alloc, Buffer, For, If, Let, Prefetch, Stmt, Store, While

from ..contract.micro import Block

Places = Mapping[Buffer, tuple[Buffer, Expr]]  # buffer → where it is, and the first row there


def serial(body: Block) -> Block:
    """A phase's loops over chunks as loops of one chunk."""
    return tuple(replace(s, kind="serial") if isinstance(s, For) and s.kind == "parallel" else s
                 for s in body)


def load(e: Expr, places: Places, memo: dict[Expr, Expr]) -> Expr:
    """e with loads of `places`' buffers made where these are."""
    def step(x: Expr) -> Expr | None:
        if x.op != "load" or x.attr not in places:
            return None
        buf, idx, pred = ex.load_parts(x)
        to, first = places[buf]
        idx = tuple(ex.rewrite(i, step, memo) for i in idx)
        pred = None if pred is None else ex.rewrite(pred, step, memo)
        return ex.load(to, (first + idx[0], *idx[1:]), pred)
    return ex.rewrite(e, step, memo)


def block(body: Block, places: Places) -> Block:
    """Statements with the loads and stores of `places`' buffers made where these are."""
    memo: dict[Expr, Expr] = {}

    def expr(e: Expr) -> Expr:
        return load(e, places, memo)

    def where(b: Buffer, indices: tuple[Expr, ...]) -> tuple[Buffer, tuple[Expr, ...]]:
        idx = tuple(map(expr, indices))
        if b not in places:
            return b, idx
        to, first = places[b]
        return to, (first + idx[0], *idx[1:])

    def one(s: Stmt) -> Stmt:
        if isinstance(s, For):
            return For(s.var, expr(s.extent), s.kind, go(s.body), s.width)
        if isinstance(s, Store):
            to, idx = where(s.buffer, s.indices)
            return Store(to, idx, expr(s.value))
        if isinstance(s, Prefetch):
            return Prefetch(*where(s.buffer, s.indices))
        if isinstance(s, Let):
            return Let(s.var, expr(s.value))
        if isinstance(s, If):
            return If(expr(s.cond), go(s.then), go(s.otherwise))
        if isinstance(s, While):
            return While(expr(s.cond), go(s.body))
        assert isinstance(s, Alloc)
        return Alloc(s.buffer, go(s.body))

    def go(block: Block) -> Block:
        return tuple(one(s) for s in block)

    return go(body)
