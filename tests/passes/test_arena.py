"""The arena: no two live buffers overlap, and the workspace is near what lives at most."""

from __future__ import annotations

import random

import numpy as np
import pytest

import flowc as tf
from flowc.compiler.passes import arena
from flowc.compiler.passes.arena import Interval, pack


def check(when: list[Interval], sizes: list[int], offsets: list[int], end: int) -> None:
    for i in range(len(sizes)):
        assert offsets[i] >= 0
        assert offsets[i] + sizes[i] <= end
        for j in range(i):
            if when[i].first <= when[j].last and when[j].first <= when[i].last:
                apart = offsets[i] + sizes[i] <= offsets[j] or offsets[j] + sizes[j] <= offsets[i]
                assert apart or not sizes[i] or not sizes[j], (i, j)


@pytest.mark.parametrize("way", [arena._by_time, arena._by_size, pack])
@pytest.mark.parametrize("seed", range(20))
def test_random_lifetimes(way: object, seed: int) -> None:
    r = random.Random(seed)
    n = r.choice([1, 2, 10, 60, 150])
    starts = [r.randrange(n) for _ in range(n)]
    when = [Interval(s, s + r.choice([0, 1, 1, 2, r.randrange(n + 1)])) for s in starts]
    sizes = [r.choice([0, 1, 1, 2, 7, 100, r.randrange(1000)]) for _ in range(n)]
    offsets, end = way(when, sizes)  # type: ignore[operator]
    check(when, sizes, offsets, end)
    times = range(max(r.last for r in when) + 1)
    least = max(sum(n for r, n in zip(when, sizes, strict=True) if r.first <= t <= r.last)
                for t in times)  # fmt: skip
    assert arena.most_alive(when, sizes) == least
    assert least <= end <= (1.1 if way is pack else 2) * least


def test_a_chain_needs_two_and_a_stack_all() -> None:
    chain = [Interval(i, i + 1) for i in range(3000)]
    assert pack(chain, [5] * 3000)[1] == 10
    stack = [Interval(i, 6000 - i) for i in range(3000)]
    assert pack(stack, [5] * 3000)[1] == 15_000
    assert pack(chain, [5] * 3000, reuse=False)[1] == 15_000


def test_nothing_to_place() -> None:
    x = tf.function(lambda a: a + 1).lower(tf.TensorSpec([3], tf.float32)).compile()
    assert x.memory_analysis().workspace == 0


def test_rows_of_a_batch_share_memory() -> None:
    """Sizes that are multiples of the batch use each other's space for every batch size."""
    rng = np.random.default_rng(0)
    w = [rng.standard_normal((300, 500), np.float32), rng.standard_normal((500, 700), np.float32),
         rng.standard_normal((700, 300), np.float32)]

    def layers(x: tf.Tensor) -> tf.Tensor:
        for _ in range(3):
            for v in w:
                x = tf.tanh(tf.matmul(x, v))
        return x

    compiled = tf.function(layers).lower(tf.TensorSpec([None, 300], tf.float32)).compile()
    bytes_of = [compiled.memory_analysis({"x_0": n}).workspace for n in (0, 1000)]
    assert bytes_of[1] - bytes_of[0] <= 1.02 * 4 * 1000 * (500 + 700)
