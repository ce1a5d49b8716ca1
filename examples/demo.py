"""The main job, end to end: train two classifiers of digits, ship one as a C library, run it.

    python examples/demo.py [--out FOLDER]

Trains softmax regression and a network with hidden layers on real handwritten digits (8 × 8 ones of
scikit-learn; MNIST where FLOWC_DATA names a folder that has it), prints their accuracy on digits
that they have not seen, writes the network as a shared library with a C header, and runs it from a
C program that knows nothing of Python, comparing every prediction.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import common
import numpy as np

import flowc as tf
from flowc.examples.tutorials.mnist import input_data

CLASSES = 10


class Digits:
    """Images [n, pixels] f32 in 0 … 1, labels [n]; shuffled, a part held out."""

    def __init__(self) -> None:
        found = os.environ.get("FLOWC_DATA")
        if found and (Path(found) / "mnist").is_dir():
            sets = input_data.read_data_sets("MNIST_data", one_hot=False)
            self.name = "MNIST"
            self.train = sets.train.images, sets.train.labels
            self.test = sets.test.images, sets.test.labels
            return
        from sklearn.datasets import load_digits
        self.name = "scikit-learn's digits"
        data = load_digits()
        images = (data.images.reshape(len(data.target), -1) / 16).astype(np.float32)
        order = np.random.default_rng(0).permutation(len(images))
        images, labels = images[order], data.target[order]
        self.train = images[360:], labels[360:]
        self.test = images[:360], labels[:360]

    def batch(self, rng: np.random.Generator, size: int) -> tuple[Any, Any]:
        """A random batch, labels one-hot."""
        pick = rng.integers(0, len(self.train[1]), size)
        return self.train[0][pick], one_hot(self.train[1][pick])


def one_hot(labels: Any) -> Any:
    """[n] → f32 [n, CLASSES]."""
    return np.eye(CLASSES, dtype=np.float32)[labels]


def weight(*shape: int) -> Any:
    """A weight matrix with He's initial scale."""
    return tf.Variable(tf.truncated_normal(list(shape), stddev=float(np.sqrt(2 / shape[0]))))


def softmax_model(x: Any, pixels: int) -> Any:
    """Logits of softmax regression."""
    return tf.matmul(x, tf.Variable(tf.zeros([pixels, CLASSES]))) + tf.Variable(tf.zeros([CLASSES]))


def deep_model(x: Any, pixels: int) -> Any:
    """Logits of a network with two hidden layers."""
    for units in (128, 64):
        bias = tf.Variable(tf.zeros([units]))
        x = tf.nn.relu(tf.matmul(x, weight(pixels, units)) + bias)
        pixels = units
    return tf.matmul(x, weight(pixels, CLASSES)) + tf.Variable(tf.zeros([CLASSES]))


def train(name: str, model: Any, optimizer: Any, digits: Digits, steps: int) -> Any:
    """Train a model; returns (session, images, logits, accuracy on held-out digits)."""
    pixels = digits.train[0].shape[1]
    graph = tf.Graph()
    with graph.as_default():
        tf.set_random_seed(1)
        x = tf.placeholder(tf.float32, [None, pixels], name="images")
        y = tf.placeholder(tf.float32, [None, CLASSES], name="labels")
        logits = model(x, pixels)
        loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=logits))
        step = optimizer().minimize(loss)
        right = tf.equal(tf.argmax(logits, 1), tf.argmax(y, 1))
        accuracy = tf.reduce_mean(tf.cast(right, tf.float32))
        sess = tf.Session(graph=graph)
        sess.run(tf.global_variables_initializer())
    rng = np.random.default_rng(0)
    check = {x: digits.test[0], y: one_hot(digits.test[1])}
    bar = common.Steps(steps, name, loss=lambda: sess.run(loss, check))
    for _ in bar:
        images, labels = digits.batch(rng, 100)
        sess.run(step, {x: images, y: labels})
    score = float(sess.run(accuracy, check))
    common.report_step(sess, step, check)
    print(f"{name}: accuracy {score:.4f} on {len(digits.test[1])} unseen digits,"
          f" {bar.seconds:.2f} s")
    return sess, x, logits, score


C_PROGRAM = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "digits.h"

static void *aligned(size_t bytes) {
  return aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
}

int main(int argc, char **argv) {
  int64_t n = atoll(argv[2]), pixels = atoll(argv[3]);
  float *images = aligned(n * pixels * sizeof(float));
  int64_t *classes = aligned(n * sizeof(int64_t));
  FILE *f = fopen(argv[1], "rb");
  if (argc < 4 || !f || fread(images, sizeof(float), n * pixels, f) != (size_t)(n * pixels))
    return 2;
  int64_t shapes[] = {n, pixels}, dims[8];
  if (digits_bind(shapes, dims)) return 3;
  void *workspace = aligned(digits_workspace_size(dims, 1));
  void *buffers[] = {images, classes};
  int32_t code = digits(NULL, buffers, dims, workspace);
  if (code) return 10 + code;
  for (int64_t i = 0; i < n; i++) printf("%lld\n", (long long)classes[i]);
  return 0;
}
"""


def run_from_c(folder: Path, images: Any) -> Any:
    """Build the C program against the library, run it, return the classes that it prints."""
    (folder / "main.c").write_text(C_PROGRAM)
    images.tofile(folder / "images.f32")
    compiler = shutil.which("cc") or shutil.which("clang")
    command = [compiler] if compiler else [sys.executable, "-m", "ziglang", "cc"]
    program = folder / "predict"
    build = [*command, "-O2", "main.c", "digits.so", "-Wl,-rpath,$ORIGIN", "-lm", "-o", "predict"]
    subprocess.run(build, cwd=folder, check=True)
    args = [str(program.resolve()), "images.f32", *map(str, images.shape)]
    out = subprocess.run(args, cwd=folder, check=True, capture_output=True, text=True)
    return np.array(out.stdout.split(), np.int64)


def main() -> None:
    settings = common.options(__doc__, out=("out/demo", "folder for the library and C program"))
    folder = Path(settings.out)
    folder.mkdir(parents=True, exist_ok=True)
    digits = Digits()
    large = digits.name == "MNIST"
    pixels = digits.train[0].shape[1]
    print(f"data: {digits.name}, {len(digits.train[1])} to learn from, {pixels} pixels each")
    started = time.perf_counter()
    train("softmax", softmax_model, lambda: tf.train.GradientDescentOptimizer(0.5), digits, 1000)
    sess, x, logits, _ = train(
        "hidden layers", deep_model, lambda: tf.train.AdamOptimizer(0.002), digits,
        3000 if large else 1500,
    )
    with sess.graph.as_default():
        classes = tf.argmax(logits, 1)
    for path in tf.export(sess, folder / "digits.so", {"classes": classes}, {"images": x}):
        print(f"wrote {path}: {os.path.getsize(path):,} bytes")
    images = np.ascontiguousarray(digits.test[0])
    ours, theirs = sess.run(classes, {x: images}), run_from_c(folder, images)
    same = bool(np.array_equal(ours, theirs))
    print(f"the C program's {len(theirs)} predictions equal Python's: {'yes' if same else 'NO'}")
    print(f"all in {time.perf_counter() - started:.1f} s")
    if not same:
        sys.exit(1)


if __name__ == "__main__":
    main()
