"""Attention becomes one kernel, however it is written, and only where nothing else sees inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from flowc.backends.cpu.attention.match import MIN_ROWS
from flowc.compiler import driver
from flowc.compiler.options import Options
from flowc.ir.builder import Builder
from flowc.ir.core import Function
from flowc.ir.dims import Dim, sym
from flowc.ir.dtypes import BY_NAME
from flowc.ir.plan import launches
from flowc.ir.types import TensorType
from guarded_call import call_guarded

LEAD, N, M, D, E = (2, 3), 20, 36, 16, 24
Array = np.ndarray[Any, Any]
Build = Callable[..., Any]
DATA: dict[str, Array] = {
    "q": np.random.default_rng(1).standard_normal((*LEAD, N, D)),
    "k": np.random.default_rng(2).standard_normal((*LEAD, M, D)),
    "v": np.random.default_rng(3).standard_normal((*LEAD, M, E)),
    "mask": np.where(np.arange(M) < np.arange(N)[:, None] + 5, 0.0, -3e4),
}


def product(b: Any, x: Any, y: Any, last: bool) -> Any:
    """Batched x·y, over y's last axis or the one before it."""
    r = x.ty.rank
    at = tuple(range(r - 2))
    return b.dot(x, y, contract=((r - 1,), (r - 1 if last else r - 2,)), batch=(at, at))


def spread(b: Any, row: Any, like: Any) -> Any:
    return b.broadcast(row, shape=like.ty.shape, dims=tuple(range(row.ty.rank)))


def folded(b: Any, x: Any, op: str) -> Any:
    return b.reduce(x, op=op, axes=(x.ty.rank - 1,))


def softmax(b: Any, s: Any) -> Any:
    e = b.exp(b.sub(s, spread(b, folded(b, s, "max"), s)))
    return b.div(e, spread(b, folded(b, e, "sum"), e))


def quarter(b: Any, x: Any) -> Any:
    return b.mul(x, b.const(0.25, x))


def scores(b: Any, q: Any, k: Any) -> Any:
    return quarter(b, product(b, q, k, True))


def plain(b: Any, q: Any, k: Any, v: Any) -> Any:
    return product(b, softmax(b, scores(b, q, k)), v, False)


def queries_scaled(b: Any, q: Any, k: Any, v: Any) -> Any:
    return product(b, softmax(b, product(b, quarter(b, q), k, True)), v, False)


def divided(b: Any, q: Any, k: Any, v: Any) -> Any:
    s = product(b, q, k, True)
    return product(b, softmax(b, b.div(s, b.const(4.0, s))), v, False)


def divided_at_the_end(b: Any, q: Any, k: Any, v: Any) -> Any:
    s = scores(b, q, k)
    e = b.exp(b.sub(s, spread(b, folded(b, s, "max"), s)))
    y = product(b, e, v, False)
    return b.div(y, spread(b, folded(b, e, "sum"), y))


def no_maximum(b: Any, q: Any, k: Any, v: Any) -> Any:
    e = b.exp(scores(b, q, k))
    return product(b, b.div(e, spread(b, folded(b, e, "sum"), e)), v, False)


def keys_first(b: Any, q: Any, k: Any, v: Any) -> Any:
    s = b.dot(k, q, contract=((3,), (3,)), batch=((0, 1), (0, 1)))
    return product(b, softmax(b, quarter(b, b.transpose(s, perm=(0, 1, 3, 2)))), v, False)


def masked(b: Any, q: Any, k: Any, v: Any, mask: Any) -> Any:
    s = scores(b, q, k)
    return product(b, softmax(b, b.add(s, b.broadcast_to(mask, s.ty.shape))), v, False)


def chosen(b: Any, q: Any, k: Any, v: Any, mask: Any) -> Any:
    s = scores(b, q, k)
    wide = b.broadcast_to(mask, s.ty.shape)
    seen = b.compare(wide, b.const(-1.0, wide), op="ge")
    return product(b, softmax(b, b.select(seen, s, b.const(-3e4, s))), v, False)


