"""Variables whose values are known become constants: inference that carries its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flowc.ir.core import Function, Instr
from flowc.ir.literal import Literal
from flowc.ir.ops.constant import Constant
from flowc.runtime.errors import InvalidArgumentError


def freeze(f: Function, values: Mapping[str, np.ndarray[Any, Any]]) -> Function:
    """f with its state that it only reads, and that `values` has, as constants.

    The order of the other parameters stays. Raises InvalidArgumentError where a value is not of
    the state's type.
    """
    constants: list[Instr] = []
    keep: list[int] = []
    for n, (p, info) in enumerate(zip(f.params, f.infos, strict=True)):
        if info.kind != "state" or info.updated_by >= 0 or info.name not in values:
            keep.append(n)
            continue
        value = Literal(values[info.name])
        if value.type != p.type:
            raise InvalidArgumentError(
                f"the value of {info.name!r} is {value.type}, the variable {p.type}"
            )
        constants.append(Instr(Constant(value), (), (p,), info.loc, info.name))
    if not constants:
        return f
    return f.replace(
        params=tuple(f.params[n] for n in keep), infos=tuple(f.infos[n] for n in keep),
        instrs=(*constants, *f.instrs),
    )
