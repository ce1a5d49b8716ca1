"""`tf.test`: test cases with sessions and comparisons of arrays."""

# ruff: noqa: PT009, PT027 (these are unittest's)

from __future__ import annotations

import tempfile
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .graph import Graph, get_default_graph, reset_default_graph
from .session import Session
from .tensor import Operation, Tensor

main = unittest.main


def get_temp_dir() -> str:
    """A new folder for a test's files."""
    return tempfile.mkdtemp()


def is_gpu_available(cuda_only: bool = False, min_cuda_compute_capability: Any = None) -> bool:
    return False


def is_built_with_cuda() -> bool:
    return False


def gpu_device_name() -> str:
    return ""


class TestCase(unittest.TestCase):
    """Each test begins with an empty default graph."""

    def setUp(self) -> None:
        reset_default_graph()
        super().setUp()

    def get_temp_dir(self) -> str:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name

    @contextmanager
    def session(
        self, graph: Graph | None = None, config: Any = None, use_gpu: bool = False,
        force_gpu: bool = False,
    ) -> Iterator[Session]:  # fmt: skip
        """A session of the graph, by default the default graph, that is the default session."""
        with Session(graph=graph or get_default_graph(), config=config) as sess:
            yield sess

    cached_session = session

    def test_session(self, *args: Any, **kwargs: Any) -> Any:
        """`session`; no test, though its name looks like one."""
        if self.id().endswith(".test_session"):
            self.skipTest("Not a test.")
        return self.session(*args, **kwargs)

    def evaluate(self, tensors: Any) -> Any:
        """The values in the default session, or in a new one."""
        with Session() as sess:
            return sess.run(tensors)

    def _array(self, value: Any) -> Any:
        if isinstance(value, (Tensor, Operation)):
            return value.eval()  # type: ignore[union-attr]
        return np.asarray(value)

    def assertAllEqual(self, a: Any, b: Any, msg: Any = None) -> None:
        """Equal shapes and elements."""
        np.testing.assert_array_equal(self._array(a), self._array(b), err_msg=msg or "")

    def assertAllClose(
        self, a: Any, b: Any, rtol: float = 1e-6, atol: float = 1e-6, msg: Any = None
    ) -> None:
        """Equal shapes, and |a − b| ≤ atol + rtol · |b|; of dicts and lists, all in them."""
        if isinstance(a, dict):
            self.assertEqual(set(a), set(b), msg)
            for key in a:
                self.assertAllClose(a[key], b[key], rtol, atol, msg)
        elif isinstance(a, (list, tuple)) and any(np.shape(v) != np.shape(a[0]) for v in a):
            for x, y in zip(a, b, strict=True):
                self.assertAllClose(x, y, rtol, atol, msg)
        else:
            np.testing.assert_allclose(self._array(a), self._array(b), rtol, atol,
                                       err_msg=msg or "")

    def assertAllCloseAccordingToType(self, a: Any, b: Any, **given: Any) -> None:
        """`assertAllClose` with room for half precision."""
        narrow = np.dtype(np.float16) in (np.asarray(a).dtype, np.asarray(b).dtype)
        self.assertAllClose(a, b, *((1e-3, 1e-3) if narrow else (1e-6, 1e-6)))

    def assertNear(self, f1: float, f2: float, err: float, msg: Any = None) -> None:
        self.assertTrue(f1 == f2 or abs(f1 - f2) <= err, msg or f"{f1} != {f2} ± {err}")

    def assertArrayNear(self, farray1: Any, farray2: Any, err: float, msg: Any = None) -> None:
        for a, b in zip(farray1, farray2, strict=True):
            self.assertNear(float(a), float(b), err, msg)

    def assertShapeEqual(self, np_array: Any, tf_tensor: Tensor, msg: Any = None) -> None:
        self.assertEqual(list(np_array.shape), tf_tensor.shape.as_list(), msg)

    @contextmanager
    def assertRaisesOpError(self, expected: str) -> Iterator[None]:
        """An error whose message matches."""
        with self.assertRaisesRegex(Exception, expected):
            yield
