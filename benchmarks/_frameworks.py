"""The frameworks that `compare.py` knows: a few operations, and how each runs a case."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from _cases import Case

RATE, BETA1, BETA2, EPSILON = 0.01, 0.9, 0.999, 1e-7
Step = Callable[[], Any]
Outputs = Callable[[], dict[str, Any]]


class NumPy:
    """NumPy with its BLAS; in float64 it is the reference. It has no gradients."""

    def __init__(self, threads: int, dtype: Any = np.float32) -> None:
        self.dtype = dtype

    matmul = staticmethod(np.matmul)
    tanh = staticmethod(np.tanh)

    def build(self, case: Case) -> tuple[Step, Outputs]:
        if case.train:
            raise NotImplementedError("no gradients")
        data, params = ({n: a.astype(self.dtype) for n, a in d.items()} for d in case.arrays())
        found: list[Any] = [None]

        def step() -> None:
            found[0] = case.model(self, data, params)

        return step, lambda: {"result": found[0]}

    def relu(self, x: Any) -> Any:
        return np.maximum(x, 0)

    def sigmoid(self, x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    def swap(self, x: Any) -> Any:
        return x.swapaxes(-1, -2)

    def softmax(self, x: Any) -> Any:
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def layer_norm(self, x: Any) -> Any:
        d = x - x.mean(-1, keepdims=True)
        return d / np.sqrt((d * d).mean(-1, keepdims=True) + 1e-5)

    def sum_rows(self, x: Any) -> Any:
        return x.sum(0)

    def sum_columns(self, x: Any) -> Any:
        return x.sum(1)

    def conv(self, x: Any, w: Any) -> Any:
        size = w.shape[0]
        before = (size - 1) // 2
        x = np.pad(x, [(0, 0), *[(before, size - 1 - before)] * 2, (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
        return np.tensordot(windows, w, [(4, 5, 3), (0, 1, 2)])


class Flowc(NumPy):
    """flowc by TensorFlow 1's names, called through `Session.make_callable`."""

    def __init__(self, threads: int) -> None:
        self.tf = tf = importlib.import_module("flowc")
        self.threads = threads
        self.matmul, self.tanh, self.relu, self.sigmoid = tf.matmul, tf.tanh, tf.nn.relu, tf.sigmoid
        self.softmax = tf.nn.softmax

    def build(self, case: Case) -> tuple[Step, Outputs]:
        tf, (data, params) = self.tf, case.arrays()
        with tf.Graph().as_default() as graph:
            x = {n: tf.placeholder(tf.float32, a.shape) for n, a in data.items()}
            p = {n: tf.Variable(a) for n, a in params.items()}
            out = case.model(self, x, p)
            if case.train == "sgd":
                out = tf.train.GradientDescentOptimizer(RATE).minimize(out)
            elif case.train:
                out = tf.train.AdamOptimizer(RATE, BETA1, BETA2, EPSILON).minimize(out)
            config = tf.ConfigProto(intra_op_parallelism_threads=self.threads)
            session = tf.Session(graph=graph, config=config)
            session.run(tf.global_variables_initializer())
        run, values = session.make_callable(out, list(x.values())), list(data.values())
        found: list[Any] = [None]

        def step() -> None:
            found[0] = run(*values)

        return step, lambda: session.run(p) if case.train else {"result": found[0]}

    def swap(self, x: Any) -> Any:
        return self.tf.matrix_transpose(x)

    def layer_norm(self, x: Any) -> Any:
        mean, variance = self.tf.nn.moments(x, [-1], keep_dims=True)
        return self.tf.nn.batch_normalization(x, mean, variance, None, None, 1e-5)

    def sum_rows(self, x: Any) -> Any:
        return self.tf.reduce_sum(x, 0)

    def sum_columns(self, x: Any) -> Any:
        return self.tf.reduce_sum(x, 1)

    def conv(self, x: Any, w: Any) -> Any:
        return self.tf.nn.conv2d(x, w, [1, 1, 1, 1], "SAME")

    def cross_entropy(self, logits: Any, labels: Any) -> Any:
        tf = self.tf
        rows = tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        return tf.reduce_mean(rows)


