"""The text of types and constants, written and read."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from . import dims
from .dtypes import BY_NAME, DType, f32, f64
from .literal import Literal
from .text import FLOAT, Scanner, float_text, float_value
from .types import TOKEN, TensorType, Type, shape_text

SPLAT_BYTES = 1 << 16  # splats up to this size are written as one value
MAX_SPLAT_BYTES = 1 << 26  # all splats of a text together

_TYPE = re.compile(r"([A-Za-z]\w*)\[([^\]\n]*)\]")
_HEX = re.compile(r"[0-9a-f]{16}(?![0-9A-Za-z_])")
_BASE64 = re.compile(r'"[A-Za-z0-9+/=]*"')


def literal_text(lit: Literal) -> str:
    """``f32[2] [1.0,2.0]``, ``f32[64] splat 0.0``, ``f32[1024] @blob:<hash>``."""
    splat = lit.splat if lit.array.ndim and lit.array.nbytes <= SPLAT_BYTES else None
    if splat is not None and lit.array.size > 1:
        return f"{lit.type} splat {element_text(splat, lit.dtype)}"
    if not lit.is_inline:
        return f"{lit.type} @blob:{lit.digest[:16]}"
    if not lit.array.size:
        return f"{lit.type} []"
    return f"{lit.type} {_nested(lit.array, lit.dtype)}"


def _nested(a: np.ndarray[Any, Any], dt: DType) -> str:
    if a.ndim == 0:
        return element_text(a, dt)
    return f"[{','.join([_nested(x, dt) for x in a[:, ...]])}]" if a.ndim > 1 else (
        f"[{','.join([element_text(x, dt) for x in a])}]")


def element_text(x: Any, dt: DType) -> str:
    """One element, exactly: ``1.0``, ``-3``, ``true``, ``(1.0,2.0)`` for a complex number."""
    if dt.is_float:
        return float_text(x, dt)
    if dt.is_bool:
        return "true" if x else "false"
    if dt.is_complex:
        part = f32 if dt.bits == 64 else f64
        return f"({float_text(x.real, part)},{float_text(x.imag, part)})"
    return str(int(x))


def read_side(path: str) -> dict[str, bytes]:
    """The blobs of a file beside a module's text; ValueError where it is damaged."""
    try:
        return {k: v.tobytes() for k, v in load_file(path).items()}
    except (SafetensorError, OSError, KeyError) as e:
        raise ValueError(f"cannot read {path}: {e}") from None


