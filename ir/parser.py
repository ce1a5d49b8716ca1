"""Reading the text form back: `parse(print(x))` prints the same text.

Input is untrusted. Each failure is a `ParseError` with line and column; the types of each
instruction are inferred anew and compared with what the text declares.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import os
import re
from collections.abc import Mapping
from typing import Any

from . import dims
from .core import Function, Guard, Instr, Module, Op, Param, Value
from .datatext import DataScanner, read_side
from .dtypes import DType, f64
from .literal import Literal
from .ops.base import REGISTRY
from .printer import default_name
from .text import IDENT, MAX_DEPTH, ParseError, Scanner, attr_specs
from .types import Type

__all__ = ["ParseError", "load", "parse_function", "parse_module"]

_VALUE = re.compile(r"%[A-Za-z0-9_./]+")
_SYMBOL = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)


def parse_module(
    text: str, file: str = "<text>", blobs: Mapping[str, Literal | bytes] | None = None
) -> Module:
    """The module that a text is. `blobs`: large constants by the hash that the text names.

    Raises ParseError. A section of `blob` lines in the text itself stands beside `blobs`.
    """
    return _Parser(text, file, blobs or {}).module()


def parse_function(
    text: str, file: str = "<text>", blobs: Mapping[str, Literal | bytes] | None = None
) -> Function:
    """The one function that a text is; ParseError where it is none or several."""
    p = _Parser(text, file, blobs or {})
    m = p.module()
    if len(m.functions) != 1:
        p.fail(f"expected one function, found {len(m.functions)}")
    return next(iter(m.functions.values()))


def load(path: str | os.PathLike[str]) -> Module:
    """Read what `printer.save` wrote. Raises ParseError, or OSError where there is no file."""
    path = os.fspath(path)
    with open(path, "rb") as f:
        data = f.read()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        Scanner("", path).fail(f"not UTF-8 text: {e.reason} at byte {e.start}")
    return _Parser(text, path, {}, os.path.dirname(path)).module()


class _Scope:
    """The values of one function: sub-functions see nothing of the one around them."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}


