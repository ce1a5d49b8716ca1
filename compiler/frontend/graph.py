"""`tf.Graph`: an append-only list of operations, their names, scopes and collections."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from flowc.ir.core import IRError

from .dtypes import DType
from .location import user_location
from .scratch import Scratch
from .shapes import TensorShape
from .tensor import Operation, Tensor

T = TypeVar("T")
_OP_NAME = re.compile(r"^[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*$")
_SCOPE_NAME = re.compile(r"^[A-Za-z0-9_.\\/>-]*$")


class GraphKeys:
    """Names of the standard collections."""

    GLOBAL_VARIABLES = "variables"
    VARIABLES = "variables"
    LOCAL_VARIABLES = "local_variables"
    METRIC_VARIABLES = "metric_variables"
    MODEL_VARIABLES = "model_variables"
    TRAINABLE_VARIABLES = "trainable_variables"
    SUMMARIES = "summaries"
    QUEUE_RUNNERS = "queue_runners"
    TABLE_INITIALIZERS = "table_initializer"
    ASSET_FILEPATHS = "asset_filepaths"
    MOVING_AVERAGE_VARIABLES = "moving_average_variables"
    REGULARIZATION_LOSSES = "regularization_losses"
    CONCATENATED_VARIABLES = "concatenated_variables"
    SAVERS = "savers"
    WEIGHTS = "weights"
    BIASES = "biases"
    ACTIVATIONS = "activations"
    UPDATE_OPS = "update_ops"
    LOSSES = "losses"
    SAVEABLE_OBJECTS = "saveable_objects"
    RESOURCES = "resources"
    LOCAL_RESOURCES = "local_resources"
    INIT_OP = "init_op"
    LOCAL_INIT_OP = "local_init_op"
    READY_OP = "ready_op"
    SUMMARY_OP = "summary_op"
    GLOBAL_STEP = "global_step"
    TRAIN_OP = "train_op"
    COND_CONTEXT = "cond_context"
    WHILE_CONTEXT = "while_context"


class Graph:
    """Operations in the order of their creation; never changed but by appending.

    array_api: whether operators promote element types (`flowc.function`) instead of TensorFlow's
    strict rule.
    """

    array_api = False

    def __init__(self) -> None:
        self.nodes: list[Operation] = []
        self.by_name: dict[str, Operation] = {}
        self.names_in_use: dict[str, int] = {}
        self.name_stack = ""
        self.collections: dict[Any, list[Any]] = {}
        self.seed: int | None = None
        self.finalized = False
        self.scopes: dict[str, Any] = {}  # the state of variable scopes and the like
        self.compiled: dict[Any, Any] = {}  # what sessions have compiled
        self.symbols: dict[str, tuple[Operation, int]] = {}
        self.controls: list[tuple[list[Operation], bool]] = []  # (ops, clears the outer ones)
        self.devices: list[Any] = []
        self.scratch = Scratch(self)

    # Operations.

    def create_op(
        self,
        type: str,
        inputs: Iterable[Tensor],
        dtypes: Iterable[DType],
        name: str | None = None,
        **attrs: Any,
    ) -> Operation:
        """Append an operation; its outputs have these dtypes and the shapes that can be told.

        A name that ends in "/" is taken as it is (a scope's), others are made unique. Raises
        ValueError where the shapes of the inputs do not fit, with the user's line; RuntimeError
        where the graph is finalized.
        """
        self.check_open()
        name = name or type
        name = name[:-1] if name.endswith("/") else self.unique_name(name)
        taken = [self.capture(t) for t in inputs]
        op = Operation(self, type, name, taken, self._control_inputs(taken), attrs, user_location())
        op.outputs = [self.make_tensor(op, i, t) for i, t in enumerate(dtypes)]
        self._place(op)
        try:
            self.scratch.add(op)
        except IRError as e:
            raise ValueError(_build_message(op, e)) from None
        op.id = len(self.nodes)
        self.nodes.append(op)
        self.by_name[name] = op
        return op

    def make_tensor(self, op: Operation, index: int, dtype: DType) -> Tensor:
        """The tensor for an output of an operation that is being made."""
        return Tensor(op, index, dtype)

    def capture(self, tensor: Tensor) -> Tensor:
        """The tensor as an operation of this graph can use it."""
        if tensor.graph is not self:
            raise ValueError(f"{tensor} must be from the same graph as the operation that uses it.")
        return tensor

    def assert_shape(self, tensor: Tensor) -> None:
        """`tensor.set_shape` was called."""
        self.scratch.assert_shape(tensor)

    def check_open(self) -> None:
        if self.finalized:
            raise RuntimeError("Graph is finalized and cannot be modified.")

    def finalize(self) -> None:
        self.finalized = True

    @property
    def version(self) -> int:
        return len(self.nodes)

    def get_operations(self) -> list[Operation]:
        return list(self.nodes)

    def get_operation_by_name(self, name: str) -> Operation:
        found = self.by_name.get(name)
        if found is None:
            raise KeyError(f"The name {name!r} refers to an Operation not in the graph.")
        return found

    def get_tensor_by_name(self, name: str) -> Tensor:
        """The tensor called "op:index". Raises ValueError for an op's name, KeyError if none."""
        op_name, colon, index = name.rpartition(":")
        if not colon or not index.isdigit():
            raise ValueError(
                f"The name {name!r} looks like an (invalid) Operation name, not a Tensor: Tensor "
                f'names must be of the form "<op_name>:<output_index>".'
            )
        op = self.by_name.get(op_name)
        if op is None or int(index) >= len(op.outputs):
            raise KeyError(f"The name {name!r} refers to a Tensor which does not exist.")
        return op.outputs[int(index)]

    def as_graph_element(
        self, obj: Any, allow_tensor: bool = True, allow_operation: bool = True
    ) -> Any:
        """The Tensor or Operation that a name or object stands for.

        Raises ValueError for one of another graph, KeyError for an unknown name, TypeError for
        anything else.
        """
        if hasattr(obj, "_as_graph_element"):
            obj = obj._as_graph_element()
        if isinstance(obj, str):
            if ":" in obj and allow_tensor:
                return self.get_tensor_by_name(obj)
            if allow_operation and ":" not in obj:
                return self.get_operation_by_name(obj)
            raise ValueError(f"The name {obj!r} is not that of a Tensor: it has no output index.")
        kinds = (Tensor,) * allow_tensor + (Operation,) * allow_operation
        if not isinstance(obj, kinds):
            wanted = " or a ".join(k.__name__ for k in kinds)
            raise TypeError(f"Can not convert a {type(obj).__name__} into a {wanted}.")
        if obj.graph is not self:
            raise ValueError(f"{obj} is not an element of this graph.")
        return obj

    def is_feedable(self, tensor: Tensor) -> bool:
        return True

    # Names.

    def unique_name(self, name: str, mark_as_used: bool = True) -> str:
        """The name within the current scope, with `_1`, `_2` … appended where it is taken."""
        pattern = _SCOPE_NAME if self.name_stack else _OP_NAME
        if not pattern.match(name):
            raise ValueError(f"{name!r} is not a valid scope name")
        if self.name_stack:
            name = f"{self.name_stack}/{name}"
        used = self.names_in_use
        count = used.get(name, 0)
        if mark_as_used:
            used[name] = count + 1
        if count:
            base = name
            while name in used:
                name = f"{base}_{count}"
                count += 1
            if mark_as_used:
                used[name] = 1
        return name

    @contextmanager
    def name_scope(self, name: str | None) -> Iterator[str]:
        """A scope for names: yields "scope/". "name/" re-enters a scope, None or "" leaves all."""
        before = self.name_stack
        if not name:
            self.name_stack = ""
        elif name.endswith("/"):
            self.name_stack = name[:-1]
        else:
            self.name_stack = self.unique_name(name)
        try:
            yield self.name_stack + "/" if self.name_stack else ""
        finally:
            self.name_stack = before

    def get_name_scope(self) -> str:
        return self.name_stack

    # Devices and control dependencies.

    @contextmanager
    def device(self, device: Any) -> Iterator[None]:
        """Operations made inside are for this device: a string, a function of the op, or None."""
        self.devices.append(device)
        try:
            yield
        finally:
            self.devices.pop()

    def _place(self, op: Operation) -> None:
        parts: dict[str, str] = {}
        for device in self.devices:
            found = device(op) if callable(device) else device
            parts = {} if found is None else parts | _device_parts(found)
        op.device = "".join(f"/{k}:{v}" for k, v in parts.items())

    @contextmanager
    def control_dependencies(self, control_inputs: Any) -> Iterator[None]:
        """Operations made inside run after these; None forgets the ones around it."""
        clears = control_inputs is None
        ops = [] if clears else [self._control_op(c) for c in control_inputs]
        self.controls.append(([o for o in ops if o.graph is self], clears))
        try:
            yield
        finally:
            self.controls.pop()

    def _control_op(self, element: Any) -> Operation:
        if hasattr(element, "_as_graph_element"):
            element = element._as_graph_element()
        if isinstance(element, str):
            element = self.as_graph_element(element)
        if not isinstance(element, (Tensor, Operation)):
            raise TypeError(f"Control input must be Operation or Tensor: {element!r}")
        return element.op

    def _control_inputs(self, inputs: list[Tensor]) -> list[Operation]:
        out: dict[Operation, None] = {}
        for ops, clears in reversed(self.controls):
            if clears:
                break
            out.update(dict.fromkeys(ops))
        for t in inputs:
            out.pop(t.op, None)
        return list(out)

    def colocate_with(self, op: Any, ignore_existing: bool = False) -> Any:
        return self.device(getattr(op, "device", None) or (lambda _: ""))

    @contextmanager
    def container(self, name: str) -> Iterator[str]:
        yield name

    # Collections.

    def add_to_collection(self, name: Any, value: Any) -> None:
        self.check_open()
        self.collections.setdefault(name, []).append(value)

    def add_to_collections(self, names: Any, value: Any) -> None:
        """Add the value to several collections, once each."""
        for name in dict.fromkeys((names,) if isinstance(names, str) else names):
            self.add_to_collection(name, value)

    def get_collection_ref(self, name: Any) -> list[Any]:
        return self.collections.setdefault(name, [])

    def get_collection(self, name: Any, scope: str | None = None) -> list[Any]:
        """The items; with a scope, those whose names match it as a regular expression."""
        items = self.collections.get(name, [])
        if not scope:
            return list(items)
        pattern = re.compile(scope)
        return [i for i in items if hasattr(i, "name") and pattern.match(i.name)]

    def get_all_collection_keys(self) -> list[Any]:
        return list(self.collections)

    def clear_collection(self, name: Any) -> None:
        self.collections.pop(name, None)

    # The default graph.

    @contextmanager
    def as_default(self) -> Iterator[Graph]:
        """Make it the graph that ops are added to, in this thread."""
        stack = _stacks.graphs
        stack.append(self)
        try:
            yield self
        finally:
            if stack[-1] is not self:
                raise AssertionError("Nesting violated: default graphs were not left in order")
            stack.pop()

    @property
    def root(self) -> Graph:
        """The graph that holds the variables: itself, but for the body of a control-flow op."""
        return self

    def static_shape(self, tensor: Tensor) -> TensorShape:
        return tensor.shape


def _device_parts(text: str) -> dict[str, str]:
    """`/job:worker/device:GPU:0`, `/gpu:0` → its fields by name."""
    out = {}
    for part in text.strip("/").split("/") if text else ():
        key, _, value = part.partition(":")
        if key.lower() in ("cpu", "gpu"):
            key, value = "device", f"{key.upper()}:{value or 0}"
        out[key] = value
    return out


def _build_message(op: Operation, e: IRError) -> str:
    shapes = ", ".join(str(t.shape) for t in op.inputs)
    where = f" (at {op.loc})" if op.loc else ""
    return f"{e.message} for '{op.name}' (op: '{op.type}') with input shapes: [{shapes}]{where}"


class _Stacks(threading.local):
    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self.sessions: list[Any] = []


class _Global:
    graph: Graph | None = None


_stacks = _Stacks()
_lock = threading.Lock()


def get_default_graph() -> Graph:
    """The innermost graph of `as_default`, else the process's."""
    if _stacks.graphs:
        return _stacks.graphs[-1]
    with _lock:
        if _Global.graph is None:
            _Global.graph = Graph()
        return _Global.graph


def reset_default_graph() -> None:
    """Start with an empty default graph. AssertionError inside `as_default`."""
    if _stacks.graphs:
        raise AssertionError("Do not use tf.reset_default_graph() to clear nested graphs.")
    _Global.graph = Graph()


def session_stack() -> list[Any]:
    """The default sessions of this thread, innermost last."""
    return _stacks.sessions


def get_default_session() -> Any:
    """The innermost session of `as_default`, or None."""
    return _stacks.sessions[-1] if _stacks.sessions else None


class name_scope:
    """`with tf.name_scope("layer") as scope:`; also (name, default_name, values)."""

    def __init__(self, name: str | None, default_name: str | None = None, values: Any = None):
        self.name = default_name if name is None else name
        if self.name is None and values is not None:
            raise ValueError("At least one of name and default_name must be provided")

    def __enter__(self) -> str:
        self.inner = get_default_graph().name_scope(self.name)
        return self.inner.__enter__()

    def __exit__(self, *args: Any) -> Any:
        return self.inner.__exit__(*args)


def op_scope(values: Any, name: str | None, default_name: str | None = None) -> name_scope:
    return name_scope(name, default_name, values)


def device(device_name_or_function: Any) -> Any:
    return get_default_graph().device(device_name_or_function)


def control_dependencies(control_inputs: Any) -> Any:
    return get_default_graph().control_dependencies(control_inputs)


def colocate_with(op: Any, ignore_existing: bool = False) -> Any:
    return get_default_graph().colocate_with(op, ignore_existing)


def container(container_name: str) -> Any:
    return get_default_graph().container(container_name)


def add_to_collection(name: Any, value: Any) -> None:
    get_default_graph().add_to_collection(name, value)


def add_to_collections(names: Any, value: Any) -> None:
    get_default_graph().add_to_collections(names, value)


def get_collection(key: Any, scope: str | None = None) -> list[Any]:
    return get_default_graph().get_collection(key, scope)


def get_collection_ref(key: Any) -> list[Any]:
    return get_default_graph().get_collection_ref(key)


def set_random_seed(seed: int | None) -> None:
    """The graph-level seed: ops without their own draw streams that follow from it."""
    get_default_graph().seed = seed