class DataScanner(Scanner):
    """A scanner that knows types and constants. `blobs`: large constants by their hash."""

    def __init__(self, text: str, file: str, blobs: Mapping[str, Literal | bytes]) -> None:
        super().__init__(text, file)
        self.blobs: dict[str, Literal | bytes] = dict(blobs)
        self.types: dict[str, Type] = {}
        self.splats: dict[tuple[Type, str], Literal] = {}
        self.splat_bytes = 0

    def items(self, close: str, one: Callable[[], object]) -> None:
        """``one, one, … close``."""
        if self.accept(close):
            return
        one()
        while self.accept(","):
            one()
        self.expect(close)

    def type(self) -> Type:
        """``f32[B,784]`` or ``token``."""
        m = _TYPE.match(self.text, self.pos)
        if m is None:
            return TOKEN if self.word("token") else self.fail(
                f"expected a type, found {self.found()}")
        found = self.types.get(m.group())
        if found is None:
            found = self.types[m.group()] = self.new_type(m)
        self._skip(m.end())
        return found

    def new_type(self, m: re.Match[str]) -> TensorType:
        if m.group(1) not in BY_NAME:
            self.fail(f"no element type {m.group(1)!r}; known: {', '.join(BY_NAME)}")
        start = self.pos
        self._skip(m.start(2))
        shape: list[dims.Dim] = []
        self.items("]", lambda: shape.append(self.dim()))
        self.check_shape(tuple(shape), start)
        if any(isinstance(d, int) and d < 0 for d in shape):
            self.fail(f"a size is negative in {shape_text(tuple(shape))}", start)
        self.pos = start
        return TensorType(BY_NAME[m.group(1)], tuple(shape))

    def tensor_type(self) -> TensorType:
        start = self.pos
        t = self.type()
        if not isinstance(t, TensorType):
            self.fail("expected a tensor type, found 'token'", start)
        return t

    # ---- literals

    def static(self, t: TensorType, start: int) -> tuple[int, ...]:
        out = []
        for d in t.shape:
            if not isinstance(d, int):
                self.fail(f"the type of a constant has no symbols: {t}", start)
            out.append(d)
        return tuple(out)

    def literal(self) -> Literal:
        start = self.pos
        t = self.tensor_type()
        shape = self.static(t, start)
        if self.at("@blob:"):
            return self.named_blob(t)
        if self.word("splat"):
            return self.splat(t, shape, start)
        flat: list[Any] = []
        if 0 in shape:
            self.expect("[")
            self.expect("]")
            if t.count != 0 or any(d > 1 << 62 for d in shape):
                self.fail("a shape that is too large", start)
            return Literal(np.zeros([0], t.dtype.np).reshape(self.empty(shape)))
        self.nested(shape, 0, t.dtype, flat)
        return Literal(np.stack(flat).astype(t.dtype.np, copy=False).reshape(shape))

    def empty(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        limit = 1
        for d in shape:
            limit *= max(d, 1)
        if limit >= 1 << 59:
            self.fail("a shape that is too large")
        return shape

    def named_blob(self, t: TensorType) -> Literal:
        start = self.pos
        key = self.blob_name()
        found = self.blobs.get(key)
        if found is None:
            self.fail(f"no bytes are given for @blob:{key}", start)
        if isinstance(found, bytes):
            found = self.blobs[key] = self.blob_literal(key, t, found, start)
        if found.type != t:
            self.fail(f"@blob:{key} is {found.type}, not {t}", start)
        return found

    def splat(self, t: TensorType, shape: tuple[int, ...], start: int) -> Literal:
        at = self.pos
        element = self.element(t.dtype)
        key = (t, self.text[at : self.pos].split(";")[0].strip())
        if key not in self.splats:
            self.splat_bytes += int(t.nbytes)  # type: ignore[arg-type]
            if self.splat_bytes > MAX_SPLAT_BYTES or len(shape) > 32:
                self.fail("a splat that is too large", start)
            self.splats[key] = Literal(np.full(self.empty(shape), element, t.dtype.np))
        return self.splats[key]

    def nested(self, shape: tuple[int, ...], axis: int, dt: DType, flat: list[Any]) -> None:
        if axis == len(shape):
            flat.append(self.element(dt))
            return
        self.expect("[")
        for n in range(shape[axis]):
            if n:
                self.expect(",")
            self.nested(shape, axis + 1, dt, flat)
        self.expect("]")

    def boolean(self) -> bool:
        if self.word("true"):
            return True
        if not self.word("false"):
            self.fail(f"expected true or false, found {self.found()}")
        return False

    def element(self, dt: DType) -> Any:
        """One element as a 0-d array."""
        start = self.pos
        if dt.is_bool:
            return np.asarray(self.boolean())
        if dt.is_float:
            return self.number(dt)
        if dt.is_complex:
            part = f32 if dt.bits == 64 else f64
            self.expect("(")
            real = self.number(part)
            self.expect(",")
            imag = self.number(part)
            self.expect(")")
            return np.stack([real, imag]).view(dt.np)[0]
        value = self.integer()
        if not int(dt.min) <= value <= int(dt.max):
            self.fail(f"{value} does not fit {dt}", start)
        return np.asarray(value, dt.np)

    def number(self, dt: DType) -> Any:
        start = self.pos
        token = self.need(FLOAT, "a number")
        try:
            with np.errstate(all="ignore"):
                return float_value(token, dt)
        except ValueError as e:
            self.fail(str(e), start)

    # ---- blobs

    def blob_section(self) -> None:
        """Blobs follow the functions that use them: read them first."""
        here, first = self.pos, self.text.rfind("\nblob @blob:")
        if first < 0:
            return
        while True:  # back to the first of the lines that end the text
            before = self.text.rfind("\nblob @blob:", 0, first)
            if before < 0 or self.text.find("\n", before + 1) != first:
                break
            first = before
        self._skip(first)
        while self.word("blob"):
            self.blob()
        self.pos = here

    def skip_blob(self) -> None:
        self.blob_name()
        self.tensor_type()
        self.need(_BASE64, "base64 in quotes")

    def blob(self) -> None:
        key = self.blob_name()
        t = self.tensor_type()
        start = self.pos
        token = self.need(_BASE64, "base64 in quotes")
        try:
            data = base64.b64decode(token[1:-1], validate=True)
        except binascii.Error as e:
            self.fail(f"base64: {e}", start)
        self.blobs[key] = self.blob_literal(key, t, data, start)

    def blob_name(self) -> str:
        self.expect("@blob:")
        return self.need(_HEX, "16 hexadecimal digits")

    def blob_literal(self, key: str, t: TensorType, data: bytes, start: int) -> Literal:
        if t.nbytes != len(data):
            self.fail(f"{t} needs {t.nbytes} bytes, @blob:{key} has {len(data)}", start)
        lit = Literal(np.frombuffer(data, t.dtype.np).reshape(self.static(t, start)))
        if lit.digest[:16] != key:
            self.fail(f"the bytes of @blob:{key} do not have its hash", start)
        return lit