def heads_last(b: Any, q: Any, k: Any, v: Any) -> Any:
    return b.transpose(plain(b, q, k, v), perm=(0, 2, 1, 3))


def merged(b: Any, q: Any, k: Any, v: Any) -> Any:
    y = b.transpose(plain(b, q, k, v), perm=(0, 2, 1, 3))
    batch, rows, heads, last = y.ty.shape
    return b.reshape(y, shape=(batch, rows, heads * last))


def in_float(b: Any, q: Any, k: Any, v: Any) -> Any:
    """Narrow products, softmax in f32."""
    s = quarter(b, b.cast(product(b, q, k, True), dtype=BY_NAME["f32"]))
    return product(b, b.cast(softmax(b, s), dtype=v.ty.dtype), v, False)


FORMS = (plain, queries_scaled, divided, divided_at_the_end, no_maximum, masked, chosen, keys_first,
         heads_last, merged)


def function(build: Build, kind: str = "f32", rows: Dim = N, lead: tuple[Dim, ...] = LEAD,
             extra: Build | None = None) -> Function:
    b = Builder("main")
    shapes = {"q": (*lead, rows, D), "k": (*lead, M, D), "v": (*lead, M, E), "mask": (rows, M)}
    names = build.__code__.co_varnames[1 : build.__code__.co_argcount]
    params = [b.param(TensorType(BY_NAME[kind], shapes[n]), n) for n in names]
    y = build(b, *params)
    return b.finish([y] if extra is None else [y, extra(b, *params)])


def arguments(build: Build, kind: str) -> list[Array]:
    names = build.__code__.co_varnames[1 : build.__code__.co_argcount]
    return [DATA[n].astype(BY_NAME[kind].np) for n in names]


def expected(build: Build, args: list[Array]) -> Array:
    q, k, v, *mask = (np.asarray(a, np.float64) for a in args)
    s = q @ np.swapaxes(k, -1, -2) / 4
    s = s + mask[0] if mask else s
    e = np.exp(s - s.max(-1, keepdims=True))
    y = e / e.sum(-1, keepdims=True) @ v
    if build in (heads_last, merged):
        y = y.transpose(0, 2, 1, 3)
    return y.reshape(*y.shape[:2], -1) if build is merged else y


def compiled(f: Function, target: str = "host") -> tuple[Any, list[str]]:
    """The program, and the schedule of each launch."""
    made = driver.compile_program(f, Options(target=target))
    notes = [s.variants[-1].kernel.note for s in launches(made.program.steps)]
    return made, notes


def run(made: Any, *args: Array) -> list[Array]:
    """The results, all memory lying between pages that fault."""
    return call_guarded(made.load(), args)[0]


def one_kernel(notes: list[str]) -> bool:
    return len(notes) == 1 and notes[0].startswith("attention")


@pytest.mark.parametrize(("build", "kind"), [
    *((f, "f32") for f in FORMS), *((plain, k) for k in ("f64", "bf16", "f16")),
    *((f, "bf16") for f in (queries_scaled, masked, divided_at_the_end)),
], ids=lambda x: getattr(x, "__name__", x))
def test_a_form_is_one_kernel(build: Build, kind: str) -> None:
    made, notes = compiled(function(build, kind))
    assert one_kernel(notes)
    args = arguments(build, kind)
    (out,) = run(made, *args)
    error = {"f32": 2e-6, "f64": 1e-14, "bf16": 0.03, "f16": 4e-3}[kind]
    np.testing.assert_allclose(np.asarray(out, np.float64), expected(build, args), 0, error)


@pytest.mark.parametrize("build", FORMS, ids=lambda f: f.__name__)
def test_any_number_of_rows_and_batches(build: Build) -> None:
    made, notes = compiled(function(build, rows=sym("N"), lead=(sym("B"), 3)))
    assert one_kernel(notes)
    args = arguments(build, "f32")
    (out,) = run(made, *args)
    np.testing.assert_allclose(out, expected(build, args), 0, 2e-6)


