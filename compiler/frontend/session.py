"""`tf.Session`: runs parts of a graph, each compiled once, and holds the variables' values."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from operator import itemgetter
from typing import Any

import numpy as np

from flowc.compiler.analysis import CostAnalysis
from flowc.compiler.options import Options
from flowc.runtime import Entry, Gate, ThreadPool
from flowc.runtime.callable_ir import NESTED, NOTHING, ONE

from . import errors
from .backend import compile_function
from .build import Build, Program, binding
from .config import ConfigProto
from .fetching import convert, feed_array, feed_key, flatten_feeds, flatten_fetches
from .graph import Graph, get_default_graph, session_stack
from .host import host_value
from .registry import operator
from .special import satisfied, specialize
from .store import Store
from .tensor import Operation, Tensor

log = logging.getLogger("flowc")
_ONE, _LIST, _TUPLE, _DICT, _FLAT = (object() for _ in range(5))
_MOST_SHAPES = 4096  # remembered combinations of input shapes a call


class _Call:
    """A prepared `run`: what is fetched and fed, and what runs for which input shapes.

    native: the compiled entry itself, which refuses (returns None) what are not arrays of its
    types and shapes; finish: makes what `run` returns of its outputs; fast: the entry's owner.
    locks: whether callers of `native` hold the session's gate, for it does not take it itself.
    entry: what `make_callable` gave out. assumed: feeds whose values compiled code assumes.
    """

    __slots__ = (
        "assumed", "dtypes", "entry", "fast", "feeds", "fetches", "finish", "locks", "native",
        "rebuild", "table",
    )  # fmt: skip

    def __init__(self, fetches: list[Any], feeds: list[Tensor], rebuild: Any) -> None:
        self.fetches, self.feeds, self.rebuild = fetches, feeds, rebuild
        self.dtypes = [t.dtype.np for t in feeds]
        self.table: dict[tuple[Any, ...], Callable[..., Any]] = {}
        self.native: Callable[..., Any] = _refuse
        self.finish: Callable[[Any], Any] = list
        self.fast: Any = None
        self.locks = False
        self.entry: Entry | None = None
        self.assumed: tuple[int, ...] = ()

    def key(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """What decides which compiled function runs: shapes, and values that one assumes."""
        shapes = tuple([a.shape for a in arrays])
        if not self.assumed:
            return shapes
        return (*shapes, *[arrays[i].tobytes() for i in self.assumed])


class BaseSession:
    """Runs a graph; `run` may be called from several threads.

    target: "" for the local machine. graph: the default graph where None. config: a ConfigProto.
    """

    def __init__(self, target: str = "", graph: Graph | None = None, config: Any = None) -> None:
        if target and not isinstance(target, str):
            raise TypeError(f"target must be a string, but got {type(target)}")
        if config is not None and not isinstance(config, ConfigProto):
            raise TypeError(f"config must be a tf.ConfigProto, but got {type(config)}")
        if graph is not None and not isinstance(graph, Graph):
            raise TypeError(f"graph must be a tf.Graph, but got {type(graph)}")
        self._graph = graph if graph is not None else get_default_graph()
        self._config = config or ConfigProto()
        threads = self._config.intra_op_parallelism_threads
        given: dict[str, Any] = {"threads": threads} if threads else {}
        self.options = Options.read(**given)
        self.store = Store()
        self._threads: ThreadPool | None = None
        self.closed = False
        self._calls: dict[Any, _Call] = {}
        self._callables: list[_Call] = []
        self._lock = Gate()  # of the variables' values
        self._compiling = threading.RLock()

    @property
    def graph(self) -> Graph:
        return self._graph

    @property
    def graph_def(self) -> Any:
        return self._graph.as_graph_def()  # type: ignore[attr-defined]

    @property
    def sess_str(self) -> str:
        return ""

    # Running.

    def run(
        self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None
    ) -> Any:
        """The values of the fetches, nested as they are; None for operations.

        feed_dict: tensor (or its name) → value. Raises InvalidArgumentError for a placeholder that
        is not fed and for shapes that do not fit, FailedPreconditionError for a variable without a
        value, TypeError and ValueError for what is no fetch or feed, RuntimeError when closed.
        """
        try:
            call = self._calls[_key(fetches, feed_dict)]
        except (KeyError, TypeError):
            call = None
        if call is None:  # out of the handler: an error is no consequence of the lookup's
            return self._run_new(fetches, feed_dict or {})
        values = feed_dict.values() if feed_dict else ()
        try:
            if call.locks:
                with self._lock:
                    out = call.native(*values)
            else:
                out = call.native(*values)
        except KeyboardInterrupt as interrupt:
            raise call.fast.executable.interrupted(call.fast.ctx, interrupt) from None
        if out.__class__ is list:
            return call.finish(out)
        return self._run_call(call, list(values), out)

    def _run_call(self, call: _Call, arrays: list[Any], report: Any = None) -> Any:
        """Run a prepared call on the values of its feeds; or raise what its entry reported."""
        if report is not None:
            call.fast.fail(report)
        for i, dtype in enumerate(call.dtypes):
            value = arrays[i]
            if value.__class__ is not np.ndarray or value.dtype is not dtype:
                arrays[i] = convert(call.feeds[i], value)
        bound = call.table.get(call.key(arrays))
        return bound(*arrays) if bound is not None else self._run_shapes(call, arrays)

    def make_callable(
        self, fetches: Any, feed_list: Any = None, accept_options: bool = False
    ) -> Callable[..., Any]:
        """A function of the values of `feed_list` that returns the values of `fetches`."""
        self._check_open()
        feeds = [feed_key(self._graph, k) for k in feed_list or []]
        leaves, rebuild = flatten_fetches(self._graph, fetches)
        call = _Call(leaves, feeds, rebuild)

        def run(*args: Any) -> Any:
            if len(args) != len(feeds):
                raise TypeError(f"{len(feeds)} values are to be fed, {len(args)} were given")
            return self._run_call(call, list(args))

        call.entry = Entry(run, lambda report: call.fast.fail(report))
        self._callables.append(call)
        return call.entry.function

    def _run_new(self, fetches: Any, feed_dict: Any) -> Any:
        """Prepare a call and run it."""
        self._check_open()
        leaves, rebuild = flatten_fetches(self._graph, fetches)
        if not isinstance(feed_dict, dict) and not hasattr(feed_dict, "items"):
            raise TypeError(f"feed_dict must be a dictionary, got {type(feed_dict)}")
        feeds = flatten_feeds(self._graph, feed_dict)
        values = list(feeds.values())
        try:
            key = _key(fetches, feed_dict)
            if any(isinstance(k, tuple) for k in (*feed_dict, fetches)) and key[0] is not _TUPLE:
                raise TypeError("a key of several tensors, or a named tuple")
            call = self._calls.setdefault(key, _Call(leaves, list(feeds), rebuild))
        except TypeError:  # nothing that can be looked up: by its leaves
            key = (_FLAT, *leaves, _FLAT, *feeds)
            call = self._calls.setdefault(key, _Call(leaves, list(feeds), list))
            return rebuild(self._run_call(call, values))
        return self._run_call(call, values)

    def _run_shapes(self, call: _Call, arrays: list[Any]) -> Any:
        """Run for input shapes that the call has not seen."""
        self._check_open()
        arrays = [feed_array(t, v) for t, v in zip(call.feeds, arrays, strict=True)]
        if any(t.dtype.ir is None for t in call.feeds) or any(map(_is_text, call.fetches)):
            return self._run_host(call, arrays)
        program, executable = self._compiled(call, arrays)
        self._check_initialized(program)
        bound = self._bound(program, executable, call)
        result = bound(*arrays)
        self.store.mark(o for o in program.state if program.updates(o))
        if len(call.table) >= _MOST_SHAPES:
            call.table.clear()
        if program.assumed and not call.assumed:
            call.table.clear()
            call.assumed = tuple(i for i, _ in program.assumed)
        call.table[call.key(arrays)] = bound
        return result

    def _compiled(self, call: _Call, arrays: Sequence[Any]) -> tuple[Program, Any]:
        """The program for these inputs, compiled; from the graph's cache where it is there."""
        ranks = tuple(a.ndim for a in arrays)
        signature = (tuple(call.fetches), tuple(call.feeds), ranks, self.options)
        cache: list[tuple[Program, Any]]
        with self._compiling:
            cache = self._graph.compiled.setdefault(signature, [])
            for program, executable in cache:
                if satisfied(program, arrays):
                    return program, executable
            name = _name(call.fetches)
            log.info("compiling %s: %s", name, _reason(self._graph, signature, cache))
            program = specialize(
                lambda attempt: Build(
                    self._graph, call.fetches, call.feeds, ranks, attempt.static, name,
                    attempt.values,
                ).program(),
                call.feeds,
                arrays,
            )  # fmt: skip
            executable = compile_function(program.function, self.options)
            cache.append((program, executable))
            return program, executable

    def _check_initialized(self, program: Program) -> None:
        for op in program.reads:
            if not self.store.is_initialized(op):
                raise errors.FailedPreconditionError(
                    f"Attempting to use uninitialized value {op.name}",
                    op=op.name,
                    loc=str(op.loc) if op.loc else None,
                )

    def _bound(self, program: Program, executable: Any, call: _Call) -> Callable[..., Any]:
        """What runs the program on this session's state and returns the nested values."""
        state = [self.store.array(op) for op in program.state]
        writes = any(program.updates(op) for op in program.state)
        # What a host call calls may run this session again: then the gate is Python's to hold.
        locks = writes and bool(executable.manifest["host_calls"])
        gate = self._lock if writes and not locks else None
        run = executable.bind(state, self._pool(), gate=gate)
        mode, finish = _finisher(call, program)
        inputs = program.inputs
        if inputs != tuple(range(len(call.feeds))):
            every = run
            run = lambda *arrays: every(*[arrays[i] for i in inputs])  # noqa: E731
        elif program.implied and getattr(run, "native", None) is not None:
            call.native, call.finish, call.fast, call.locks = run.native, finish, run, locks
            if call.entry is not None and not locks:
                call.entry.set(run, mode, finish)
        return _locked(run, self._lock if locks else nullcontext(), finish)

    def _run_host(self, call: _Call, arrays: list[Any]) -> Any:
        """Strings have no type in compiled code: they are evaluated here, the rest is run."""
        feeds = dict(zip(call.feeds, arrays, strict=True))
        text = [f for f in call.fetches if _is_text(f)]
        rest = [f for f in call.fetches if not _is_text(f)]
        numbers = {t: a for t, a in feeds.items() if t.dtype.ir is not None}
        got = dict(zip(rest, self.run(rest, numbers), strict=True)) if rest else {}
        got.update((t, host_value(t, feeds, self.store.is_initialized)) for t in text)
        return call.rebuild([got[f] for f in call.fetches])

    def cost_analysis(self, fetches: Any, feed_dict: Any = None) -> CostAnalysis:
        """What one such run does: kernels, host calls, operations, bytes. Compiles if need be."""
        leaves, rebuild = flatten_fetches(self._graph, fetches)
        feeds = flatten_feeds(self._graph, feed_dict or {})
        call = _Call(leaves, list(feeds), rebuild)
        arrays = [feed_array(t, v) for t, v in feeds.items()]
        program, executable = self._compiled(call, arrays)
        shapes = [arrays[i].shape for i in program.inputs]
        out: CostAnalysis = executable.cost_analysis(binding(program, shapes))
        return out

    def _pool(self) -> ThreadPool | None:
        """The session's threads; none where it has one."""
        threads = self.options.threads or os.cpu_count() or 1
        if threads > 1 and self._threads is None:
            self._threads = ThreadPool(threads)
        return self._threads

    def load(self, variable: Any, value: Any) -> None:
        """Set a variable's value; ValueError for another shape."""
        with self._lock:
            self.store.load(variable.op, value)

    # Life.

    def _check_open(self) -> None:
        if self.closed:
            raise RuntimeError("Attempted to use a closed Session.")
        if not self._graph.nodes:
            raise RuntimeError(
                "The Session graph is empty.  Add operations to the graph before calling run()."
            )

    def close(self) -> None:
        """Release the variables' values; the session cannot run any more."""
        self.closed = True
        for call in (*self._calls.values(), *self._callables):
            call.table.clear()
            call.native = _refuse
            if call.entry is not None:
                call.entry.clear()
        self._calls.clear()
        self.store.clear()

    def list_devices(self) -> list[str]:
        return ["/job:localhost/replica:0/task:0/device:CPU:0"]

    @contextmanager
    def as_default(self) -> Iterator[Any]:
        """Make it the session that `eval` and `run` of tensors and operations use."""
        stack = session_stack()
        stack.append(self)
        try:
            yield self
        finally:
            stack.remove(self)


