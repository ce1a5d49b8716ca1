"""The manifest of a compiled function: what its buffers, sizes, checks and ops are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .abi import ABI_VERSION
from .dtypes import DType, dtype
from .errors import FailedPreconditionError, InvalidArgumentError, Shape, format_shape


@dataclass(frozen=True)
class TensorSpec:
    """An input or state buffer: `shape` holds ints and symbol names or expressions.

    `mode` ("r", "w", "rw") says what the function does with a state buffer; inputs are "r".
    """

    name: str
    dtype: DType
    shape: tuple[int | str, ...]
    loc: str | None = None
    mode: str = "r"

    def __str__(self) -> str:
        where = f" ({self.loc})" if self.loc else ""
        return f"'{self.name}'{where}: {self.dtype.name}{format_shape(self.shape)}"


@dataclass(frozen=True)
class OutputSpec:
    """An output buffer; its shape comes from `NAME_output_shapes`."""

    name: str
    dtype: DType
    rank: int


@dataclass(frozen=True)
class Check:
    """A guard that `NAME_bind` tests."""

    message: str
    loc: str | None = None


@dataclass(frozen=True)
class OpRecord:
    """What an error in op `id` is reported as."""

    id: int
    op: str
    loc: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class Manifest:
    """See `flowc.runtime.abi` for the ABI that it describes."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[OutputSpec, ...]
    state: tuple[TensorSpec, ...] = ()
    dims: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    ops: Mapping[int, OpRecord] | None = None
    kernels: tuple[str, ...] = ()
    host_calls: tuple[str, ...] = ()
    data_dims: bool = False
    """Some sizes are known only after the run: outputs are sized by a bound, then cut."""
    atomic_state: bool = False
    """State is written only after nothing can fail or be cancelled any more."""
    target: str = ""
    cpu: str = ""
    features: str = ""

    @staticmethod
    def parse(source: str | bytes | Mapping[str, Any] | Manifest) -> Manifest:
        """From JSON text or its decoded form. Raises InvalidArgumentError for a malformed one,
        FailedPreconditionError for another ABI version."""
        if isinstance(source, Manifest):
            return source
        try:
            data = json.loads(source) if isinstance(source, (str, bytes)) else source
            version = int(data["abi"])
            if version != ABI_VERSION:
                raise FailedPreconditionError(
                    f"the function has ABI version {version}, this runtime {ABI_VERSION}"
                )
            return _parse(data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InvalidArgumentError):
                raise
            raise InvalidArgumentError(f"malformed manifest: {error!r}") from error


def _tensor(data: Mapping[str, Any]) -> TensorSpec:
    shape = tuple(d if isinstance(d, str) else int(d) for d in data["shape"])
    mode = str(data.get("mode", "r"))
    return TensorSpec(str(data["name"]), dtype(data["dtype"]), shape, data.get("loc"), mode)


def _parse(data: Mapping[str, Any]) -> Manifest:
    ops = (
        OpRecord(int(o["id"]), str(o["op"]), o.get("loc"), o.get("message"))
        for o in data.get("ops", ())
    )
    return Manifest(
        name=str(data["name"]),
        inputs=tuple(_tensor(t) for t in data["inputs"]),
        outputs=tuple(
            OutputSpec(str(o["name"]), dtype(o["dtype"]), int(o["rank"])) for o in data["outputs"]
        ),
        state=tuple(_tensor(t) for t in data.get("state", ())),
        dims=tuple(str(d) for d in data.get("dims", ())),
        checks=tuple(Check(str(c["message"]), c.get("loc")) for c in data.get("checks", ())),
        ops={o.id: o for o in ops},
        kernels=tuple(data.get("kernels", ())),
        host_calls=tuple(data.get("host_calls", ())),
        data_dims=bool(data.get("data_dims", False)),
        atomic_state=bool(data.get("atomic_state", False)),
        target=str(data.get("target", "")),
        cpu=str(data.get("cpu", "")),
        features=str(data.get("features", "")),
    )


def same_static(declared: Shape, actual: Shape) -> bool:
    """Equal rank, and every int dimension equal; symbols are left to `NAME_bind`."""
    return len(declared) == len(actual) and all(
        isinstance(d, str) or d == a for d, a in zip(declared, actual, strict=True)
    )