def test_casts_between_the_products() -> None:
    made, notes = compiled(function(in_float, "bf16"))
    assert one_kernel(notes)
    args = arguments(in_float, "bf16")
    (out,) = run(made, *args)
    np.testing.assert_allclose(np.asarray(out, np.float64), expected(in_float, args), 0, 0.03)


def test_queries_keys_and_values_are_views_of_one_array() -> None:
    """[rows, 3, heads, depth], split by slices and transposed: no copies before or after."""
    b = Builder("main")
    qkv = b.param(TensorType(BY_NAME["f32"], (N, 3, 4, D)), "qkv")
    parts = []
    for n in range(3):
        one = b.slice(qkv, starts=(0, n, 0, 0), limits=(N, n + 1, 4, D), strides=(1, 1, 1, 1))
        parts.append(b.transpose(b.reshape(one, shape=(N, 4, D)), perm=(1, 0, 2)))
    y = b.transpose(plain(b, *parts), perm=(1, 0, 2))
    made, notes = compiled(b.finish([b.reshape(y, shape=(N, 4 * D))]))
    assert one_kernel(notes)
    x = np.random.default_rng(0).standard_normal((N, 3, 4, D), np.float32)
    want = expected(plain, list(x.transpose(1, 2, 0, 3))).transpose(1, 0, 2).reshape(N, -1)
    np.testing.assert_allclose(run(made, x)[0], want, 0, 2e-6)


def raw_scores(b: Any, q: Any, k: Any, v: Any) -> Any:
    return product(b, q, k, True)


def scaled_scores(b: Any, q: Any, k: Any, v: Any) -> Any:
    return scores(b, q, k)


def weights(b: Any, q: Any, k: Any, v: Any) -> Any:
    return softmax(b, scores(b, q, k))


@pytest.mark.parametrize("seen", [raw_scores, scaled_scores, weights], ids=lambda f: f.__name__)
def test_what_is_fetched_stays_in_memory(seen: Build) -> None:
    made, notes = compiled(function(plain, extra=seen))
    assert not any(n.startswith("attention") for n in notes)
    args = arguments(plain, "f32")
    np.testing.assert_allclose(run(made, *args)[0], expected(plain, args), 0, 2e-6)


def across_rows(b: Any, q: Any, k: Any, v: Any) -> Any:
    """Softmax over the queries: no row of weights is known before all scores are."""
    s = b.transpose(scores(b, q, k), perm=(0, 1, 3, 2))
    return product(b, b.transpose(softmax(b, s), perm=(0, 1, 3, 2)), v, False)


def no_rows(b: Any, q: Any, k: Any, v: Any) -> Any:
    """Two layers with an activation between them."""
    return product(b, b.tanh(scores(b, q, k)), v, False)


def reversed_keys(b: Any, q: Any, k: Any, v: Any) -> Any:
    return product(b, b.reverse(softmax(b, scores(b, q, k)), axes=(3,)), v, False)


@pytest.mark.parametrize("build", [across_rows, no_rows, reversed_keys], ids=lambda f: f.__name__)
def test_what_is_no_attention(build: Build) -> None:
    made, _ = compiled(function(build))
    args = arguments(build, "f32")
    q, k, v = (a.astype(np.float64) for a in args)
    s = q @ np.swapaxes(k, -1, -2) / 4
    if build is no_rows:
        w = np.tanh(s)
    else:
        axis = -2 if build is across_rows else -1
        e = np.exp(s - s.max(axis, keepdims=True))
        w = e / e.sum(axis, keepdims=True)
        w = w[..., ::-1] if build is reversed_keys else w
    np.testing.assert_allclose(run(made, *args)[0], w @ v, 0, 2e-5)


def test_few_rows_are_not_worth_it() -> None:
    assert one_kernel(compiled(function(plain, rows=MIN_ROWS))[1])
    assert len(compiled(function(plain, rows=MIN_ROWS - 1))[1]) > 1


def test_a_target_without_the_schedule_has_three_kernels() -> None:
    _, notes = compiled(function(plain), "cuda-emu")
    assert len(notes) == 3
