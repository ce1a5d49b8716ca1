"""Records of state and effects: types and text; what they do is tested where it happens."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowc.ir.dtypes import BY_NAME
from flowc.ir.ops.base import REGISTRY

from .record import Record

F32 = BY_NAME["f32"]

def _assert(b: Any, x: Any) -> Any:
    return b.emit(REGISTRY["assert_"](message='not "so"'), x)  # type: ignore[call-arg]


RECORDS = [
    Record("var_read", lambda b: b.var_read(var="w", dtype=F32, shape=(3, 5)), lambda: None, ((),),
           dtypes=("f32",), run=False, kernel=False),
    Record("var_write", lambda b, x: b.var_write(x, var="w"), lambda x: None, (((3, 5),),),
           dtypes=("f32", "i32"), run=False, kernel=False),
    Record("print", lambda b, x: b.print(x, message="x = ", summarize=2), lambda x: None,
           (((3,),), ((),)), dtypes=("f32",), run=False, kernel=False),
    Record("assert_", _assert, lambda x: None,
           (((),), ((3,),)), samples=lambda rng, shape, t: np.ones(shape, bool), dtypes=("bool",),
           kernel=False),
    Record("host_call", lambda b, x: b.host_call(x, key="f", dtypes=(F32,), shapes=((2, 3),)),
           lambda x: None, (((3,),),), dtypes=("f32",), run=False, kernel=False),
    Record("host_call", lambda b, x: b.host_call(x, key="g", dtypes=(), shapes=()),
           lambda x: None, (((3,),),), "none", ("f32",), run=False, kernel=False),
]
