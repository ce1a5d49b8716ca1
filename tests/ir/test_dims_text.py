"""Dimensions print what they parse from, and their text is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowc.ir import dims


def _exprs() -> st.SearchStrategy[dims.Dim]:
    leaf = st.one_of(st.integers(-9, 9), st.sampled_from("ABN").map(dims.sym))

    def grow(inner: st.SearchStrategy[dims.Dim]) -> st.SearchStrategy[dims.Dim]:
        pair = st.tuples(inner, inner)
        divisor = st.tuples(inner, st.integers(1, 6))
        return st.one_of(
            pair.map(lambda t: dims.add(*t)), pair.map(lambda t: dims.mul(*t)),
            divisor.map(lambda t: dims.floordiv(*t)), divisor.map(lambda t: dims.mod(*t)),
            pair.map(lambda t: dims.maximum(*t)), pair.map(lambda t: dims.minimum(*t)))

    return st.recursive(leaf, grow, max_leaves=6)


@settings(max_examples=200, deadline=None)
@given(_exprs(), st.integers(0, 7), st.integers(0, 7), st.integers(0, 7))
def test_print_parse(d: dims.Dim, a: int, b: int, n: int) -> None:
    back = dims.parse(str(d))
    env = {"A": a, "B": b, "N": n}
    assert str(back) == str(d)
    assert back == d
    assert dims.substitute(back, env) == dims.substitute(d, env)


@pytest.mark.parametrize("text", [
    "-" * 300 + "A", "(" * 300 + "A" + ")" * 300, "*".join(f"(a{i}+b{i})" for i in range(40)),
    "max(A", "A B", "A//0", "9" * 30, "²", "A+", ")", "",
])
def test_bad_text(text: str) -> None:
    with pytest.raises(dims.DimSyntaxError):
        dims.parse(text)
