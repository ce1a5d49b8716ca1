"""Pruned signatures keep what someone outside relies on."""

from __future__ import annotations

from flowc.compiler.passes.dce import Dce
from passes.same import apply, parse

TEXT = """
func @main(%x: f32[B], %unused: f32[3], %sized: i8[N], %s: f32[B] {kind=state, updated_by=1}, \
%old: f32[2] {kind=state}) -> (i64[], f32[B]) {
  %0: i64[] = dim_size() {dim=N, dtype=i64}
  return %0, %x
}
"""


def test_updated_variables_and_sources_of_sizes_stay() -> None:
    f = apply(parse(TEXT), Dce(prune=True))
    assert [i.name for i in f.infos] == ["x", "sized", "s"]
    assert [i.updated_by for i in f.infos] == [-1, -1, 1]
