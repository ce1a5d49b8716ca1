"""The Fibonacci numbers, twice: with variables that each run moves on, and with `tf.while_loop`.

In the first, Python counts and every number is one call. In the second, the loop is part of the
graph: the n-th number is a single call of one compiled function.
"""

from __future__ import annotations

import common

import flowc as tf


def by_variables(count: int) -> list[int]:
    """The first `count` numbers, one run each."""
    current = tf.Variable(0, dtype=tf.int64, name="current")
    following = tf.Variable(1, dtype=tf.int64, name="following")
    # both new values come from the old ones: neither assignment may run before they are known
    old, total = tf.identity(current), tf.add(current, following)
    new = tf.identity(following)
    with tf.control_dependencies([old, total, new]):
        step = tf.group(tf.assign(current, new), tf.assign(following, total))
    numbers = []
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(count):
            numbers.append(int(sess.run(current)))
            sess.run(step)
    return numbers


def by_loop(positions: list[int]) -> list[int]:
    """The numbers at `positions`, each computed by a loop inside the graph."""
    n = tf.placeholder(tf.int64, shape=[], name="n")
    start = (tf.constant(0, tf.int64), tf.constant(0, tf.int64), tf.constant(1, tf.int64))
    _, number, _ = tf.while_loop(
        lambda i, _a, _b: tf.less(i, n), lambda i, a, b: (i + 1, b, a + b), start
    )
    with tf.Session() as sess:
        return [int(sess.run(number, feed_dict={n: position})) for position in positions]


def main() -> None:
    settings = common.options(__doc__, count=(15, "how many numbers; int64 holds the first 93"))
    if not 0 <= settings.count <= 93:
        raise SystemExit("--count: from 0 to 93")
    numbers = by_variables(settings.count)
    print("variables:", *numbers)
    looped = by_loop(list(range(settings.count)))
    print("while_loop:", *looped)
    if numbers != looped:
        raise SystemExit("the two differ")


if __name__ == "__main__":
    main()
