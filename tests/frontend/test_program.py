"""What programs use around the graph: flags, logging, files, compat, test cases."""

from __future__ import annotations

import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowc as tf
import flowc.compat.v1 as tf1
from flowc.flags import FlagValues

flags = tf.app.flags


def defined() -> FlagValues:
    values = FlagValues()
    flags.DEFINE_integer("steps", 10, "steps", values)
    flags.DEFINE_float("rate", 0.5, "rate", flag_values=values)
    flags.DEFINE_string("name", None, "name", values)
    flags.DEFINE_boolean("fast", False, "fast", values, short_name="f")
    flags.DEFINE_enum("mode", "train", ["train", "eval"], "mode", values)
    flags.DEFINE_list("sizes", "1,2", "sizes", values)
    return values


def test_flags() -> None:
    values = defined()
    line = ["prog", "--steps=3", "-rate", "0.25", "input", "--fast", "--mode=eval", "--name",
            "--odd", "--sizes=a, b", "--", "--steps=9"]  # fmt: skip
    assert values(line) == ["prog", "input", "--steps=9"]
    assert values.flag_values_dict() == {
        "steps": 3, "rate": 0.25, "name": "--odd", "fast": True, "f": True, "mode": "eval",
        "sizes": ["a", "b"],
    }  # fmt: skip
    values(["prog", "--nofast", "--steps", "0x10"])
    assert (values.fast, values.steps) == (False, 16)
    values.steps = 5
    assert values["steps"].value == values.steps == 5
    values.unparse_flags()
    assert (values.steps, values.sizes) == (10, ["1", "2"])


def test_flags_that_are_wrong() -> None:
    values = defined()
    with pytest.raises(flags.IllegalFlagValueError, match="--steps=many"):
        values(["prog", "--steps=many"])
    with pytest.raises(flags.IllegalFlagValueError, match="one of <train|eval>"):
        values(["prog", "--mode=test"])
    with pytest.raises(flags.UnrecognizedFlagError, match="other"):
        values(["prog", "--other"])
    assert values(["prog", "--other=1"], known_only=True) == ["prog", "--other=1"]
    with pytest.raises(flags.Error, match="Missing value"):
        values(["prog", "--steps"])
    with pytest.raises(flags.DuplicateFlagError):
        flags.DEFINE_integer("steps", 11, "steps", values)
    with pytest.raises(AttributeError):
        _ = values.other
    with pytest.raises(AttributeError):
        values.other = 1


PROGRAM = '''"""What it does."""
import flowc as tf
tf.app.flags.DEFINE_integer("n", 1, "how often")
FLAGS = tf.app.flags.FLAGS
def main(argv):
    print(FLAGS.n, argv[1:])
    return 3
if __name__ == "__main__":
    tf.app.run()
'''


def test_app_run(tmp_path: Path) -> None:
    script = tmp_path / "prog.py"
    script.write_text(PROGRAM)

    def run(*words: str) -> tuple[int, str, str]:
        done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True,
                              check=False)  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    assert run("--n=4", "x")[:2] == (3, "4 ['x']\n")
    code, out, _ = run("--help")
    assert code == 0
    assert "What it does." in out
    assert "--n: how often" in out
    code, _, error = run("--n=x")
    assert code == 1
    assert "flag --n=x" in error


def test_logging(capsys: pytest.CaptureFixture[str]) -> None:
    before = tf.logging.get_verbosity()
    assert before == tf.logging.WARN
    try:
        tf.logging.info("hidden")
        tf.logging.set_verbosity(tf.logging.INFO)
        tf.logging.info("step %d", 3)
        tf.logging.warning("careful")
        for _ in range(4):
            tf.logging.log_first_n(tf.logging.INFO, "first", 2)
            tf.logging.log_every_n(tf.logging.ERROR, "every", 3)
    finally:
        tf.logging.set_verbosity(before)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["INFO:tensorflow:step 3", "WARNING:tensorflow:careful"]
    assert lines.count("INFO:tensorflow:first") == lines.count("ERROR:tensorflow:every") == 2


def test_gfile(tmp_path: Path) -> None:
    g = tf.gfile
    folder, path = tmp_path / "a" / "b", tmp_path / "a" / "b" / "x.txt"
    g.MakeDirs(folder)
    g.MakeDirs(folder)
    with g.GFile(path, "w") as f:
        f.write("one\ntwo\n")
    with g.Open(path) as f:
        assert f.readline() == "one\n"
        assert list(f) == ["two\n"]
        assert f.size() == 8
    assert g.FastGFile(path, "rb").read() == b"one\ntwo\n"
    assert g.Exists(path)
    assert g.IsDirectory(folder)
    g.Copy(path, folder / "y.txt")
    g.Rename(folder / "y.txt", folder / "z.txt")
    assert g.ListDirectory(folder) == ["x.txt", "z.txt"]
    assert g.Glob(f"{folder}/z*") == [str(folder / "z.txt")]
    with pytest.raises(tf.errors.AlreadyExistsError):
        g.Copy(path, folder / "z.txt")
    with pytest.raises(tf.errors.AlreadyExistsError):
        g.MkDir(folder)
    g.Remove(path)
    with pytest.raises(tf.errors.NotFoundError, match="x.txt"):
        g.GFile(path).read()
    with pytest.raises(tf.errors.NotFoundError):
        g.Remove(path)
    with pytest.raises(ValueError, match="Mode"):
        g.GFile(path, "q")
    assert [files for _, _, files in g.Walk(folder)] == [["z.txt"]]
    g.DeleteRecursively(tmp_path / "a")
    assert not g.Exists(folder)


def test_compat() -> None:
    assert tf1 is tf
    assert tf.compat.v1 is tf
    assert tf.compat.as_bytes("é") == b"\xc3\xa9"
    assert tf.compat.as_str(b"\xc3\xa9") == tf.compat.as_text("é") == "é"
    assert tf.compat.as_str_any(3) == "3"
    with pytest.raises(TypeError, match="Expected binary or unicode"):
        tf.compat.as_bytes(3)


def test_names_of_contrib() -> None:
    assert tf.contrib.rnn.BasicLSTMCell is tf.nn.rnn_cell.BasicLSTMCell
    assert tf.contrib.framework.get_or_create_global_step().op.name == "global_step"


def test_every_public_name_is_there() -> None:
    for module in (tf, tf.nn, tf.train, tf.layers, tf.losses, tf.metrics, tf.contrib.layers):
        for name in module.__all__:
            assert getattr(module, name) is not None or name == "newaxis"


def make_case() -> type[unittest.TestCase]:
    class Case(tf.test.TestCase):  # type: ignore[misc]
        def test_passes(self) -> None:
            x: Any = tf.constant([1.0, 2.0])
            with self.session() as sess:
                self.assertAllClose(sess.run(x * 2.0), [2.0, 4.0])
                self.assertAllEqual(x, np.array([1, 2]))
                self.assertShapeEqual(np.zeros(2), x)
            with self.test_session():
                self.assertAllClose({"a": [1.0]}, {"a": [1.0 + 1e-8]})

        def test_fails(self) -> None:
            with self.cached_session():
                self.assertAllClose(tf.constant([1.0]), [1.1])

    return Case


def test_test_cases() -> None:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(make_case()).run(result)
    assert result.testsRun == 3
    assert not result.errors
    assert [t.id().split(".")[-1] for t, _ in result.skipped] == ["test_session"]
    assert [t.id().split(".")[-1] for t, _ in result.failures] == ["test_fails"]
