"""Random numbers: Philox streams keyed by the graph's and the op's seed, counted by runs."""

from __future__ import annotations

import math
from typing import Any

from flowc.ir import dims
from flowc.ir.core import Value
from flowc.ir.dims import Shape

from .. import dtypes as dt
from ..dtypes import as_dtype
from ..expand import Expansion
from ..graph import get_default_graph
from ..registry import expander
from ..tensor import Operation, Tensor
from .convert import Like, apply, convert, scope, shape_tensor, static_ints

_DEFAULT_GRAPH_SEED = 87654321
_UNSEEDED = 0x9E3779B9


def get_seed(op_seed: int | None) -> tuple[int, int, bool]:
    """(graph seed, op seed, whether either was given) for an op that is being made."""
    graph = get_default_graph().root
    if graph.seed is not None:
        return graph.seed, len(graph.nodes) if op_seed is None else op_seed, True
    if op_seed is not None:
        return _DEFAULT_GRAPH_SEED, op_seed, True
    return _UNSEEDED, len(graph.nodes), False


def _node(
    op: str, inputs: list[Tensor], t: dt.DType, name: str | None, seed: Any, **attrs: Any
) -> Tensor:
    first, second, seeded = get_seed(None if seed is None else int(seed))
    keys = {"key0": _word(first), "key1": _word(second), "seeded": seeded}
    return apply(op, inputs, t, name, **keys, **attrs)


def _word(seed: int) -> int:
    seed &= (1 << 64) - 1
    return (seed ^ (seed >> 32)) & 0xFFFFFFFF


def bits(x: Expansion, node: Operation, shape: Shape, wide: bool = False) -> Value:
    """The op's random bits of this run: u32, or u64."""
    a = node.attrs
    return x.b.random_bits(  # type: ignore[no-any-return]
        x.step(node), key0=a["key0"], key1=a["key1"], shape=shape, dtype=_U64 if wide else _U32
    )


_U32, _U64 = dt.uint32.element, dt.uint64.element


def unit(x: Expansion, node: Operation, shape: Shape, t: Any) -> Value:
    """Uniform in [0, 1), of f32 (24 bits) or f64 (53)."""
    double = t.bits == 64
    drop, size = (11, 53) if double else (8, 24)
    word = bits(x, node, shape, double)
    whole = x.b.cast(x.b.shr(word, x.b.const(drop, word)), dtype=t if double else _F32)
    return x.b.mul(whole, x.b.const(2.0**-size, whole))  # type: ignore[no-any-return]


_F32 = dt.float32.element


def signed(x: Expansion, node: Operation, shape: Shape, t: Any) -> Value:
    """Uniform in (−1, 1), symmetric, never 0: odd multiples of a power of two."""
    u = unit(x, node, shape, t)
    size = 53 if t.bits == 64 else 24
    shift = x.b.const(2.0**-size - 1.0, u)
    return x.b.add(x.b.mul(u, x.b.const(2.0, u)), shift)  # type: ignore[no-any-return]


def standard_normal(
    x: Expansion, node: Operation, shape: Shape, t: Any, bound: float = 1.0
) -> Value:
    """Standard normals by the inverse of their distribution; `bound` < 1 cuts the tails off."""
    s = signed(x, node, shape, t)
    if bound < 1.0:
        s = x.b.mul(s, x.b.const(bound, s))
    return x.b.mul(x.b.erfinv(s), x.b.const(math.sqrt(2.0), s))  # type: ignore[no-any-return]


def _scaled(x: Expansion, z: Value, mean: Value, stddev: Value, t: Any) -> Value:
    z = x.b.cast(z, dtype=t) if z.ty.dtype is not t else z
    mean, stddev, z = x.broadcast(mean, stddev, z)
    return x.b.add(x.b.mul(z, stddev), mean)  # type: ignore[no-any-return]


@expander("RandomNormal")
def _normal(x: Expansion, node: Operation, shape: Value, mean: Value, stddev: Value) -> Any:
    t = node.outputs[0].dtype.element
    return _scaled(x, standard_normal(x, node, x.sizes(shape), t), mean, stddev, t)


@expander("TruncatedNormal")
def _truncated(x: Expansion, node: Operation, shape: Value, mean: Value, stddev: Value) -> Any:
    t = node.outputs[0].dtype.element
    inside = math.erf(math.sqrt(2.0))  # the share within two standard deviations
    return _scaled(x, standard_normal(x, node, x.sizes(shape), t, inside), mean, stddev, t)


@expander("RandomUniform")
def _uniform(x: Expansion, node: Operation, shape: Value, low: Value, high: Value) -> Any:
    t, sizes = node.outputs[0].dtype.element, x.sizes(shape)
    if t.is_float:
        u = unit(x, node, sizes, t)
        u = x.b.cast(u, dtype=t) if u.ty.dtype is not t else u
        low, high, u = x.broadcast(low, high, u)
        return x.b.add(x.b.mul(u, x.b.sub(high, low)), low)
    word = bits(x, node, sizes, True)
    span = x.b.cast(x.b.sub(high, low), dtype=_U64)
    word, span, low = x.broadcast(word, span, low)
    return x.b.add(x.b.cast(x.b.rem(word, span), dtype=t), low)


def random_normal(
    shape: Any,
    mean: Like = 0.0,
    stddev: Like = 1.0,
    dtype: Any = dt.float32,
    seed: Any = None,
    name: str | None = None,
) -> Tensor:
    """Normally distributed values, new ones in each run."""
    return _gaussian("RandomNormal", "random_normal", shape, mean, stddev, dtype, seed, name)


