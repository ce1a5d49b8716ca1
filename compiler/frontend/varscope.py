"""`tf.get_variable` and `tf.variable_scope`: variables shared by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from . import dtypes as dt
from .dtypes import as_dtype
from .graph import GraphKeys, get_default_graph
from .initializers import Zeros, glorot_uniform_initializer
from .shapes import TensorShape, as_shape
from .tensor import Tensor
from .variables import Variable


class _AutoReuse:
    def __repr__(self) -> str:
        return "tf.AUTO_REUSE"


AUTO_REUSE = _AutoReuse()
_KEY = "variable_scopes"


class _Store:
    """The variables of a graph by name, the current scope, and how often names were used."""

    def __init__(self) -> None:
        self.variables: dict[str, Any] = {}
        self.current = VariableScope(False)
        self.counts: dict[str, int] = {}


def _store() -> _Store:
    scopes = get_default_graph().root.scopes
    if _KEY not in scopes:
        scopes[_KEY] = _Store()
    return scopes[_KEY]  # type: ignore[no-any-return]


class VariableScope:
    """A prefix for the names of variables, and defaults for making them."""

    def __init__(
        self,
        reuse: Any,
        name: str = "",
        initializer: Any = None,
        regularizer: Any = None,
        caching_device: Any = None,
        partitioner: Any = None,
        custom_getter: Any = None,
        name_scope: str = "",
        dtype: Any = dt.float32,
        use_resource: Any = None,
        constraint: Any = None,
    ) -> None:
        self.reuse, self.name, self.original_name_scope = reuse, name, name_scope
        self.initializer, self.regularizer, self.dtype = initializer, regularizer, as_dtype(dtype)
        self.caching_device, self.partitioner = caching_device, partitioner
        self.custom_getter, self.use_resource = custom_getter, use_resource
        self.constraint = constraint

    def copy(self, **changes: Any) -> VariableScope:
        out = VariableScope.__new__(VariableScope)
        out.__dict__.update(self.__dict__)
        out.__dict__.update(changes)
        return out

    def reuse_variables(self) -> None:
        """From here on `get_variable` returns existing variables."""
        self.reuse = True

    def set_initializer(self, initializer: Any) -> None:
        self.initializer = initializer

    def set_regularizer(self, regularizer: Any) -> None:
        self.regularizer = regularizer

    def set_dtype(self, dtype: Any) -> None:
        self.dtype = as_dtype(dtype)

    def set_custom_getter(self, custom_getter: Any) -> None:
        self.custom_getter = custom_getter

    def get_collection(self, name: Any) -> list[Any]:
        scope = f"{self.name}/" if self.name else None
        return get_default_graph().root.get_collection(name, scope)

    def trainable_variables(self) -> list[Any]:
        return self.get_collection(GraphKeys.TRAINABLE_VARIABLES)

    def global_variables(self) -> list[Any]:
        return self.get_collection(GraphKeys.GLOBAL_VARIABLES)

    def local_variables(self) -> list[Any]:
        return self.get_collection(GraphKeys.LOCAL_VARIABLES)

    def get_variable(self, name: str, shape: Any = None, **given: Any) -> Any:
        return _get_variable(self, name, shape, **given)


def get_variable_scope() -> VariableScope:
    """The current variable scope."""
    return _store().current


def get_variable(
    name: str,
    shape: Any = None,
    dtype: Any = None,
    initializer: Any = None,
    regularizer: Any = None,
    trainable: bool | None = None,
    collections: Any = None,
    caching_device: Any = None,
    partitioner: Any = None,
    validate_shape: bool = True,
    use_resource: Any = None,
    custom_getter: Any = None,
    constraint: Any = None,
    synchronization: Any = None,
    aggregation: Any = None,
) -> Any:
    """The variable of this name in the current scope: a new one, or with reuse the existing one.

    initializer: a function of (shape, dtype), a class of such, an array or a tensor; the scope's,
    or Glorot's uniform one, by default. Raises ValueError where a variable exists and may not be
    reused, does not exist and must be, or has another shape or dtype.
    """
    return _get_variable(
        get_variable_scope(), name, shape, dtype=dtype, initializer=initializer,
        regularizer=regularizer, trainable=trainable, collections=collections,
        validate_shape=validate_shape, custom_getter=custom_getter, constraint=constraint,
    )  # fmt: skip


def _get_variable(
    scope: VariableScope, name: str, shape: Any = None, custom_getter: Any = None, **given: Any
) -> Any:
    full = f"{scope.name}/{name}" if scope.name and name else scope.name or name
    merged = {
        "dtype": given.get("dtype") or scope.dtype,
        "initializer": _first(given.get("initializer"), scope.initializer),
        "regularizer": _first(given.get("regularizer"), scope.regularizer),
        "constraint": _first(given.get("constraint"), scope.constraint),
        "trainable": given.get("trainable"),
        "collections": given.get("collections"),
        "validate_shape": given.get("validate_shape", True),
        "reuse": scope.reuse,
    }
    getter: Callable[..., Any] = _obtain
    for custom in (scope.custom_getter, custom_getter):
        if custom is not None:
            getter = _with_getter(custom, getter)
    with get_default_graph().name_scope(None):
        return getter(name=full, shape=shape, **merged)


def _first(a: Any, b: Any) -> Any:
    return b if a is None else a


def _with_getter(custom: Callable[..., Any], inner: Callable[..., Any]) -> Callable[..., Any]:
    return lambda name, **given: custom(inner, name, **given)


def _obtain(
    name: str,
    shape: Any = None,
    dtype: Any = dt.float32,
    initializer: Any = None,
    regularizer: Any = None,
    constraint: Any = None,
    trainable: bool | None = None,
    collections: Any = None,
    validate_shape: bool = True,
    reuse: Any = None,
    **ignored: Any,
) -> Any:
    found = _store().variables.get(name)
    if found is not None:
        return _reused(found, name, shape, dtype, reuse)
    if reuse is True:
        raise ValueError(
            f"Variable {name} does not exist, or was not created with tf.get_variable(). Did you "
            "mean to set reuse=tf.AUTO_REUSE in VarScope?"
        )
    value, t = _initial(name, shape, as_dtype(dtype), initializer)
    made = Variable(
        value, trainable, collections, validate_shape, name=name, dtype=t, constraint=constraint
    )
    _store().variables[name] = made
    if regularizer is not None:
        with get_default_graph().name_scope(f"{name}/Regularizer/"):
            loss = regularizer(made)
        if loss is not None:
            get_default_graph().add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)
    return made


def _reused(found: Any, name: str, shape: Any, dtype: Any, reuse: Any) -> Any:
    if not reuse:
        raise ValueError(
            f"Variable {name} already exists, disallowed. Did you mean to set reuse=True or "
            f"reuse=tf.AUTO_REUSE in VarScope? Originally defined at: {found.op.loc}"
        )
    if shape is not None and not as_shape(shape).is_compatible_with(found.shape):
        raise ValueError(
            f"Trying to share variable {name}, but specified shape {as_shape(shape)} and found "
            f"shape {found.shape}."
        )
    if as_dtype(dtype) != found.dtype:
        raise ValueError(
            f"Trying to share variable {name}, but specified dtype {as_dtype(dtype).name} and "
            f"found dtype {found.dtype.name}."
        )
    return found


def _initial(name: str, shape: Any, t: dt.DType, initializer: Any) -> tuple[Any, dt.DType]:
    """The initial value (or what makes it) of a new variable, and its type."""
    if inspect.isclass(initializer):
        initializer = initializer()
    if initializer is None:
        initializer = glorot_uniform_initializer() if t.is_floating else Zeros()
        if not (t.is_floating or t.is_integer or t.is_bool):
            raise ValueError(f"An initializer for variable {name} of {t.name} is required")
    if not callable(initializer):
        if shape is not None:
            raise ValueError("If initializer is a constant, do not specify shape.")
        return initializer, initializer.dtype if isinstance(initializer, Tensor) else t
    sizes = as_shape(shape)
    if shape is None and not inspect.signature(initializer).parameters:
        return initializer, t
    if not sizes.is_fully_defined():
        raise ValueError(
            f"Shape of a new variable ({name}) must be fully defined, but instead was {sizes}."
        )
    return lambda: _call(initializer, sizes, t), t


def _call(initializer: Any, shape: TensorShape, t: dt.DType) -> Any:
    names = inspect.signature(initializer).parameters
    given = {}
    if "dtype" in names or any(p.kind is p.VAR_KEYWORD for p in names.values()):
        given["dtype"] = t
    return initializer(shape.as_list(), **given)


class variable_scope:
    """`with tf.variable_scope("layer", reuse=…):`; a scope object re-enters that scope.

    default_name: made unique, used where the name is None. reuse: True, tf.AUTO_REUSE, or None to
    inherit. initializer, regularizer, dtype, custom_getter: defaults for variables made inside.
    """

    def __init__(
        self,
        name_or_scope: Any,
        default_name: str | None = None,
        values: Any = None,
        initializer: Any = None,
        regularizer: Any = None,
        caching_device: Any = None,
        partitioner: Any = None,
        custom_getter: Any = None,
        reuse: Any = None,
        dtype: Any = None,
        use_resource: Any = None,
        constraint: Any = None,
        auxiliary_name_scope: bool = True,
    ) -> None:
        if name_or_scope is None and default_name is None:
            raise TypeError("If default_name is None then name_or_scope is required")
        if reuse not in (None, False, True) and reuse is not AUTO_REUSE:
            raise ValueError("The reuse parameter must be True or False or None.")
        self._given, self._default = name_or_scope, default_name
        if name_or_scope is None and reuse is True:
            raise ValueError("reuse=True cannot be used without a name_or_scope")
        self._reuse, self._auxiliary = reuse, auxiliary_name_scope
        self._changes = {
            k: v
            for k, v in {
                "initializer": initializer, "regularizer": regularizer, "constraint": constraint,
                "caching_device": caching_device, "partitioner": partitioner,
                "custom_getter": custom_getter, "use_resource": use_resource,
                "dtype": None if dtype is None else as_dtype(dtype),
            }.items()
            if v is not None
        }  # fmt: skip

    def __enter__(self) -> VariableScope:
        graph, store = get_default_graph(), _store()
        self._store, self._before = store, store.current
        self._counts = dict(store.counts)
        if isinstance(self._given, VariableScope):
            base, name, short = self._given, self._given.name, self._given.name.split("/")[-1]
        else:
            base = store.current
            short = self._given if self._given is not None else self._unique(self._default or "")
            name = f"{base.name}/{short}" if base.name else short
        self._scope = graph.name_scope(short or None) if self._auxiliary and short else None
        within = self._scope.__enter__() if self._scope is not None else ""
        store.counts[name] = store.counts.get(name, 0) + 1
        for key in [k for k in store.counts if k.startswith(f"{name}/")]:
            store.counts[key] = 0
        reuse = self._reuse if self._reuse is not None else base.reuse or self._before.reuse
        getter = self._changes.get("custom_getter")
        changes = dict(self._changes)
        if getter is not None and base.custom_getter is not None:
            outer = base.custom_getter
            changes["custom_getter"] = lambda inner, name, **given: getter(
                _with_getter(outer, inner), name, **given
            )
        store.current = base.copy(name=name, reuse=reuse, original_name_scope=within, **changes)
        return store.current

    def _unique(self, prefix: str) -> str:
        store = self._store
        base = f"{store.current.name}/" if store.current.name else ""
        if not store.counts.get(base + prefix):
            return prefix
        i = 1
        while store.counts.get(f"{base}{prefix}_{i}"):
            i += 1
        return f"{prefix}_{i}"

    def __exit__(self, *args: Any) -> None:
        self._store.current = self._before
        if self._scope is not None:
            self._scope.__exit__(*args)


def variable_op_scope(
    values: Any, name_or_scope: Any, default_name: str | None = None, **given: Any
) -> variable_scope:
    return variable_scope(name_or_scope, default_name, values, **given)


def get_local_variable(name: str, *args: Any, **given: Any) -> Any:
    """Like `get_variable`, in the collection of local variables and not trained."""
    given["collections"] = [*(given.get("collections") or ()), GraphKeys.LOCAL_VARIABLES]
    given["trainable"] = False
    return get_variable(name, *args, **given)


def no_regularizer(_: Any) -> None:
    """A regularizer that adds no loss, not even the scope's."""
    return
