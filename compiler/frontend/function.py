"""`flowc.function`: a Python function over arrays as one compiled function.

The function runs once for each signature — structure of the arguments, types and ranks of the
arrays, static arguments, promised sizes — on arrays that only record what is done with them; its
side effects in Python happen then. What it did is compiled, and serves every size: a program is
made again only where a size of 1 broadcasts in a new way, and the logger "flowc" says why.
"""

from __future__ import annotations

import functools
import inspect
import logging
import threading
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any, overload

import numpy as np

from flowc.compiler.options import Options

from .arrays import api, pytree
from .arrays.compiled import CompiledFunction, Lowered
from .arrays.derivatives import value_and_gradients
from .arrays.specs import Array, LeafSpec, TensorSpec, array_of, pattern_dims, patterns, static
from .arrays.trace import Fixed, Signature, Trace
from .dtypes import as_dtype
from .graph import get_default_graph
from .ops.convert import convert
from .tensor import Tensor

log = logging.getLogger("flowc")
_MOST_HOT = 8  # compiled entries that a call tries before it looks at its arguments
_MOST_PLACES = 4096  # combinations of shapes that are remembered
_MISS = object()
_Key = tuple[tuple[str, Any], ...]  # (parameter, structure of its arrays or static value)


class _Family:
    """All that was made for one signature: its trace, and one program a broadcast pattern."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.programs: list[CompiledFunction] = []


class Function:
    """A function that compiles itself at the first call of each signature; see `function`."""

    def __init__(
        self,
        fn: Callable[..., Any],
        static_names: Sequence[str] = (),
        shapes: Any = None,
        options: Options | None = None,
    ) -> None:
        functools.update_wrapper(self, fn)
        self.fn, self.options = fn, options or Options.read()
        self.name = getattr(fn, "__name__", None) or type(fn).__name__
        self._signature = inspect.signature(fn)
        parameters = self._signature.parameters.values()
        self.parameters = tuple(p.name for p in parameters)
        self._kinds = {p.name: p.kind for p in parameters}
        self._simple = all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
        self._needed = {p.name for p in parameters if p.default is p.empty}
        self._required = len(self._needed)
        if "out" in self._kinds:
            raise ValueError(f"{self.name} has a parameter out: the compiled function takes out=")
        unknown = set(static_names) - set(self.parameters)
        if unknown:
            raise ValueError(f"{self.name} has no parameter {', '.join(sorted(unknown))}")
        self.static_names = frozenset(static_names)
        self.shapes = shapes
        self._patterns = patterns(shapes, self.parameters)
        self._families: dict[Signature, _Family] = {}
        self._hot: tuple[tuple[Any, CompiledFunction], ...] = ()
        self._natives: dict[_Key, tuple[tuple[Any, CompiledFunction], ...]] = {}
        self._places: dict[Any, CompiledFunction] = {}
        self._lock = threading.RLock()

    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        """Run on arrays (NumPy, DLPack, numbers, nested): NumPy arrays, nested as fn returns them.

        out: arrays to fill, nested as the results; they are returned. Raises TypeError for what is
        no array, InvalidArgumentError for sizes that do not fit.
        """
        if out is None and not kwargs:
            got = _attempt(self._hot, args)
            if got is not _MISS:
                return got
        return self._call(args, kwargs, out)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<flowc.function {self.name}{self._signature}>"

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        """A call that is not of the commonest kind."""
        leaves: list[Any] = []
        key = self._take(args, kwargs, leaves)
        odd = [v for v in leaves if v.__class__ is not np.ndarray]
        if get_default_graph().array_api or any(isinstance(v, Tensor) for v in odd):
            if out is not None:
                raise TypeError(f"{self.name}: out= has no meaning inside of a trace")
            return self._inlined(args, kwargs)
        arrays = [
            v if v.__class__ is np.ndarray else np.asarray(v) if v.__class__ in pytree.NUMBERS
            else self._array(key, i, v)
            for i, v in enumerate(leaves)
        ]  # fmt: skip
        if out is None:
            got = _attempt(self._natives.get(key, ()), arrays)
            if got is not _MISS:
                return got
        place = (key, *[(a.dtype, a.shape) for a in arrays])
        found = self._places.get(place)
        if found is None:
            arrays = [self._array(key, i, a) for i, a in enumerate(arrays)]
            found = self._entry(key, self._specialized(key, arrays), arrays)
            if not found.program.assumed:
                if len(self._places) >= _MOST_PLACES:
                    self._places.clear()
                self._places[place] = found
        return found.run(arrays, out)

    def _inlined(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run as a part of what is being traced: given arrays become constants of it."""
        bound = {
            n: v if n in self.static_names else pytree.map_leaves(_constant, v)
            for n, v in self._bind(args, kwargs).items()
        }
        return self._invoke(bound)

    # Signatures.

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by parameter, in the order of the parameters."""
        if self._simple and self._required <= len(args) + len(kwargs) <= len(self.parameters):
            bound = dict(zip(self.parameters, args, strict=False))
            if not kwargs:
                return bound
            if not (kwargs.keys() & bound.keys() or kwargs.keys() - self._kinds.keys()):
                bound.update(kwargs)
                if bound.keys() >= self._needed:
                    return {p: bound[p] for p in self.parameters if p in bound}
        try:
            return self._signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{self.name}{self._signature}: {error}") from None

    def _take(self, args: tuple[Any, ...], kwargs: dict[str, Any], leaves: list[Any]) -> _Key:
        """The arrays and numbers among the arguments, onto `leaves`; what else they say."""
        bound, fixed = self._bind(args, kwargs), self.static_names
        if not fixed:
            return tuple([(n, pytree.take(v, leaves)) for n, v in bound.items()])
        return tuple([
            (n, Fixed(self._hashable(n, v), type(v)) if n in fixed else pytree.take(v, leaves))
            for n, v in bound.items()
        ])

    def _array(self, key: _Key, index: int, value: Any) -> Array:
        """A leaf as an array; errors name the argument."""
        if isinstance(value, np.generic):
            value = np.asarray(value)
        if value.__class__ is np.ndarray and value.dtype.isnative and value.dtype.kind in "fiubc":
            return value
        names = [n for name, s in key if s.__class__ is not Fixed for n in pytree.paths(s, name)]
        return array_of(value, f"argument {names[index]} of {self.name}")

    def _specialized(self, key: _Key, leaves: Sequence[Any]) -> Signature:
        """The signature of arguments: arrays, numbers and specs."""
        traced, fixed, specs = [], [], []
        values = iter(leaves)
        for name, s in key:
            if s.__class__ is Fixed:
                fixed.append((name, s))
                continue
            traced.append((name, s))
            for what, kind in zip(pytree.paths(s, name), pytree.markers(s), strict=True):
                specs.append(self._leaf(next(values), name, what, kind is not pytree.LEAF))
        return Signature(tuple(traced), tuple(specs), tuple(fixed))

    def _flatten(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[list[Any], Signature]:
        """The array arguments from left to right, and the signature that they make."""
        leaves: list[Any] = []
        key = self._take(args, kwargs, leaves)
        values = [
            v if isinstance(v, TensorSpec) else self._array(key, i, v)
            for i, v in enumerate(leaves)
        ]
        return values, self._specialized(key, values)

    def _leaf(self, value: Any, name: str, what: str, weak: bool) -> LeafSpec:
        if isinstance(value, TensorSpec):
            return LeafSpec(value.dtype, value.dims)
        text = f"argument {what} of {self.name}"
        dims = pattern_dims(self._patterns.get(name), value.shape, text)
        return LeafSpec(as_dtype(value.dtype), dims, weak)

    def _hashable(self, name: str, value: Any) -> Any:
        try:
            hash(value)
        except TypeError:
            raise TypeError(
                f"the static argument {name} of {self.name} must be hashable, not a "
                f"{type(value).__name__}"
            ) from None
        return value

    def _invoke(self, arguments: dict[str, Any]) -> Any:
        """Call the user's function with values by parameter."""
        bound = inspect.BoundArguments(self._signature, dict(arguments))
        bound.arguments = {p: arguments[p] for p in self.parameters if p in arguments}
        return self.fn(*bound.args, **bound.kwargs)

    # Programs.

    def _entry(
        self, key: _Key, signature: Signature, arrays: Sequence[Array]
    ) -> CompiledFunction:
        """The compiled program for these arguments; made where there is none."""
        with self._lock:
            family = self._families.get(signature)
            for entry in family.programs if family is not None else ():
                if entry.fits(arrays):
                    return entry
            if family is None:
                reason = self._reason(signature)
                family = _Family(self._traced(signature))
            else:
                shapes = ", ".join(str(list(a.shape)) for a in arrays)
                reason = f"the sizes {shapes} broadcast or agree in a new way"
            log.info("compiling %s: %s", self.name, reason)
            program = family.trace.for_arrays(arrays)
            entry = CompiledFunction(family.trace, program, self.options, self._flatten)
            family.programs.append(entry)
            self._families[signature] = family
            self._warm(key, entry)
            return entry

    def _traced(self, signature: Signature) -> Trace:
        return Trace(self.name, signature, self._invoke)

    def _warm(self, key: _Key, entry: CompiledFunction) -> None:
        """Let calls try the entry's builtin first, where that alone tells whether it is the one."""
        if entry.native is None:
            return
        pair = (entry.native, entry)
        self._natives[key] = (pair, *self._natives.get(key, ()))[:_MOST_HOT]
        plain = all(s == pytree.LEAF for _, s in key) and len(key) == len(self.parameters)
        if plain and self._simple:
            self._hot = (pair, *self._hot)[:_MOST_HOT]

    def _reason(self, signature: Signature) -> str:
        """What is new about a signature."""
        if not self._families:
            return "its first call"
        last = next(reversed(self._families))
        if signature.static != last.static:
            was, now = dict(last.static), dict(signature.static)
            new = [f"{k}={v.value!r}" for k, v in now.items() if k not in was or was[k] != v]
            return f"new static arguments: {', '.join(new)}"
        if signature.arguments != last.arguments:
            return "another structure of the arguments"
        pairs = zip(signature.names(), last.leaves, signature.leaves, strict=True)
        new = [f"{n} is {now}, was {was}" for n, was, now in pairs if was != now]
        return f"new types, ranks or promised sizes: {'; '.join(new)}"

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """Trace for these arguments, arrays or `TensorSpec`s, without running or compiling it."""
        values, signature = self._flatten(args, kwargs)
        trace = self._traced(signature)
        if any(isinstance(v, TensorSpec) for v in values):
            program = trace.general()
        else:
            program = trace.for_arrays(values)
        return Lowered(trace, program, self.options, self._flatten)


