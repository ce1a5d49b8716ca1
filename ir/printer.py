"""The text form of functions and modules: one grammar for all ops, derived from their fields.

The grammar is in `docs/ir.md`; `parser.py` reads it back to equal text.
"""

from __future__ import annotations

import base64
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from .core import Function, Guard, Instr, Module, Param, Value
from .datatext import literal_text
from .dtypes import f64
from .literal import Literal
from .text import IDENT, attr_specs, float_text, loc_text, quote
from .types import Type

SECTION_BYTES = 1 << 16  # `save` writes blobs of more bytes to a file of their own
_WORDS = frozenset(["none", "true", "false"])
_BAD = re.compile(r"[^A-Za-z0-9_./]")


class Names:
    """Unique names of a function's values: their hints, or numbers."""

    def __init__(self, f: Function) -> None:
        self.of: dict[Value, str] = {}
        self._used: set[str] = set()
        self._serial: dict[str, int] = {}
        self._next = 0
        for p in f.params:
            self.add(p)
        for instr in f.instrs:
            for r in instr.results:
                self.add(r)

    def add(self, v: Value) -> str:
        """The name of a value, made up at the first call."""
        name = self.of.get(v)
        if name is None:
            name = self.of[v] = self._make(v.name)
            self._used.add(name)
        return name

    def _make(self, hint: str) -> str:
        hint = _BAD.sub("_", hint)
        if not hint or hint.isdigit():
            self._next += 1
            return str(self._next - 1)
        if not (hint[0].isalpha() or hint[0] == "_"):
            hint = "_" + hint
        name = hint
        while name in self._used:
            self._serial[hint] = self._serial.get(hint, 0) + 1
            name = f"{hint}_{self._serial[hint]}"
        return name

    def __getitem__(self, v: Value) -> str:
        return "%" + self.of.get(v, f"<undefined {v.name}>")


def default_name(value_name: str, position: int) -> str:
    """What a parameter is called when the text does not say: its value's name, if it has one."""
    return f"arg{position}" if value_name.isdigit() else value_name


class _Printer:
    def __init__(self, locs: bool) -> None:
        self.locs = locs
        self.blobs: dict[str, Literal] = {}
        self.types: dict[Type, str] = {}

    def type(self, t: Type) -> str:
        text = self.types.get(t)
        if text is None:
            text = self.types[t] = str(t)
        return text

    def function(self, f: Function, indent: str = "", names: Names | None = None) -> str:
        names = names or Names(f)
        inner = indent + "  "
        params = ", ".join(
            self.param(p, names.of[p], info, i)
            for i, (p, info) in enumerate(zip(f.params, f.infos, strict=True)))
        head = f"func {symbol_text(f.name)}({params}) -> ({self.results(f)})"
        lines = [head + self.guards(f.guards, inner)]
        lines += [inner + self.instr(i, names, inner) for i in f.instrs]
        returned = ", ".join(names[r] for r in f.results)
        lines += [f"{inner}return {returned}".rstrip(), indent + "}"]
        return "\n".join(lines)

    def param(self, p: Value, name: str, info: Param, position: int) -> str:
        attrs = [f"kind={info.kind}"] if info.kind != "input" else []
        if info.name != default_name(name, position):
            attrs.append(f"name={quote(info.name)}")
        if info.updated_by != -1:
            attrs.append(f"updated_by={info.updated_by}")
        if info.loc and self.locs:
            attrs.append(loc_text(info.loc))
        text = f"%{name}: {self.type(p.type)}"
        return f"{text} {{{', '.join(attrs)}}}" if attrs else text

    def results(self, f: Function) -> str:
        out = []
        for i, r in enumerate(f.results):
            named = f" {{name={quote(f.result_names[i])}}}" if i < len(f.result_names) else ""
            out.append(self.type(r.type) + named)
        return ", ".join(out)

    def guards(self, guards: tuple[Guard, ...], indent: str) -> str:
        if not guards:
            return " {"
        out = ""
        for g in guards:
            loc = " " + loc_text(g.loc) if g.loc and self.locs else ""
            out += f"\n{indent}guard {g.left} == {g.right} {quote(g.message)}{loc}"
        return f"{out}\n{indent[2:]}{{"

    def instr(self, i: Instr, names: Names, indent: str) -> str:
        outs = ", ".join([f"%{names.of[r]}: {self.type(r.type)}" for r in i.results])
        text = f"{outs} = {i.op.name}(" if outs else f"{i.op.name}("
        text += ", ".join([names[v] for v in i.operands]) + ")"
        specs = attr_specs(type(i.op))
        if specs:
            attrs = [f"{n}={self.value(s, getattr(i.op, n), indent)}" for n, s in specs.items()]
            text += f" {{{', '.join(attrs)}}}"
        if self.locs and (i.loc or i.source):
            text += " " + loc_text(i.loc, i.source)
        return text

    def value(self, spec: tuple[Any, ...], v: Any, indent: str) -> str:
        """One attribute."""
        kind = spec[0]
        if kind == "optional":
            return "none" if v is None else self.value(spec[1], v, indent)
        if kind == "list":
            return f"[{','.join([self.value(spec[1], x, indent) for x in v])}]"
        if kind == "tuple":
            parts = [self.value(s, x, indent) for s, x in zip(spec[1], v, strict=True)]
            return f"[{','.join(parts)}]"
        return self.scalar(kind, v, indent)

    def scalar(self, kind: str, v: Any, indent: str) -> str:
        if kind == "function":
            return self.function(v, indent)
        if kind == "literal":
            return self.literal(v)
        if kind == "bool":
            return "true" if v else "false"
        if kind == "str":
            return v if IDENT.fullmatch(v) and v not in _WORDS else quote(v)
        if kind == "float":
            return float_text(v, f64)
        return self.type(v) if kind == "type" else str(v)

    def literal(self, lit: Literal) -> str:
        text = literal_text(lit)
        if "@blob:" in text:
            self.blobs[lit.digest[:16]] = lit
        return text