class Torch(NumPy):
    """PyTorch, eager."""

    compiled = False

    def __init__(self, threads: int) -> None:
        self.torch = t = importlib.import_module("torch")
        t.set_num_threads(threads)
        self.matmul, self.tanh, self.relu, self.sigmoid = t.matmul, t.tanh, t.relu, t.sigmoid

    def build(self, case: Case) -> tuple[Step, Outputs]:
        t, found = self.torch, [None]
        data, params = ({n: t.from_numpy(a) for n, a in d.items()} for d in case.arrays())
        model = t.compile(case.model) if self.compiled else case.model
        if not case.train:
            def infer() -> None:
                with t.no_grad():
                    found[0] = model(self, data, params)

            return infer, lambda: {"result": found[0].numpy()}  # type: ignore[attr-defined]
        every = [p.requires_grad_() for p in params.values()]
        optimizer = (t.optim.SGD(every, RATE) if case.train == "sgd" else
                     t.optim.Adam(every, RATE, (BETA1, BETA2), EPSILON, fused=True))

        def step() -> None:
            optimizer.zero_grad()
            model(self, data, params).backward()
            optimizer.step()

        return step, lambda: {n: p.detach().numpy() for n, p in params.items()}

    def softmax(self, x: Any) -> Any:
        return self.torch.softmax(x, -1)

    def layer_norm(self, x: Any) -> Any:
        return self.torch.nn.functional.layer_norm(x, x.shape[-1:])

    def conv(self, x: Any, w: Any) -> Any:
        # NHWC in memory, as the others have it
        image, filters = x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1)
        out = self.torch.nn.functional.conv2d(image, filters, padding="same")
        return out.permute(0, 2, 3, 1)

    def cross_entropy(self, logits: Any, labels: Any) -> Any:
        return self.torch.nn.functional.cross_entropy(logits, labels)


class TorchCompiled(Torch):
    """PyTorch through TorchInductor."""

    compiled = True


class Jax(NumPy):
    """JAX, jitted for the CPU."""

    def __init__(self, threads: int) -> None:
        self.jax = importlib.import_module("jax")
        self.np = jnp = importlib.import_module("jax.numpy")
        nn = self.jax.nn
        self.matmul, self.tanh, self.relu, self.sigmoid = jnp.matmul, jnp.tanh, nn.relu, nn.sigmoid
        self.softmax = nn.softmax

    def build(self, case: Case) -> tuple[Step, Outputs]:
        jax, jnp = self.jax, self.np
        data, params = ({n: jnp.asarray(a) for n, a in d.items()} for d in case.arrays())

        def model(p: Any, x: Any) -> Any:
            return case.model(self, x, p)

        zeros = [{n: jnp.zeros_like(a) for n, a in params.items()} for _ in range(2)]
        state: list[Any] = [params, *zeros, jnp.float32(0)]
        if not case.train:
            run = jax.jit(model)

            def infer() -> None:
                state[1] = jax.block_until_ready(run(params, data))

            return infer, lambda: {"result": np.asarray(state[1])}

        def update(p: Any, m: Any, v: Any, t: Any, x: Any) -> Any:
            grads = jax.grad(model)(p, x)
            if case.train == "sgd":
                return {n: p[n] - RATE * grads[n] for n in p}, m, v, t
            t = t + 1
            m = {n: BETA1 * m[n] + (1 - BETA1) * grads[n] for n in p}
            v = {n: BETA2 * v[n] + (1 - BETA2) * grads[n] ** 2 for n in p}
            rate = RATE * jnp.sqrt(1 - BETA2**t) / (1 - BETA1**t)
            return {n: p[n] - rate * m[n] / (jnp.sqrt(v[n]) + EPSILON) for n in p}, m, v, t

        jitted = jax.jit(update, donate_argnums=(1, 2))

        def step() -> None:
            state[:] = jax.block_until_ready(jitted(*state, data))

        return step, lambda: {n: np.asarray(p) for n, p in state[0].items()}

    def layer_norm(self, x: Any) -> Any:
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / self.np.sqrt(variance + 1e-5)

    def conv(self, x: Any, w: Any) -> Any:
        return self.jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def cross_entropy(self, logits: Any, labels: Any) -> Any:
        return -(labels * self.jax.nn.log_softmax(logits)).sum(-1).mean()


FRAMEWORKS = {
    "flowc": Flowc, "numpy": NumPy, "torch": Torch, "torch-compile": TorchCompiled, "jax": Jax,
}