class Session(BaseSession):
    """A session; as a context manager it makes itself and its graph the default, and closes."""

    def __enter__(self) -> Session:
        self._graph_context = self._graph.as_default()
        self._graph_context.__enter__()
        session_stack().append(self)
        return self

    def __exit__(self, *args: Any) -> None:
        session_stack().remove(self)
        self._graph_context.__exit__(*args)
        self.close()


class InteractiveSession(BaseSession):
    """A session that makes itself the default when it is made, until it is closed."""

    def __init__(self, target: str = "", graph: Graph | None = None, config: Any = None) -> None:
        super().__init__(target, graph, config)
        self._graph_context = self._graph.as_default() if graph is not None else None
        if self._graph_context is not None:
            self._graph_context.__enter__()
        session_stack().append(self)

    def close(self) -> None:
        super().close()
        if self in session_stack():
            session_stack().remove(self)
        if self._graph_context is not None:
            context, self._graph_context = self._graph_context, None
            context.__exit__(None, None, None)

    def __enter__(self) -> InteractiveSession:
        return self

    def __exit__(self, *args: Any) -> None:
        self.close()


def _key(fetches: Any, feed_dict: Any) -> Any:
    """What a prepared call is found by; raises TypeError later where it has no hash."""
    kind = fetches.__class__
    if kind is list:
        return (_LIST, *fetches, _LIST, *feed_dict) if feed_dict else (_LIST, *fetches)
    if kind is tuple:
        return (_TUPLE, *fetches, _TUPLE, *feed_dict) if feed_dict else (_TUPLE, *fetches)
    if kind is dict:
        return (_DICT, *fetches.items(), _DICT, *(feed_dict or ()))
    return (_ONE, fetches, *feed_dict) if feed_dict else (_ONE, fetches)


