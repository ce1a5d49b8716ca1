"""flowc: TensorFlow 1's graph API, compiled. `import flowc as tf`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import errors, initializers, lazy, nn, train
from . import tf_logging as logging
from .config import ConfigProto, GPUOptions, GraphOptions, OptimizerOptions, RunMetadata, RunOptions
from .dtypes import (
    DType,
    as_dtype,
    bfloat16,
    complex64,
    complex128,
    double,
    float16,
    float32,
    float64,
    half,
    int8,
    int16,
    int32,
    int64,
    string,
    uint8,
    uint16,
    uint32,
    uint64,
)
from .dtypes import bool_ as bool
from .export import export, load
from .function import TensorSpec, function, grad, static, value_and_grad
from .graph import (
    Graph,
    GraphKeys,
    add_to_collection,
    add_to_collections,
    colocate_with,
    container,
    control_dependencies,
    device,
    get_collection,
    get_collection_ref,
    get_default_graph,
    get_default_session,
    name_scope,
    op_scope,
    reset_default_graph,
    set_random_seed,
)
from .initializers import Constant as constant_initializer
from .initializers import Ones as ones_initializer
from .initializers import Orthogonal as orthogonal_initializer
from .initializers import RandomNormal as random_normal_initializer
from .initializers import RandomUniform as random_uniform_initializer
from .initializers import TruncatedNormal as truncated_normal_initializer
from .initializers import UniformUnitScaling as uniform_unit_scaling_initializer
from .initializers import VarianceScaling as variance_scaling_initializer
from .initializers import Zeros as zeros_initializer
from .initializers import glorot_normal_initializer, glorot_uniform_initializer
from .ops.binary import (
    add,
    atan2,
    div,
    divide,
    equal,
    floordiv,
    floormod,
    greater,
    greater_equal,
    less,
    less_equal,
    logical_and,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    multiply,
    not_equal,
    pow,
    realdiv,
    squared_difference,
    subtract,
    truediv,
    truncatediv,
    truncatemod,
)
from .ops.binary import floormod as mod
from .ops.binary import multiply as mul
from .ops.binary import subtract as sub
from .ops.clip import (
    add_n,
    clip_by_average_norm,
    clip_by_global_norm,
    clip_by_norm,
    clip_by_value,
    global_norm,
)
from .ops.control import case, cond, while_loop
from .ops.convert import constant, convert_to_tensor
from .ops.creation import (
    eye,
    fill,
    lin_space,
    linspace,
    one_hot,
    ones,
    ones_like,
    range,
    zeros,
    zeros_like,
)
from .ops.data_sized import boolean_mask, unique
from .ops.einsum import einsum
from .ops.gradients import IndexedSlices, gradients, hessians
from .ops.host_calls import (
    Assert,
    Print,
    assert_equal,
    assert_greater,
    assert_greater_equal,
    assert_less,
    assert_less_equal,
    assert_non_negative,
    assert_none_equal,
    assert_positive,
    py_func,
)
from .ops.index import pad, sequence_mask, strided_slice
from .ops.index import slice_ as slice
from .ops.matmul import (
    batch_matmul,
    diag,
    diag_part,
    matmul,
    matrix_band_part,
    matrix_diag,
    matrix_diag_part,
    tensordot,
    trace,
)
from .ops.random import (
    get_seed,
    multinomial,
    random_crop,
    random_normal,
    random_shuffle,
    random_uniform,
    truncated_normal,
)
from .ops.recur import foldl, foldr, map_fn, scan
from .ops.reduce import (
    argmax,
    argmin,
    count_nonzero,
    cumprod,
    cumsum,
    norm,
    reduce_all,
    reduce_any,
    reduce_logsumexp,
    reduce_max,
    reduce_mean,
    reduce_min,
    reduce_prod,
    reduce_sum,
)
from .ops.selecting import (
    argsort,
    gather,
    gather_nd,
    reverse_sequence,
    scatter_nd,
    select,
    sort,
    unsorted_segment_sum,
    where,
)
from .ops.shape import (
    broadcast_to,
    concat,
    expand_dims,
    matrix_transpose,
    meshgrid,
    pack,
    parallel_stack,
    rank,
    reshape,
    reverse,
    reverse_v2,
    shape,
    shape_n,
    size,
    split,
    squeeze,
    stack,
    tile,
    transpose,
    unpack,
    unstack,
)
from .ops.state import (
    assign,
    assign_add,
    assign_sub,
    group,
    identity,
    no_op,
    placeholder,
    placeholder_with_default,
    prevent_gradient,
    scatter_add,
    scatter_max,
    scatter_min,
    scatter_mul,
    scatter_sub,
    scatter_update,
    stop_gradient,
)
from .ops.state import tuple_ as tuple
from .ops.tensor_array import TensorArray
from .ops.unary import (
    abs,
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atanh,
    bitcast,
    cast,
    ceil,
    cos,
    cosh,
    digamma,
    erf,
    erfc,
    exp,
    expm1,
    floor,
    invert,
    is_finite,
    is_inf,
    is_nan,
    lgamma,
    log,
    log1p,
    logical_not,
    negative,
    reciprocal,
    rint,
    round,
    rsqrt,
    saturate_cast,
    sigmoid,
    sign,
    sin,
    sinh,
    sqrt,
    square,
    tan,
    tanh,
    to_bfloat16,
    to_double,
    to_float,
    to_int32,
    to_int64,
)
from .ops.unary import negative as neg
from .ops.unary import reciprocal as inv
from .session import BaseSession, InteractiveSession, Session
from .shapes import Dimension, TensorShape
from .tensor import Operation, Tensor
from .variables import (
    Variable,
    all_variables,
    global_variables,
    global_variables_initializer,
    initialize_all_variables,
    initialize_local_variables,
    initialize_variables,
    is_variable_initialized,
    local_variables,
    local_variables_initializer,
    model_variables,
    moving_average_variables,
    report_uninitialized_variables,
    trainable_variables,
    variables_initializer,
)
from .varscope import (
    AUTO_REUSE,
    VariableScope,
    get_local_variable,
    get_variable,
    get_variable_scope,
    no_regularizer,
    variable_op_scope,
    variable_scope,
)

__version__ = "0.1.0"
newaxis = None

# Modules that no operation is in are loaded when they are first used.
if TYPE_CHECKING:
    from . import app, compat, contrib, flags, gfile, layers, losses, metrics, test
else:
    app, compat, contrib, flags, gfile, layers, losses, metrics, test = map(
        lazy.LazyModule,
        ("flowc.app", "flowc.compat", "flowc.contrib", "flowc.flags", "flowc.gfile",
         "flowc.layers", "flowc.losses", "flowc.metrics", "flowc.test"),
    )  # fmt: skip

__all__ = [
    "AUTO_REUSE", "Assert", "BaseSession", "ConfigProto", "DType", "Dimension", "GPUOptions",
    "Graph", "GraphKeys", "GraphOptions", "IndexedSlices", "InteractiveSession", "Operation",
    "OptimizerOptions", "Print", "RunMetadata", "RunOptions", "Session", "Tensor", "TensorArray",
    "TensorShape", "TensorSpec", "Variable", "VariableScope", "__version__", "abs", "acos", "acosh",
    "add", "add_n", "add_to_collection", "add_to_collections", "all_variables", "app", "argmax",
    "argmin", "argsort", "as_dtype", "asin", "asinh", "assert_equal", "assert_greater",
    "assert_greater_equal", "assert_less", "assert_less_equal", "assert_non_negative",
    "assert_none_equal", "assert_positive", "assign", "assign_add", "assign_sub", "atan", "atan2",
    "atanh", "batch_matmul", "bfloat16", "bitcast", "bool", "boolean_mask", "broadcast_to", "case",
    "cast", "ceil", "clip_by_average_norm", "clip_by_global_norm", "clip_by_norm", "clip_by_value",
    "colocate_with", "compat", "complex64", "complex128", "concat", "cond", "constant",
    "constant_initializer", "container", "contrib", "control_dependencies", "convert_to_tensor",
    "cos", "cosh", "count_nonzero", "cumprod", "cumsum", "device", "diag", "diag_part", "digamma",
    "div", "divide", "double", "einsum", "equal", "erf", "erfc", "errors", "exp", "expand_dims",
    "expm1", "export", "eye", "fill", "flags", "float16", "float32", "float64", "floor", "floordiv",
    "floormod", "foldl", "foldr", "function", "gather", "gather_nd", "get_collection",
    "get_collection_ref", "get_default_graph", "get_default_session", "get_local_variable",
    "get_seed", "get_variable", "get_variable_scope", "gfile", "global_norm", "global_variables",
    "global_variables_initializer", "glorot_normal_initializer", "glorot_uniform_initializer",
    "grad", "gradients", "greater", "greater_equal", "group", "half", "hessians", "identity",
    "initialize_all_variables", "initialize_local_variables", "initialize_variables",
    "initializers", "int8", "int16", "int32", "int64", "inv", "invert", "is_finite", "is_inf",
    "is_nan", "is_variable_initialized", "layers", "less", "less_equal", "lgamma", "lin_space",
    "linspace", "load", "local_variables", "local_variables_initializer", "log", "log1p", "logging",
    "logical_and", "logical_not", "logical_or", "logical_xor", "losses", "map_fn", "matmul",
    "matrix_band_part", "matrix_diag", "matrix_diag_part", "matrix_transpose", "maximum",
    "meshgrid", "metrics", "minimum", "mod", "model_variables", "moving_average_variables", "mul",
    "multinomial", "multiply", "name_scope", "neg", "negative", "newaxis", "nn", "no_op",
    "no_regularizer", "norm", "not_equal", "one_hot", "ones", "ones_initializer", "ones_like",
    "op_scope", "orthogonal_initializer", "pack", "pad", "parallel_stack", "placeholder",
    "placeholder_with_default", "pow", "prevent_gradient", "py_func", "random_crop",
    "random_normal", "random_normal_initializer", "random_shuffle", "random_uniform",
    "random_uniform_initializer", "range", "rank", "realdiv", "reciprocal", "reduce_all",
    "reduce_any", "reduce_logsumexp", "reduce_max", "reduce_mean", "reduce_min", "reduce_prod",
    "reduce_sum", "report_uninitialized_variables", "reset_default_graph", "reshape", "reverse",
    "reverse_sequence", "reverse_v2", "rint", "round", "rsqrt", "saturate_cast", "scan",
    "scatter_add", "scatter_max", "scatter_min", "scatter_mul", "scatter_nd", "scatter_sub",
    "scatter_update", "select", "sequence_mask", "set_random_seed", "shape", "shape_n", "sigmoid",
    "sign", "sin", "sinh", "size", "slice", "sort", "split", "sqrt", "square", "squared_difference",
    "squeeze", "stack", "static", "stop_gradient", "strided_slice", "string", "sub", "subtract",
    "tan", "tanh", "tensordot", "test", "tile", "to_bfloat16", "to_double", "to_float", "to_int32",
    "to_int64", "trace", "train", "trainable_variables", "transpose", "truediv", "truncated_normal",
    "truncated_normal_initializer", "truncatediv", "truncatemod", "tuple", "uint8", "uint16",
    "uint32", "uint64", "uniform_unit_scaling_initializer", "unique", "unpack",
    "unsorted_segment_sum", "unstack", "value_and_grad", "variable_op_scope", "variable_scope",
    "variables_initializer", "variance_scaling_initializer", "where", "while_loop", "zeros",
    "zeros_initializer", "zeros_like",
]  # fmt: skip
