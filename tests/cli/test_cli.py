"""The command line: what each command prints and writes, and its exit codes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import flowc
from flowc.compiler import linker, loading
from flowc.compiler.cli import main
from flowc.compiler.passes.cse import Cse
from flowc.ir.parser import parse_module
from flowc.runtime import checkpoint, host_cpu

MODEL = """func @main(%x: f32[B,8], %w: f32[8,4] {kind=state, updated_by=1})
    -> (f32[B,4], f32[8,4]) {
  %d: f32[B,4] = dot(%x, %w) {contract=[[1],[0]], batch=[[],[]]}
  %t: f32[B,4] = tanh(%d)
  %u: f32[B,4] = tanh(%d)
  %v: f32[B,4] = add(%t, %u)
  %c: f32[] = constant() {value=f32[] 2.0}
  %cc: f32[8,4] = broadcast(%c) {shape=[8,4], dims=[]}
  %n: f32[8,4] = add(%w, %cc)
  return %v, %n
}
"""
Out = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.flow"
    path.write_text(MODEL)
    return path


def test_help_shows_every_command(capsys: Out) -> None:
    with pytest.raises(SystemExit) as e:
        main(["--help"])
    assert e.value.code == 0
    out = capsys.readouterr().out
    for name in "compile run tf1 opt inspect bench targets doctor".split():
        assert re.search(rf"^    {name} ", out, re.M), name


@pytest.mark.parametrize("argv", [[], ["nothing"], ["compile"], ["opt", "--rewrite-limit=x", "f"]])
def test_usage_errors(argv: list[str], capsys: Out) -> None:
    with pytest.raises(SystemExit) as e:
        main(argv)
    assert e.value.code == 2
    assert "usage: flowc" in capsys.readouterr().err


BAD = {
    "missing file": (["run", "nothing.flow"], "No such file"),
    "bad text": (["run", "bad.flow"], r"bad.flow:2:\d+"),
    "wrong suffix": (["compile", "model.flow", "-o", "model.exe"], "what to write is told by"),
    "wrong target": (["compile", "model.flow", "-o", "m.o", "--target", "pdp11-unix"], "pdp11"),
    "wrong pass": (["opt", "model.flow", "--passes=nothing"], "no pass is named 'nothing'"),
    "wrong stop": (["opt", "model.flow", "--stop-after=nothing"], "no pass 'nothing' is run"),
    "wrong input": (["run", "model.flow", "--arg", "q=ones"], "no input q; there is x"),
    "wrong shape": (["run", "model.flow", "--arg", "x=[[1,2]]"], r"given shape \[1,2\]"),
    "wrong value": (["run", "model.flow", "--arg", "x=many"], "none of @file.npy"),
    "wrong name": (["compile", "model.flow", "-o", "m.o", "--name", "a b"], "no C identifier"),
    "program raises": (["compile", "raises.py:f", "-o", "m.o"], "ZeroDivisionError"),
    "nothing there": (["compile", "empty.py:f", "-o", "m.o"], "nothing that can be compiled"),
    "not ours": (["inspect", "empty.py"], "neither a compiled library"),
}


@pytest.mark.parametrize("key", BAD)
def test_errors_of_the_input(key: str, model: Path, capsys: Out) -> None:
    Path("bad.flow").write_text("func @f() -> () {\n  %x: f32[] = nothing()\n  return\n}\n")
    Path("raises.py").write_text("1 / 0\n")
    Path("empty.py").write_text("x = 1\n")
    argv, message = BAD[key]
    assert main(argv) == 1
    err = capsys.readouterr().err
    assert re.search(message, err), err
    assert re.search(r"^flowc: ", err, re.M)
    assert "internal" not in err
    assert not list(Path().glob("flowc-failure-*"))


def test_our_faults_leave_a_reproducer(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    def broken(self: Cse, unit: object, ctx: object) -> None:
        raise AssertionError("impossible")

    monkeypatch.setattr(Cse, "run", broken)
    assert main(["compile", "model.flow", "-o", "m.o", "--opt-level=1"]) == 70
    err = capsys.readouterr().err
    (path,) = Path().glob("flowc-failure-*.flow")
    assert path.name in err
    text = path.read_text()
    assert "command: flowc compile model.flow -o m.o --opt-level=1" in text
    assert "opt_level=1" in text
    assert "AssertionError: impossible" in text
    assert list(parse_module(text).functions) == ["m"]


def test_run_agrees_with_the_interpreter(model: Path, capsys: Out) -> None:
    np.save("x.npy", np.ones((2, 8), np.float32))
    outs = []
    for more in ([], ["--interpret"]):
        assert main(["run", "model.flow", "--arg", "x=@x.npy", "--save", "out.npz", *more]) == 0
        with np.load("out.npz") as got:
            outs.append({k: got[k] for k in got.files})
    assert sorted(outs[0]) == ["out0", "w"]
    for name in outs[0]:
        np.testing.assert_allclose(outs[0][name], outs[1][name], rtol=1e-6)
    np.testing.assert_array_equal(outs[0]["w"], np.full((8, 4), 2, np.float32))
    capsys.readouterr()


def test_opt_prints_passes_and_says_unchanged(model: Path, capsys: Out) -> None:
    assert main(["opt", "model.flow", "--passes=dce,cse,dce", "--print-after=all"]) == 0
    out = capsys.readouterr().out
    assert out.count("; after dce: unchanged") == 2
    assert out.count("= tanh(") == 1


def test_opt_of_a_pass_with_options(model: Path, capsys: Out) -> None:
    assert main(["opt", "model.flow", "--passes=cse,simplify{rounds=1,marks=false},dce"]) == 0
    assert capsys.readouterr().out.count("= tanh(") == 1
    assert main(["opt", "model.flow", "--passes=cse", "--rewrite-limit=0"]) == 0
    assert capsys.readouterr().out.count("= tanh(") == 2
    assert main(["opt", "model.flow", "--passes=cse,simplify", "--rewrites"]) == 0
    err = capsys.readouterr().err
    assert re.search(r"^ +1 merge$", err, re.M)
    assert main(["opt", "--list-passes"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("pipeline: functionalize")
    assert "rounds=8" in out


def test_a_step_can_be_edited(model: Path, capsys: Out) -> None:
    assert main(["opt", "model.flow", "--dump-dir=steps", "-o", "final.flow"]) == 0
    names = sorted(p.name for p in Path("steps").iterdir())
    assert names[0] == "01-functionalize.flow"
    fused = next(p for p in Path("steps").iterdir() if p.name.endswith("-fuse.flow"))
    text = fused.read_text()
    assert text.startswith("; after fuse\nprogram")
    fused.write_text(text.replace("tanh(", "sigmoid("))
    zero = ["--arg", "x=zeros", "--dim", "B=1"]
    assert main(["opt", "--start-from", str(fused), "--run", *zero]) == 0
    out = capsys.readouterr().out
    assert "[[1. 1. 1. 1.]]" in out  # twice sigmoid(0)
    assert main(["opt", "model.flow", "--stop-after=simplify", "--run", *zero]) == 0
    assert "[[0. 0. 0. 0.]]" in capsys.readouterr().out


def test_compile_and_inspect(model: Path, capsys: Out) -> None:
    kind = "so"
    try:
        linker.find(host_cpu().triple, host_cpu().triple)
    except Exception:
        kind = "o"
    assert main(["compile", "model.flow", "-o", f"libnet.{kind}", "--time-passes"]) == 0
    got = capsys.readouterr()
    assert re.search(r"libnet.h: \d+ bytes", got.out)
    assert "total" in got.err
    assert main(["inspect", f"libnet.{kind}"]) == 0
    out = capsys.readouterr().out
    assert "function net " in out
    assert "hash of the file: correct" in out
    assert "state   w: f32[8,4] (rw)" in out
    assert main(["inspect", f"libnet.{kind}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "net"
    f = loading.load(f"libnet.{kind}")
    assert f(np.zeros((3, 8), np.float32)).shape == (3, 4)
    assert main(["run", f"libnet.{kind}", "--dim", "B=2"]) == 0
    assert "out0: float32[2, 4]" in capsys.readouterr().out
    assert main(["bench", f"libnet.{kind}", "--seconds=0.01"]) == 0
    assert "median" in capsys.readouterr().out


def test_inspect_of_programs_and_checkpoints(model: Path, capsys: Out) -> None:
    assert main(["inspect", "model.flow", "--kernels"]) == 0
    out = capsys.readouterr().out
    assert "function @main(x: f32[B,8], w: f32[8,4])" in out
    assert "2 tanh" in out
    assert "kernels" in out
    checkpoint.save("c.safetensors", {"w": np.zeros((2, 3), np.float32)})
    assert main(["inspect", "c.safetensors"]) == 0
    assert "w: float32[2, 3]" in capsys.readouterr().out


def test_bench_targets_doctor(model: Path, capsys: Out) -> None:
    assert main(["bench", "model.flow", "--seconds=0.01", "--dim=B=8"]) == 0
    assert "kernels" in capsys.readouterr().out
    assert main(["targets"]) == 0
    assert "aarch64-linux-gnu" in capsys.readouterr().out
    assert main(["targets", "aarch64"]) == 0
    assert "cortex-a72" in capsys.readouterr().out
    assert main(["targets", "vax"]) == 1
    capsys.readouterr()
    assert main(["doctor", "--quick"]) == 0
    out = capsys.readouterr().out
    assert "LLVM" in out
    assert "BROKEN" not in out


def test_several_functions_need_a_name(model: Path, capsys: Out) -> None:
    two = "func @a(%x: f32[]) -> (f32[]) { return %x }\nfunc @b() -> () { return }\n"
    Path("two.flow").write_text(two)
    assert main(["run", "two.flow"]) == 1
    assert "@a, @b. Choose by --function" in capsys.readouterr().err
    assert main(["run", "two.flow", "--function", "a", "--arg", "x=3"]) == 0
    assert "3.0" in capsys.readouterr().out


TRAIN = """
import tensorflow as tf
import numpy as np
x = tf.placeholder(tf.float32, [None, 3], name="x")
y = tf.placeholder(tf.float32, [None, 1], name="y")
w = tf.Variable(np.zeros((3, 1), np.float32), name="w")
p = tf.matmul(x, w, name="p")
loss = tf.reduce_mean(tf.square(p - y), name="loss")
train = tf.train.GradientDescentOptimizer(0.1).minimize(loss, name="step")
sess = tf.Session()
sess.run(tf.global_variables_initializer())
data = np.random.RandomState(0).randn(32, 3).astype("f4")
wanted = data @ np.array([[1], [2], [3]], "f4")
for _ in range(60):
    sess.run(train, {x: data, y: wanted})
