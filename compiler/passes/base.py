"""What passes are: frozen dataclasses whose fields are their options, `run(module, ctx)`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from flowc.backends.base import Backend
from flowc.ir.core import Function
from flowc.ir.plan import Program

from ..options import Options


@dataclasses.dataclass(frozen=True)
class Unit:
    """What passes work on: each name is a Function until `lower`, then a Program."""

    items: Mapping[str, Function | Program]

    def map_functions(self, fn: Callable[[Function], Function]) -> Unit:
        """Apply to the functions; programs pass."""
        return Unit({k: fn(v) if isinstance(v, Function) else v for k, v in self.items.items()})

    def map_programs(self, fn: Callable[[Program], Program]) -> Unit:
        """Apply to the programs; functions pass."""
        return Unit({k: fn(v) if isinstance(v, Program) else v for k, v in self.items.items()})


@dataclasses.dataclass
class Context:
    """What a pass may ask: the backend that is compiled for, the options, where rewrites are told.

    rewrites counts named rewrites; `limit` stops them (for bisection), −1: no limit.
    """

    backend: Backend
    options: Options
    rewrites: dict[str, int] = dataclasses.field(default_factory=dict)
    limit: int = -1

    def allow(self, name: str) -> bool:
        """Record a rewrite; False where the limit has been reached and it must not be made."""
        if 0 <= self.limit <= sum(self.rewrites.values()):
            return False
        self.rewrites[name] = self.rewrites.get(name, 0) + 1
        return True


@dataclasses.dataclass(frozen=True)
class Pass:
    """Base of passes."""

    name: ClassVar[str] = ""

    def run(self, unit: Unit, ctx: Context) -> Unit:
        """The unit after this pass."""
        raise NotImplementedError(self.name)


PASSES: dict[str, type[Pass]] = {}
P = TypeVar("P", bound=type[Pass])


def register(cls: P) -> P:
    """Make a pass known by its name to the pipeline and to `flowc opt`."""
    PASSES[cls.name] = cls
    return cls


def parse_pass(text: str) -> Pass:
    """``fuse`` or ``fuse{limit=3,rows=false}``: a pass from its command-line text."""
    name, _, rest = text.partition("{")
    cls = PASSES.get(name.strip())
    if cls is None:
        raise ValueError(f"no pass is named {name.strip()!r}; known: {', '.join(PASSES)}")
    types = {f.name: f.type for f in dataclasses.fields(cls)}
    kwargs: dict[str, Any] = {}
    for item in filter(None, rest.rstrip("}").split(",")):
        key, _, value = item.partition("=")
        if key not in types:
            raise ValueError(f"pass {name} has no option {key!r}; it has {', '.join(types)}")
        kwargs[key] = value == "true" if "bool" in str(types[key]) else int(value)
    return cls(**kwargs)
