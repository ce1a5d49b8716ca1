"""A variable keeps its value from one run to the next. What's the output?

The graph is built once, before the loop: `assign_op` adds 1 to the variable whenever it is run.
"""

from __future__ import annotations

import common

import flowc as tf


def main() -> None:
    settings = common.options(__doc__, steps=(3, "how often the assignment is run"))
    my_var = tf.Variable(0, name="my_var")
    add_op = tf.add(my_var, 1)
    assign_op = tf.assign(my_var, add_op)

    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(settings.steps):
            print(sess.run(assign_op))


if __name__ == "__main__":
    main()