def _constant(value: Any) -> Any:
    """An array as a tensor of the graph; numbers stay as weak as they are."""
    return value if isinstance(value, (Tensor, *pytree.NUMBERS)) else convert(value)


def _attempt(pairs: Sequence[tuple[Any, CompiledFunction]], arrays: Sequence[Any]) -> Any:
    """The result by the first builtin that takes these arrays, or _MISS."""
    for native, entry in pairs:
        try:
            got = native(*arrays)
        except KeyboardInterrupt as interrupt:
            raise entry.interrupted(interrupt) from None
        if got.__class__ is list:
            return entry.finish(got)
        if got is not None:
            entry.failed(got)
    return _MISS


@overload
def function(
    fn: None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    shapes: Any = None,
    options: Options | None = None,
) -> Callable[[Callable[..., Any]], Function]: ...


@overload
def function(
    fn: Callable[..., Any],
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    shapes: Any = None,
    options: Options | None = None,
) -> Function: ...


def function(
    fn: Callable[..., Any] | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    shapes: Any = None,
    options: Options | None = None,
) -> Any:
    """Compile a Python function over arrays; `f = flowc.function(fn)` or as a decorator.

    fn takes and returns arrays, numbers, and lists, tuples and dicts of these. It runs once a
    signature (structure, types, ranks), on traced arrays; what it does in Python besides happens
    then and not again. Types promote as the array API standard says. Python's loops unroll;
    conditions on arrays take `flowc.cond`, `flowc.where`, `flowc.while_loop`.

    static_argnums, static_argnames: arguments that are Python values and not arrays; they are
    hashable, and each new value compiles anew. shapes: promises about sizes, which are otherwise
    free: `flowc.static` makes all of them constants; a mapping (parameter → pattern) or a sequence
    of patterns makes some: an int is checked, `flowc.static` takes each call's size as a constant,
    None is free, a name is free and equal wherever it stands.
    """
    if fn is None:
        return functools.partial(
            function, static_argnums=static_argnums, static_argnames=static_argnames,
            shapes=shapes, options=options,
        )  # fmt: skip
    if isinstance(fn, Function):
        fn = fn.fn
    names = [static_argnames] if isinstance(static_argnames, str) else list(static_argnames)
    numbers = [static_argnums] if isinstance(static_argnums, int) else static_argnums
    if numbers:
        parameters = list(inspect.signature(fn).parameters)
        for i in numbers:
            if not -len(parameters) <= i < len(parameters):
                raise ValueError(f"static_argnums={i}: there are {len(parameters)} parameters")
            names.append(parameters[i])
    return Function(fn, names, shapes, options)