def symbol_text(name: str) -> str:
    """``@main``; names that are no identifiers are quoted."""
    return "@" + (name if re.fullmatch(r"[A-Za-z_][\w.]*", name, re.ASCII) else quote(name))


def print_function(f: Function, locs: bool = True, names: Names | None = None) -> str:
    """The text of a function; blobs are named, their bytes left out (see `print_module`)."""
    return _Printer(locs).function(f, names=names) + "\n"


def text_and_blobs(f: Function) -> tuple[str, list[Literal]]:
    """The text of a function, and the constants that it names by their hash, in their order."""
    p = _Printer(True)
    text = p.function(f)
    return text, list(p.blobs.values())


def print_instr(i: Instr, names: Names) -> str:
    """One instruction as a line, its sub-functions folded away, for messages."""
    p = _Printer(True)
    p.function = lambda f, *_, **__: f"func {symbol_text(f.name)} …"  # type: ignore[method-assign]
    return p.instr(i, names, "")


def print_module(m: Module, locs: bool = True, blobs: bool = True) -> str:
    """The text of all functions; with `blobs` the bytes of large constants follow, in base64."""
    p = _Printer(locs)
    out = "\n".join(p.function(f) + "\n" for f in m.functions.values())
    return out + _section(p.blobs) if blobs else out


def blobs_of(m: Module) -> dict[str, Literal]:
    """The constants that the text form names by their hash."""
    p = _Printer(False)
    for f in m.functions.values():
        p.function(f)
    return p.blobs


def _section(blobs: Mapping[str, Literal]) -> str:
    lines = []
    for key, lit in blobs.items():
        data = base64.b64encode(lit.array.tobytes()).decode()
        lines.append(f'blob @blob:{key} {lit.type} "{data}"')
    return "\n" + "\n".join(lines) + "\n" if lines else ""


def save(m: Module, path: str | os.PathLike[str]) -> None:
    """Write a module as text, atomically; many bytes of constants go to a safetensors file beside.

    The file beside is called by its content, and the text names it: a reader sees the old program
    or the new one, whole. `parser.load` reads it back.
    """
    path = os.fspath(path)
    text, blobs = print_module(m, blobs=False), blobs_of(m)
    if sum(b.array.nbytes for b in blobs.values()) <= SECTION_BYTES:
        _replace(path, lambda tmp: _write(tmp, text + _section(blobs)))
        return
    key = Literal(np.frombuffer("".join(sorted(blobs)).encode(), np.uint8)).digest[:16]
    side = f"{os.path.basename(path)}.{key}.safetensors"
    tensors = {k: np.frombuffer(b.array.tobytes(), np.uint8) for k, b in blobs.items()}
    _replace(os.path.join(os.path.dirname(path), side), lambda tmp: save_file(tensors, tmp))
    _replace(path, lambda tmp: _write(tmp, f"blobs {quote(side)}\n\n{text}"))


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as out:
        out.write(text)


def _replace(path: str, write: Callable[[str], Any]) -> None:
    fd, tmp = tempfile.mkstemp(dir=os.path.dirname(path) or ".", suffix=".tmp")
    os.close(fd)
    try:
        write(tmp)
        os.chmod(tmp, 0o644)
        os.replace(tmp, path)
    except BaseException:
        os.unlink(tmp)
        raise


def context(f: Function, at: int, names: Names, around: int = 2) -> str:
    """The lines around instruction `at`, which is marked."""
    lines: Iterable[int] = range(max(0, at - around), min(len(f.instrs), at + around + 1))
    return "\n".join(
        f"{'>' if i == at else ' '} {print_instr(f.instrs[i], names)}" for i in lines)