def _is_text(f: Any) -> bool:
    return isinstance(f, Tensor) and f.dtype.ir is None


def _locked(
    run: Callable[..., Any], lock: Any, finish: Callable[[Any], Any]
) -> Callable[..., Any]:
    def locked(*arrays: Any) -> Any:
        with lock:
            out = run(*arrays)
        return finish(out)

    return locked


def _refuse(*arrays: Any) -> None:
    """Stands for a compiled entry where there is none."""


def _finisher(call: _Call, program: Program) -> tuple[int, Callable[[Any], Any]]:
    """What nests outputs as the fetches, scalars as NumPy scalars; and an `Entry`'s mode for it."""
    fetches, rebuild = call.fetches, call.rebuild
    tensors = [f for f in fetches if isinstance(f, Tensor)]
    if not tensors and len(fetches) == 1 and rebuild([None]) is None:
        return NOTHING, lambda out: None
    results = program.function.results
    scalar = [not results[i].ty.rank for i in range(len(tensors))]
    single = len(fetches) == 1 and rebuild([_ONE]) is _ONE
    if single and not scalar[0]:
        return ONE, itemgetter(0)
    if single:
        return NESTED, lambda out: out[0][()]
    places = [tensors.index(f) if isinstance(f, Tensor) else None for f in fetches]

    def nested(out: Any) -> Any:
        return rebuild([None if p is None else out[p][()] if scalar[p] else out[p] for p in places])

    return NESTED, nested