def value_and_grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Function:
    """A function that returns (fn's value, its gradient by argument `argnums`).

    fn returns a float scalar (with has_aux: that and anything else, which becomes
    `((value, aux), gradient)`). The gradient is nested as the argument; for several argnums it is a
    tuple. Compiled where it is called with arrays, traced where it is called in a trace.
    """
    return _derived(fn, argnums, has_aux, lambda y, aux, g: ((y, aux) if has_aux else y, g))


def grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Function:
    """A function that returns fn's gradient by argument `argnums`: see `value_and_grad`.

    With has_aux it returns (gradient, aux).
    """
    return _derived(fn, argnums, has_aux, lambda y, aux, g: (g, aux) if has_aux else g)


def _derived(
    fn: Callable[..., Any], argnums: int | Sequence[int], has_aux: bool, result: Any
) -> Function:
    own = fn if isinstance(fn, Function) else Function(fn)
    inner = own.fn

    @functools.wraps(inner)
    def derived(*args: Any, **kwargs: Any) -> Any:
        return result(*value_and_gradients(inner, argnums, has_aux, args, kwargs))

    return Function(derived, tuple(own.static_names), own.shapes, own.options)


__all__ = ["Function", "TensorSpec", "api", "function", "grad", "static", "value_and_grad"]
