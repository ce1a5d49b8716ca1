"""`einsum` against NumPy's, its gradient, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowc as tf

SIZES = dict(zip("abcdijkq", (2, 3, 4, 5, 3, 4, 5, 2), strict=True))


def arrays(equation: str, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    terms = equation.replace(" ", "").split("->")[0].split(",")
    return [rng.standard_normal([SIZES[c] for c in t]) for t in terms]


EQUATIONS = [
    "ij,jk->ik", "ij,jk", "ij,ij->", "ij->ji", "ij->j", "ij->", "i,j->ij", "i,i", "bij,bjk->bik",
    "bij,bkj->bki", "abij,acj->abci", "aij,ajk,ka->i", "ij,kj->kji", "i j , j -> i",
    "aqi,bki->abqk", "ij,k->k", "abc,cd,db->a",
]  # fmt: skip


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize("known", [True, False])
def test_against_numpy(equation: str, known: bool) -> None:
    xs = arrays(equation)
    with tf.Graph().as_default(), tf.Session() as s:
        ps = [tf.placeholder(tf.float64, x.shape if known else [None] * x.ndim) for x in xs]
        y = tf.einsum(equation, *ps)
        got = s.run(y, dict(zip(ps, xs, strict=True)))
    want = np.einsum(equation, *xs)
    assert np.shape(got) == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [("...ij,...jk->...ik", ((2, 3, 4), (2, 4, 5))), ("...ij,jk->...ik", ((6, 2, 3, 4), (4, 5))),
     ("...ij,...jk->...ik", ((2, 1, 3, 4), (7, 4, 5))), ("...i->...", ((2, 3),)),
     ("i...,i...->...", ((3, 2), (3, 2))), ("b...k,k->b...", ((2, 3, 4, 5), (5,)))],
)  # fmt: skip
def test_axes_that_broadcast(equation: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal(s) for s in shapes]
    got = tf.function(lambda *a: tf.einsum(equation, *a))(*xs)
    np.testing.assert_allclose(got, np.einsum(equation, *xs), rtol=1e-12, atol=1e-12)


def test_gradient() -> None:
    a, b = arrays("bij,bkj->bik")
    with tf.Graph().as_default(), tf.Session() as s:
        p, q = tf.constant(a), tf.constant(b)
        y = tf.einsum("bij,bkj->bik", p, q)
        da, db = s.run(tf.gradients(tf.reduce_sum(y * y), [p, q]))
    g = 2 * np.einsum("bij,bkj->bik", a, b)
    np.testing.assert_allclose(da, np.einsum("bik,bkj->bij", g, b), rtol=1e-12)
    np.testing.assert_allclose(db, np.einsum("bik,bij->bkj", g, a), rtol=1e-12)


@pytest.mark.parametrize(
    ("equation", "message"),
    [("ij->ij", "1 operands, but 2"), ("ij,jk->il", "no operand has the axis l"),
     ("ii,ij->j", "needs its own letter"), ("ij,k1->k", "needs its own letter"),
     ("ijk,jk->i", "does not fit"), ("ij,ij->i", "sizes of the axis")],
)  # fmt: skip
def test_what_it_refuses(equation: str, message: str) -> None:
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        tf.einsum(equation, tf.zeros([2, 3]), tf.zeros([3, 4]))
