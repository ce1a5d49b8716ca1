"""Every option and environment variable of flowc, typed, in one table.

`Options()` reads the environment once; fields given by the caller win. Command-line flags of the
same names come from this table too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

PREFIX = "FLOWC_"


@dataclass(frozen=True)
class Options:
    """How to compile and run.

    target: an LLVM triple, ``host``, or ``cuda-emu``. cpu: the chip (``native`` for the host's).
    features: LLVM feature string added to the chip's. opt_level: LLVM's 0–3 (kernels bring their
    own vectors: 1 is as fast as 3). threads: size of a session's pool, 0 for one a core. cache: use
    the compile cache. fast_entry: the native CPython entry. verify: run the verifiers between
    passes.
    """

    target: str = field(default="host", metadata={"help": "LLVM triple, host, or cuda-emu"})
    cpu: str = field(default="native", metadata={"help": "chip to generate code for"})
    features: str = field(default="", metadata={"help": "extra LLVM features: +avx2,-fma"})
    opt_level: int = field(default=1, metadata={"help": "LLVM optimization level, 0 to 3"})
    threads: int = field(default=0, metadata={"help": "worker threads, 0: one a core"})
    cache: bool = field(default=True, metadata={"help": "use the on-disk compile cache"})
    cache_dir: str = field(default="", metadata={"help": "where the compile cache lives"})
    data: str = field(default="", metadata={"help": "folder with data sets"})
    fast_entry: bool = field(default=True, metadata={"help": "native CPython entry points"})
    verify: bool = field(default=False, metadata={"help": "verify the IR after every pass"})
    rewrite_limit: int = field(default=-1, metadata={"help": "stop after N rewrites (bisection)"})
    print_after: str = field(default="", metadata={"help": "print the IR after a pass, or all"})
    dump_dir: str = field(default="", metadata={"help": "write every stage's text here"})
    time_passes: bool = field(default=False, metadata={"help": "print the time of every pass"})

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None, **given: Any) -> Options:
        """Options from the environment (``FLOWC_OPT_LEVEL=1``), `given` taking precedence.

        Raises ValueError for a value that does not parse.
        """
        env = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for f in fields(cls):
            text = env.get(PREFIX + f.name.upper())
            if text is not None and f.name not in given:
                values[f.name] = _parse(PREFIX + f.name.upper(), str(f.type), text)
        return cls(**values, **given)


def _parse(name: str, kind: str, text: str) -> Any:
    if kind == "bool":
        if text.lower() in ("1", "true", "yes", "on"):
            return True
        if text.lower() in ("0", "false", "no", "off", ""):
            return False
        raise ValueError(f"{name}={text!r} is neither 0 nor 1")
    if kind == "int":
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"{name}={text!r} is not a whole number") from None
    return text