class _Parser(DataScanner):
    def __init__(
        self,
        text: str,
        file: str,
        blobs: Mapping[str, Literal | bytes],
        folder: str | None = None,
    ) -> None:
        super().__init__(text, file, blobs)
        self.folder = folder

    # ---- the module

    def module(self) -> Module:
        if self.word("blobs"):
            self.side_file()
        self.blob_section()
        functions: dict[str, Function] = {}
        while self.pos < len(self.text):
            if self.word("blob"):
                self.skip_blob()
                continue
            start = self.pos
            if not self.word("func"):
                self.fail(f"expected 'func', found {self.found()}")
            f = self.function()
            if f.name in functions:
                self.fail(f"two functions are named @{f.name}", start)
            functions[f.name] = f
        if not functions:
            self.fail("expected a function, found the end of the text")
        return Module(functions)

    def side_file(self) -> None:
        start = self.pos
        name = self.string()
        if self.folder is None:
            self.fail("a text with no place of its own cannot name a file of blobs", start)
        if os.path.basename(name) != name or name in ("", ".", ".."):
            self.fail("a file of blobs lies beside the text: its name has no folder", start)
        try:
            self.blobs.update(read_side(os.path.join(self.folder or ".", name)))
        except ValueError as e:
            self.fail(str(e), start)

    # ---- functions

    def function(self) -> Function:
        """After the word func."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail("functions nest too deeply")
        self.expect("@")
        name = self.string() if self.at('"') else self.need(_SYMBOL, "a name")
        scope = _Scope()
        params: list[Value] = []
        infos: list[Param] = []
        self.expect("(")
        self.items(")", lambda: self.param(scope, params, infos))
        declared, names = self.result_types()
        guards: list[Guard] = []
        while self.word("guard"):
            guards.append(self.guard())
        self.expect("{")
        instrs: list[Instr] = []
        while not self.word("return"):
            instrs.append(self.instr(scope))
        results = self.returned(scope, declared)
        self.expect("}")
        self.depth -= 1
        return Function(name, tuple(params), tuple(instrs), tuple(results),
                        tuple(infos), tuple(guards), tuple(names))

    def define(self, scope: _Scope) -> Value:
        """``%x: type``."""
        start = self.pos
        name = self.need(_VALUE, "a value")[1:]
        if name in scope.values:
            self.fail(f"%{name} is defined twice", start)
        self.expect(":")
        value = Value(self.type(), "" if name.isdigit() else name)
        scope.values[name] = value
        return value

    def use(self, scope: _Scope) -> Value:
        start = self.pos
        name = self.need(_VALUE, "a value")[1:]
        value = scope.values.get(name)
        if value is None:
            self.fail(f"%{name} is not defined before its use", start)
        return value

    def param(self, scope: _Scope, params: list[Value], infos: list[Param]) -> None:
        start = self.pos
        value = self.define(scope)
        info: dict[str, Any] = {"name": default_name(value.name or "0", len(params))}
        if self.accept("{"):
            self.items("}", lambda: self.param_attr(info))
        if info.get("kind", "input") not in ("input", "state"):
            self.fail(f"a parameter's kind is input or state, not {info['kind']!r}", start)
        params.append(value)
        infos.append(Param(**info))

    def param_attr(self, info: dict[str, Any]) -> None:
        start = self.pos
        key = self.need(IDENT, "an attribute")
        if key == "loc":
            info["loc"] = self.loc()[0]
            return
        self.expect("=")
        if key == "kind":
            info["kind"] = self.need(IDENT, "a kind")
        elif key == "name":
            info["name"] = self.string()
        elif key == "updated_by":
            info["updated_by"] = self.integer()
        else:
            self.fail(f"a parameter has no attribute {key!r}", start)

    def result_types(self) -> tuple[list[tuple[Type, int]], list[str]]:
        declared: list[tuple[Type, int]] = []
        names: list[str] = []

        def one() -> None:
            start = self.pos
            declared.append((self.type(), start))
            if self.accept("{"):
                if not self.word("name"):
                    self.fail(f"expected 'name', found {self.found()}")
                self.expect("=")
                names.extend([""] * (len(declared) - 1 - len(names)))
                names.append(self.string())
                self.expect("}")

        self.expect("->")
        self.expect("(")
        self.items(")", one)
        return declared, names

    def guard(self) -> Guard:
        left = self.dim()
        self.expect("==")
        right = self.dim()
        message = self.string()
        return Guard(left, right, message, self.loc()[0] if self.word("loc") else None)

    def returned(self, scope: _Scope, declared: list[tuple[Type, int]]) -> list[Value]:
        results: list[Value] = []
        start = self.pos
        if not self.at("}"):
            results.append(self.use(scope))
            while self.accept(","):
                results.append(self.use(scope))
        if len(results) != len(declared):
            self.fail(f"{len(declared)} results are declared, {len(results)} returned", start)
        for r, (t, at) in zip(results, declared, strict=True):
            if r.type != t:
                self.fail(f"a result is declared {t}, what is returned is {r.type}", at)
        return results

    # ---- instructions

    def instr(self, scope: _Scope) -> Instr:
        outs: list[str] = []
        declared: list[tuple[Type, int]] = []
        while self.at("%"):
            start = self.pos
            outs.append(self.need(_VALUE, "a value")[1:])
            if outs[-1] in scope.values or outs[-1] in outs[:-1]:
                self.fail(f"%{outs[-1]} is defined twice", start)
            self.expect(":")
            start = self.pos
            declared.append((self.type(), start))
            if not self.accept(","):
                self.expect("=")
                break
        start = self.pos
        cls = self.op_class()
        operands: list[Value] = []
        self.expect("(")
        self.items(")", lambda: operands.append(self.use(scope)))
        op = self.op(cls, start)
        loc, source = self.loc() if self.word("loc") else (None, "")
        self.check_types(op, operands, declared, start)
        results = [Value(t, "" if n.isdigit() else n)
                   for n, (t, _) in zip(outs, declared, strict=True)]
        scope.values.update(zip(outs, results, strict=True))
        return Instr(op, tuple(operands), tuple(results), loc, source)

    def op_class(self) -> type[Op]:
        start = self.pos
        name = self.need(IDENT, "an operation or 'return'")
        cls = REGISTRY.get(name)
        if cls is None:
            near = difflib.get_close_matches(name[:40], REGISTRY, 3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            self.fail(f"no operation is named {name!r}{hint}", start)
        return cls

    def op(self, cls: type[Op], start: int) -> Op:
        """The attributes in braces, typed by the op's fields."""
        specs = attr_specs(cls)
        attrs: dict[str, Any] = {}

        def one() -> None:
            at = self.pos
            name = self.need(IDENT, "an attribute")
            if name not in specs:
                known = ", ".join(specs) or "none"
                self.fail(f"{cls.name} has no attribute {name!r}; it has: {known}", at)
            if name in attrs:
                self.fail(f"attribute {name!r} is given twice", at)
            self.expect("=")
            attrs[name] = self.value(specs[name])

        if self.accept("{"):
            self.items("}", one)
        for f in dataclasses.fields(cls):  # type: ignore[arg-type]
            plain = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
            if plain and f.name not in attrs:
                self.fail(f"{cls.name} needs the attribute {f.name!r}", start)
        try:
            return cls(**attrs)
        except (TypeError, ValueError, ArithmeticError, LookupError) as e:
            self.fail(f"{cls.name}: {e}", start)

    def check_types(
        self, op: Op, operands: list[Value], declared: list[tuple[Type, int]], start: int
    ) -> None:
        kinds = ", ".join(str(v.type) for v in operands)
        problem = arity_problem(op, len(operands))
        if problem:
            self.fail(problem, start)
        try:
            types = op.infer(*(v.type for v in operands))
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as e:
            self.fail(f"{op.name}: {e} [operands: {kinds}]", start)
        inferred = types if isinstance(types, tuple) else (types,)
        if len(inferred) != len(declared):
            self.fail(f"{op.name} has {len(inferred)} results, {len(declared)} are named", start)
        for (t, at), real in zip(declared, inferred, strict=True):
            if t != real:
                self.fail(f"the result is declared {t}, {op.name} gives {real}", at)

    # ---- attributes

    def value(self, spec: tuple[Any, ...]) -> Any:
        kind = spec[0]
        if kind == "optional":
            return None if self.word("none") else self.value(spec[1])
        if kind == "list":
            return self.list_value(spec[1])
        if kind == "tuple":
            return self.tuple_value(spec[1])
        return getattr(self, f"_{kind}")()

    def list_value(self, spec: tuple[Any, ...]) -> tuple[Any, ...]:
        start = self.pos
        out: list[Any] = []
        self.expect("[")
        self.items("]", lambda: out.append(self.value(spec)))
        if spec == ("dim",):
            self.check_shape(tuple(out), start)
        return tuple(out)

    def tuple_value(self, specs: tuple[Any, ...]) -> tuple[Any, ...]:
        out: list[Any] = []
        self.expect("[")
        for n, spec in enumerate(specs):
            if n:
                self.expect(",")
            out.append(self.value(spec))
        self.expect("]")
        return tuple(out)

    def _int(self) -> int:
        return self.integer()

    def _dim(self) -> dims.Dim:
        return self.dim()

    def _dtype(self) -> DType:
        return self.dtype()

    def _type(self) -> Type:
        return self.type()

    def _bool(self) -> bool:
        return self.boolean()

    def _literal(self) -> Literal:
        return self.literal()

    def _str(self) -> str:
        return self.string() if self.at('"') else self.need(IDENT, "a word or a quoted string")

    def _float(self) -> float:
        return float(self.number(f64))

    def _function(self) -> Function:
        if not self.word("func"):
            self.fail(f"expected 'func', found {self.found()}")
        return self.function()


def arity_problem(op: Op, count: int) -> str | None:
    """What is wrong with `count` operands, from the signature of `infer`; None where nothing is."""
    cls = type(op)
    if cls not in _ARITY:
        _ARITY[cls] = _arity(cls)
    least, most = _ARITY[cls]
    if least <= count <= most:
        return None
    wanted = f"{least}" if least == most else f"{least} or more"
    return f"{op.name} takes {wanted} operand{'s' * (wanted != '1')}, found {count}"


_ARITY: dict[Any, tuple[int, float]] = {}


def _arity(cls: type[Op]) -> tuple[int, float]:
    least, most = -1, -1.0  # self
    for p in inspect.signature(cls.infer).parameters.values():
        if p.kind is p.VAR_POSITIONAL:
            most = float("inf")
        else:
            most += 1
            least += p.default is p.empty
    return least, most