def _name(fetches: Sequence[Any]) -> str:
    first = fetches[0].op.name if fetches else "nothing"
    return "".join(c if c.isalnum() or c == "_" else "_" for c in first)


def _reason(graph: Graph, signature: Any, cache: Sequence[Any]) -> str:
    if cache:
        return "a size that broadcasts or must agree differs from those compiled for"
    same = [s for s in graph.compiled if s != signature and s[:2] == signature[:2]]
    return "new ranks of the inputs" if same else "new fetches or feeds"


def _session(session: Any, graph: Graph, what: str) -> Any:
    stack = session_stack()
    if session is None:
        if not stack:
            raise ValueError(
                f"Cannot {what}: No default session is registered. Use `with sess.as_default()` or "
                f"pass an explicit session to `{what}(session=sess)`"
            )
        session = stack[-1]
    if session.graph is not graph:
        raise ValueError(f"Cannot use the given session to {what}: the graph is another one.")
    return session


@operator("eval")
def _eval(tensor: Tensor, feed_dict: Any, session: Any) -> Any:
    return _session(session, tensor.graph, "eval").run(tensor, feed_dict)


@operator("run")
def _run(op: Operation, feed_dict: Any, session: Any) -> None:
    _session(session, op.graph, "run").run(op, feed_dict)


@operator("load")
def _load(variable: Any, value: Any, session: Any) -> None:
    _session(session, variable.graph, "load").load(variable, value)
