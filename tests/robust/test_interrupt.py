"""Ctrl-C while a graph runs: KeyboardInterrupt; the process and the session go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

LOOP = """
import numpy as np
import flowc as tf
x = tf.placeholder(tf.float32, [None], name="x")
go_on = lambda i, v: i >= 0
body = lambda i, v: (i * 0, {body})
rounds, endless = tf.while_loop(go_on, body, [tf.constant(0), x])
counter = tf.Variable(0, name="counter")
step = counter.assign_add(rounds + 1)
config = tf.ConfigProto(intra_op_parallelism_threads={threads})
with tf.Session(config=config) as sess:
    sess.run(counter.initializer)
    one = np.ones({size}, np.float32)
    print("warm", sess.run(x + 1.0, {{x: one}})[0], flush=True)
    for _ in range(3):
        print("ready", flush=True)
        try:
            sess.run([{fetch}], {{x: one}})
        except KeyboardInterrupt:
            print("interrupted", sess.run(x + 2.0, {{x: one}})[0], sess.run(counter), flush=True)
print("end", flush=True)
"""


@pytest.mark.parametrize(("fetch", "threads", "size", "body"), [
    ("endless", 1, 3, "tf.tanh(v)"),
    ("step", 1, 3, "v + 1.0"),
    ("endless", 2, 300_000, "tf.tanh(v) * 0.5"),
])
def test_an_endless_loop(fetch: str, threads: int, size: int, body: str) -> None:
    text = LOOP.format(fetch=fetch, threads=threads, size=size, body=body)
    process = subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "FLOWC_CACHE": "0"},
    )
    watch = threading.Timer(180, process.kill)  # a loop that cannot be stopped fails, not hangs
    watch.start()
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "warm 2.0\n"
        for n in range(3):
            assert process.stdout.readline() == "ready\n"
            time.sleep(3.0 if n == 0 else 0.4)  # the first call compiles before it runs
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted 3.0 0\n"
        assert process.stdout.read() == "end\n"
        assert process.wait(60) == 0
    finally:
        watch.cancel()
        process.kill()
        process.communicate()
