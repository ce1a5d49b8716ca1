"""Each pattern that fusion and schedules look for, alone, in two element types, some sizes."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from flowc.ir import ops
from flowc.ir.dtypes import BY_NAME
from fuzz.execute import check, native
from fuzz.generate import finish
from fuzz.motifs import MOTIFS
from fuzz.program import Growing, Reject

assert ops
SIZES = (("R", 33), ("C", 17), ("S", 3))


@pytest.mark.parametrize("kind", ["f32", "bf16"])
@pytest.mark.parametrize("name", sorted(MOTIFS))
def test_motif(name: str, kind: str) -> None:
    backend, done = native(), 0
    for n in range(3):
        rng = np.random.default_rng(zlib.crc32(f"{name} {kind} {n}".encode()))
        g = Growing(rng, [(d, size, n == 1) for d, size in SIZES])
        for d in g.dims:
            if not isinstance(d, int):
                g.param(BY_NAME[kind], (d,))
        try:
            MOTIFS[name](g, BY_NAME[kind])
        except Reject:
            continue
        p = finish(g)
        done += 1
        assert check(p.function, p.args, p.env, backend) == ""
    assert done, "the pattern was never built"
