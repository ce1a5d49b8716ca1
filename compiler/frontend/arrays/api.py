"""The functions of the array API standard (2023.12) for traced arrays: `x.__array_namespace__()`.

Names, arguments and promotion are the standard's, so that code written for any array library
traces. What it leaves undefined is an error. Defaults: float32 where the standard says "the default
floating-point type", int64 for integers. Functions whose result's shape depends on data (`nonzero`,
`unique_*`) are not there.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from .. import dtypes as dt
from ..registry import operator
from .elementwise import *  # noqa: F403
from .manipulation import *  # noqa: F403
from .reductions import *  # noqa: F403

__array_api_version__ = "2023.12"
pi, e, inf, nan, newaxis = math.pi, math.e, math.inf, math.nan, None
float32, float64, complex64, complex128 = dt.float32, dt.float64, dt.complex64, dt.complex128
int8, int16, int32, int64, bool = dt.int8, dt.int16, dt.int32, dt.int64, dt.bool_
uint8, uint16, uint32, uint64 = dt.uint8, dt.uint16, dt.uint32, dt.uint64


@operator("namespace")
def _namespace(api_version: str | None) -> Any:
    if api_version not in (None, __array_api_version__):
        raise ValueError(f"array API {api_version} is not supported, {__array_api_version__} is")
    return sys.modules[__name__]
