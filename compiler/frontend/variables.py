"""`tf.Variable`: state that a session keeps from run to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .dtypes import DType
from .graph import GraphKeys, get_default_graph
from .ops import state
from .ops.convert import convert
from .registry import CONVERTERS, OPERATORS
from .shapes import TensorShape
from .tensor import Operation, Operators, Tensor


class Variable(Operators):
    """State with a fixed element type and shape.

    initial_value: what converts to a tensor, or a function without arguments that returns it.
    name: made unique. trainable: whether optimizers change it by default. collections: those it
    is added to (default GLOBAL_VARIABLES). dtype: its type, else the initial value's. Raises
    ValueError where the initial value has no static shape and validate_shape is true.
    """

    def __init__(
        self,
        initial_value: Any = None,
        trainable: bool | None = None,
        collections: Any = None,
        validate_shape: bool = True,
        caching_device: Any = None,
        name: str | None = None,
        variable_def: Any = None,
        dtype: Any = None,
        expected_shape: Any = None,
        import_scope: Any = None,
        constraint: Callable[[Tensor], Tensor] | None = None,
        use_resource: Any = None,
        synchronization: Any = None,
        aggregation: Any = None,
        shape: Any = None,
    ) -> None:
        if initial_value is None:
            raise ValueError("initial_value must be specified.")
        trainable = True if trainable is None else trainable
        graph = get_default_graph().root
        self.constraint, self._save_slice_info = constraint, None
        with _initial_context(graph):
            self._make(graph, initial_value, name, dtype, validate_shape, shape)
        self._collect(graph, trainable, collections)

    def _make(
        self, graph: Any, value: Any, name: str | None, dtype: Any, validate: bool, shape: Any
    ) -> None:
        with graph.name_scope(name or "Variable") as scope:
            if callable(value):
                with graph.name_scope("Initializer"):
                    value = value()
            self._initial = convert(value, dtype, "initial_value")
            found = self._initial.shape if shape is None else TensorShape(shape)
            if validate and not found.is_fully_defined():
                raise ValueError(
                    f"initial_value must have a shape specified: {self._initial} for the variable "
                    f"{scope[:-1]!r}"
                )
            if not found.is_fully_defined():
                found = TensorShape(None)
            op = graph.create_op("VariableV2", [], [self._initial.dtype], scope, shape=found)
            self._tensor: Tensor = op.outputs[0]
            self._initializer = state.assign(self._tensor, self._initial, name="Assign").op
            self._snapshot: Tensor = graph.create_op(
                "Identity", [self._tensor], [self._tensor.dtype], "read", snapshot_of=op
            ).outputs[0]

    def _collect(self, graph: Any, trainable: bool, collections: Any) -> None:
        names = [GraphKeys.GLOBAL_VARIABLES] if collections is None else list(collections)
        if trainable and GraphKeys.TRAINABLE_VARIABLES not in names:
            names.append(GraphKeys.TRAINABLE_VARIABLES)
        self.trainable = trainable
        for name in dict.fromkeys(names):
            graph.collections.setdefault(name, []).append(self)

    # What it is.

    @property
    def name(self) -> str:
        return self._tensor.name

    @property
    def op(self) -> Operation:
        return self._tensor.op

    @property
    def dtype(self) -> DType:
        return self._tensor.dtype

    @property
    def graph(self) -> Any:
        return self._tensor.graph

    @property
    def device(self) -> str:
        return self._tensor.device

    @property
    def shape(self) -> TensorShape:
        return self._tensor.shape

    def get_shape(self) -> TensorShape:
        return self.shape

    def set_shape(self, shape: Any) -> None:
        self._tensor.set_shape(shape)
        self._snapshot.set_shape(shape)

    @property
    def initializer(self) -> Operation:
        """The operation that gives it its initial value."""
        return self._initializer

    @property
    def initial_value(self) -> Tensor:
        return self._initial

    def _ref(self) -> Tensor:
        return self._tensor

    def _as_graph_element(self) -> Tensor:
        return self._tensor

    # What it holds.

    def value(self) -> Tensor:
        """Its value, read where it is used."""
        return self._snapshot

    def read_value(self) -> Tensor:
        """Its value at this point of the program."""
        return state.identity(self._tensor, name="read")

    def initialized_value(self) -> Tensor:
        """Its value, or its initial value where it is not initialized yet."""
        return state.initialized_value(self._tensor, self._initial)

    def eval(self, session: Any = None) -> Any:
        return OPERATORS["eval"](self._tensor, None, session)

    def load(self, value: Any, session: Any = None) -> None:
        """Set its value in a session; ValueError for another shape."""
        OPERATORS["load"](self, value, session)

    # Changes.

    def assign(
        self,
        value: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Give it a value when it runs."""
        out = state.assign(self, value, name=name)
        return out if read_value else out.op

    def assign_add(
        self,
        delta: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Add to it when it runs."""
        out = state.assign_add(self, delta, name=name)
        return out if read_value else out.op

    def assign_sub(
        self,
        delta: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Subtract from it when it runs."""
        out = state.assign_sub(self, delta, name=name)
        return out if read_value else out.op

    def scatter_sub(self, sparse_delta: Any, use_locking: bool = False, name: Any = None) -> Tensor:
        return state.scatter_sub(self, sparse_delta.indices, sparse_delta.values, name=name)  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("'Variable' object is not iterable.")

    def __repr__(self) -> str:
        return f"<tf.Variable {self.name!r} shape={self.shape} dtype={self.dtype.name}>"


class _initial_context:
    """Initial values depend on no control flow, control dependency or device function."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    def __enter__(self) -> None:
        current = get_default_graph()
        self.parts = [self.graph.as_default(), self.graph.control_dependencies(None)]
        if current is not self.graph:
            within = current.get_name_scope()
            self.parts.append(self.graph.name_scope(within + "/" if within else None))
        for part in self.parts:
            part.__enter__()

    def __exit__(self, *args: Any) -> None:
        for part in reversed(self.parts):
            part.__exit__(*args)


def _convert(value: Variable, dtype: DType | None, name: str | None) -> Tensor:
    return value._snapshot


CONVERTERS.append((Variable, _convert))


def _list(key: str, scope: str | None) -> list[Any]:
    return get_default_graph().root.get_collection(key, scope)


def global_variables(scope: str | None = None) -> list[Any]:
    return _list(GraphKeys.GLOBAL_VARIABLES, scope)


all_variables = global_variables


def local_variables(scope: str | None = None) -> list[Any]:
    return _list(GraphKeys.LOCAL_VARIABLES, scope)


def trainable_variables(scope: str | None = None) -> list[Any]:
    return _list(GraphKeys.TRAINABLE_VARIABLES, scope)


def model_variables(scope: str | None = None) -> list[Any]:
    return _list(GraphKeys.MODEL_VARIABLES, scope)


def moving_average_variables(scope: str | None = None) -> list[Any]:
    return _list(GraphKeys.MOVING_AVERAGE_VARIABLES, scope)


def variables_initializer(var_list: Any, name: str = "init") -> Operation:
    """An operation that gives the variables their initial values."""
    return state.group(*[v.initializer for v in var_list or ()], name=name)


def global_variables_initializer() -> Operation:
    """An operation that gives all variables of the graph their initial values."""
    return variables_initializer(global_variables())


initialize_all_variables = global_variables_initializer
initialize_variables = variables_initializer


def local_variables_initializer() -> Operation:
    """An operation that gives all local variables their initial values."""
    return variables_initializer(local_variables())


initialize_local_variables = local_variables_initializer


def is_variable_initialized(variable: Any) -> Tensor:
    return state.is_variable_initialized(variable)


def report_uninitialized_variables(
    var_list: Any = None, name: str = "report_uninitialized_variables"
) -> Tensor:
    """A string vector: which of the variables (default: global and local) have no value yet."""
    chosen = [*global_variables(), *local_variables()] if var_list is None else var_list
    return state.report_uninitialized(chosen, name)
