"""A graph is a blueprint: first it is built, then it is run.

Building computes nothing: `c` is a node that knows its shape and type. `Session.run` compiles the
part of the graph that the call needs into one native function, and calls it.
"""

from __future__ import annotations

import common

import flowc as tf


def main() -> None:
    settings = common.options(__doc__, a=(1, "the first number"), b=(2, "the second number"))
    a = tf.constant(settings.a, name="a")
    b = tf.constant(settings.b, name="b")
    c = tf.add(a, b, name="c")
    print("a node, not a number:", c)

    with tf.Session() as sess:
        print("run:", sess.run(c))
        # only what a fetch needs is computed; any tensor can be fed in place of its own value
        print("run, with 10 fed for a:", sess.run(c, feed_dict={a: 10}))
        print("several fetches, computed together:", sess.run({"sum": c, "parts": [a, b]}))


if __name__ == "__main__":
    main()