print("loss", sess.run(loss, {x: data, y: wanted}))
"""


@pytest.fixture
def clean_modules() -> Iterator[None]:
    """Undo what running a program leaves in the interpreter."""
    before, argv, path, finders = dict(sys.modules), sys.argv, sys.path[:], sys.meta_path[:]
    flowc.reset_default_graph()
    yield
    for name in set(sys.modules) - set(before):
        if name.startswith("tensorflow") or name in ("train", "session_file"):
            del sys.modules[name]
    sys.argv, sys.path[:], sys.meta_path[:] = argv, path, finders


def test_tf1_programs_run_as_they_are(
    model: Path, capsys: Out, clean_modules: None
) -> None:
    Path("train.py").write_text(TRAIN)
    assert main(["tf1", "train.py"]) == 0
    assert float(capsys.readouterr().out.split()[-1]) < 1e-4
    Path("fails.py").write_text("import tensorflow as tf\ntf.nothing_like_it\n")
    assert main(["tf1", "fails.py"]) == 1
    assert "AttributeError" in capsys.readouterr().err
    Path("exits.py").write_text("import sys\nsys.exit(int(sys.argv[1]))\n")
    assert main(["tf1", "exits.py", "7"]) == 7


def test_a_session_becomes_artifacts(model: Path, capsys: Out, clean_modules: None) -> None:
    text = TRAIN.replace("import tensorflow as tf", "import flowc as tf")
    Path("session_file.py").write_text(text)
    with pytest.raises(SystemExit):
        main(["compile", "session_file.py:sess"])
    source = ["compile", "session_file.py:sess", "--feed", "x:0"]
    assert main([*source, "--fetch", "p:0", "-o", "predict.o"]) == 0
    f = loading.load("predict.o")
    assert not f.state  # the weights are constants
    np.testing.assert_allclose(f(np.eye(3, dtype=np.float32)), [[1], [2], [3]], atol=1e-2)
    flowc.reset_default_graph()  # a command has a process of its own
    step = [*source, "--feed", "y:0", "--fetch", "loss:0", "--fetch", "step"]
    assert main([*step, "-o", "step.o"]) == 0
    g = loading.load("step.o")
    np.testing.assert_allclose(g.state["w"], [[1], [2], [3]], atol=1e-2)
    before = g.state["w"].copy()
    x = np.ones((4, 3), np.float32)
    loss = float(g(x=x, y=np.zeros((4, 1), np.float32)))
    assert abs(loss - before.sum(dtype=np.float64) ** 2) < 1e-3
    np.testing.assert_allclose(g.state["w"], before - 0.2 * before.sum(), rtol=1e-4)
    flowc.reset_default_graph()
    Path("session_file.py").write_text(text.replace("sess.run(tf.g", "(tf.g").split("data =")[0])
    assert main([*source, "--fetch", "p:0", "-o", "q.o"]) == 1
    assert "variable w" in capsys.readouterr().err
    assert main([*source, "--fetch", "q:0", "-o", "q.o"]) == 1
    assert "q:0" in capsys.readouterr().err


FUNCTION = """
import flowc
import numpy as np
weights = np.arange(8, dtype=np.float32).reshape(4, 2)

@flowc.function
def predict(x, y):
    return flowc.tanh(x @ weights) + y
"""


def test_a_function_becomes_an_artifact(model: Path, capsys: Out, clean_modules: None) -> None:
    Path("session_file.py").write_text(FUNCTION)
    source = ["compile", "session_file.py:predict", "-o", "predict.o"]
    assert main([*source, "--input", "x:f32[B,4]", "--input", "y:f32[B,2]"]) == 0
    f = loading.load("predict.o")
    x, y = np.full((3, 4), 0.1, np.float32), np.ones((3, 2), np.float32)
    want = np.tanh(0.1 * np.array([12, 16])) + np.ones((3, 2))
    np.testing.assert_allclose(f(y=y, x=x), want, rtol=1e-5)
    capsys.readouterr()
    assert main(source) == 1
    assert "are given by --input" in capsys.readouterr().err
    assert main([*source, "--input", "x:f32[B,4]", "--input", "y:i32[3]"]) == 1
    assert "the function raised" in capsys.readouterr().err
    assert main(["compile", "session_file.py", "-o", "predict.o"]) == 1
    assert "needs a name, session_file.py:NAME; it has predict" in capsys.readouterr().err