def truncated_normal(
    shape: Any,
    mean: Like = 0.0,
    stddev: Like = 1.0,
    dtype: Any = dt.float32,
    seed: Any = None,
    name: str | None = None,
) -> Tensor:
    """Normally distributed values within two standard deviations of the mean."""
    return _gaussian("TruncatedNormal", "truncated_normal", shape, mean, stddev, dtype, seed, name)


def _gaussian(
    op: str, default: str, shape: Any, mean: Like, stddev: Like, dtype: Any, seed: Any,
    name: str | None,
) -> Tensor:  # fmt: skip
    t = as_dtype(dtype)
    if not t.is_floating:
        raise ValueError(f"{default} is of floats, not {t.name}")
    with scope(name, default) as s:
        inputs = [shape_tensor(shape), convert(mean, t, "mean"), convert(stddev, t, "stddev")]
        return _node(op, inputs, t, s, seed)


def random_uniform(
    shape: Any,
    minval: Like = 0,
    maxval: Like = None,
    dtype: Any = dt.float32,
    seed: Any = None,
    name: str | None = None,
) -> Tensor:
    """Uniform values in [minval, maxval); maxval is 1 by default, for floats."""
    t = as_dtype(dtype)
    if maxval is None:
        if t.is_integer:
            raise ValueError("Must specify maxval for integer dtype.")
        maxval = 1
    with scope(name, "random_uniform") as s:
        low, high = convert(minval, t, "min"), convert(maxval, t, "max")
        return _node("RandomUniform", [shape_tensor(shape), low, high], t, s, seed)


def random_shuffle(value: Like, seed: Any = None, name: str | None = None) -> Tensor:
    """The rows in a random order."""
    with scope(name, "RandomShuffle") as s:
        t = convert(value, name="value")
        return _node("RandomShuffle", [t], t.dtype, s, seed)


@expander("RandomShuffle")
def _shuffle(x: Expansion, node: Operation, a: Value) -> Any:
    b, rows = x.b, a.ty.shape[:1]
    index = b.iota(dtype=_I32, shape=rows, axis=0)
    keys = bits(x, node, rows)
    _, order = b.sort(keys, index, axis=0, descending=False)
    return b.gather(a, b.reshape(order, shape=(*rows, 1)), batch=0, bounds="clamp")


def random_crop(value: Like, size: Any, seed: Any = None, name: str | None = None) -> Tensor:
    """A part of a constant size, at a random place. An error of the run where it is too large."""
    with scope(name, "random_crop") as s:
        t = convert(value, name="value")
        sizes = static_ints(size)
        if sizes is None:
            raise ValueError("the size of a random_crop must be constant")
        return _node("RandomCrop", [t], t.dtype, s, seed, size=sizes)


@expander("RandomCrop")
def _random_crop(x: Expansion, node: Operation, a: Value) -> Any:
    b, size = x.b, node.attrs["size"]
    if len(size) != a.ty.rank:
        raise x.fail(f"the size {size} of a crop of {a.type} has another rank")
    for d, n in zip(a.ty.shape, size, strict=True):
        x.at_least(d, n, f"Need value.shape >= size, got {a.type} and {size}")
    words = bits(x, node, (a.ty.rank,), wide=True)
    starts = []
    for axis, (d, n) in enumerate(zip(a.ty.shape, size, strict=True)):
        word = b.slice(words, starts=(axis,), limits=(axis + 1,), strides=(1,))
        places = b.dim_size(dim=dims.add(d, 1 - n), dtype=_U64)
        place = b.rem(b.reshape(word, shape=()), places)
        starts.append(b.cast(place, dtype=dt.int64.element))
    return b.dynamic_slice(a, *starts, sizes=tuple(size))


_I32 = dt.int32.element


def multinomial(
    logits: Like,
    num_samples: int,
    seed: Any = None,
    name: str | None = None,
    output_dtype: Any = None,
) -> Tensor:
    """Indices drawn from the distributions of the rows of logits: [rows, num_samples]."""
    with scope(name, "multinomial") as s:
        t = convert(logits, name="logits")
        to = dt.int64 if output_dtype is None else as_dtype(output_dtype)
        return _node("Multinomial", [t], to, s, seed, samples=int(num_samples))


@expander("Multinomial", differentiable=False)
def _multinomial(x: Expansion, node: Operation, logits: Value) -> Any:
    b, (rows, classes) = x.b, logits.ty.shape
    n, out = node.attrs["samples"], node.outputs[0].dtype.element
    shape = (rows, n, classes)
    t = logits.ty.dtype
    u = unit(x, node, shape, t)
    u = b.add(u, b.const(2.0 ** -(54 if t.bits == 64 else 25), u))
    noise = b.neg(b.log(b.neg(b.log(u))))  # Gumbel
    noise = b.cast(noise, dtype=t) if noise.ty.dtype is not t else noise
    score = b.add(noise, b.broadcast(logits, shape=shape, dims=(0, 2)))
    best = b.broadcast(b.reduce(score, op="max", axes=(2,)), shape=shape, dims=(0, 1))
    index = b.iota(dtype=out, shape=shape, axis=2)
    none = b.broadcast_to(b.const(out.max, out), shape)
    picked = b.select(b.compare(score, best, op="eq"), index, none)
    return b.reduce(picked, op="min", axes=(2,))
