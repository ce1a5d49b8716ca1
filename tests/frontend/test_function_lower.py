"""Lowering, texts, analyses and export of functions; the command line on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowc
from flowc.compiler import stored
from flowc.compiler.cli import main
from flowc.compiler.options import Options

Out = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """These tests are of compiled code."""


def layer(x: Any, w: Any) -> Any:
    return flowc.tanh(x @ w)


X, W = np.ones((2, 3), np.float32), np.full((3, 4), 0.1, np.float32)
SPECS = (flowc.TensorSpec(("B", 3), flowc.float32), flowc.TensorSpec((3, "N"), "float32"))


def test_lowering_runs_and_compiles_nothing() -> None:
    before = stored.compiles
    lowered = flowc.function(layer).lower(X, W)
    assert stored.compiles == before
    text = lowered.as_text()
    assert "@layer" in text
    assert "tanh" in text
    assert "test_function_lower.py" in text


def test_specs_name_sizes() -> None:
    lowered = flowc.function(layer).lower(*SPECS)
    f = lowered.function
    assert [str(p.type) for p in f.params] == ["f32[B,3]", "f32[3,N]"]
    assert str(f.results[0].type) == "f32[B,N]"
    compiled = lowered.compile()
    np.testing.assert_allclose(compiled(X, W), np.tanh(X.astype(np.float64) @ W), rtol=1e-6)
    np.testing.assert_allclose(compiled(X[:1], W[:, :2]), np.tanh(X[:1] @ W[:, :2]), rtol=1e-6)


def test_equal_names_are_equal_sizes() -> None:
    f = flowc.function(lambda x, y: flowc.concat([x, y], 0))
    compiled = f.lower(flowc.TensorSpec(["n"]), flowc.TensorSpec(["2*n"])).compile()
    assert compiled(np.zeros(2, np.float32), np.ones(4, np.float32)).shape == (6,)
    with pytest.raises(flowc.errors.InvalidArgumentError, match=r"compiled for \[n\], \[2\*n\]"):
        compiled(np.zeros(2, np.float32), np.ones(3, np.float32))


def test_a_compiled_function_is_for_its_signature() -> None:
    compiled = flowc.function(layer).lower(*SPECS).compile()
    with pytest.raises(flowc.errors.InvalidArgumentError, match=r"argument x is float64\[2,3\]"):
        compiled(X.astype(np.float64), W)
    with pytest.raises(flowc.errors.InvalidArgumentError, match="B,3"):
        compiled(np.ones((2, 4), np.float32), np.ones((4, 4), np.float32))
    with pytest.raises(flowc.errors.InvalidArgumentError, match="other arguments"):
        compiled([X], W)
    scaled = flowc.function(lambda x, s: x * s).lower(X, flowc.TensorSpec((), "float32")).compile()
    assert scaled(X, 2.5)[0, 0] == 2.5
    out = np.empty_like(X)
    assert scaled(X, 3.0, out=out) is out
    assert out[0, 0] == 3


def test_texts_of_every_stage() -> None:
    lowered = flowc.function(layer).lower(X, W)
    compiled = lowered.compile(Options.read(opt_level=0))
    assert compiled.as_text("function") == lowered.as_text("function")
    assert "layer" in compiled.as_text("plan")
    assert "define i32 @layer(" in compiled.as_text("llvm")
    assert "layer:" in compiled.as_text("asm")
    assert "define" in lowered.as_text("llvm")
    for thing in (lowered, compiled):
        with pytest.raises(ValueError, match="no stage 'hlo'"):
            thing.as_text("hlo")


def test_analyses() -> None:
    compiled = flowc.function(lambda x: x * 2 + 1).lower(flowc.TensorSpec(("n",))).compile()
    cost = compiled.cost_analysis({"n": 100})
    assert cost.kernels == 1
    assert cost.host_calls == 0
    assert 100 <= cost.flops <= 200
    assert cost.bytes == 2 * 400
    memory = compiled.memory_analysis({"n": 100})
    assert memory.arguments == 400
    assert memory.outputs == 400
    with pytest.raises(flowc.errors.InvalidArgumentError, match=r"no size is called m; .*'n'"):
        compiled.cost_analysis({"m": 1})


def test_an_exported_function_is_loaded_again(tmp_path: Path) -> None:
    compiled = flowc.function(layer).lower(*SPECS).compile()
    library, header = compiled.export(tmp_path / "layer.so")
    assert "int32_t layer(" in Path(header).read_text()
    loaded = flowc.load(library)
    assert loaded.input_names == ("x", "w")
    assert loaded.output_names == ("result",)
    np.testing.assert_array_equal(loaded(x=X, w=W), compiled(X, W))


def test_exported_trees_and_gradients(tmp_path: Path) -> None:
    def loss(params: Any, x: Any) -> Any:
        return flowc.reduce_sum((x @ params["w"] + params["b"]) ** 2)

    params = {"w": np.float64([[1, 2]]).T, "b": np.float64([0.5])}
    x = np.float64([[1, 1], [2, 0]])
    f = flowc.value_and_grad(loss)
    compiled = f.lower(params, x).compile()
    library, _ = compiled.export(tmp_path / "step.so")
    loaded = flowc.load(library)
    assert loaded.input_names == ("params_b", "params_w", "x")
    assert loaded.output_names == ("result_0", "result_1_b", "result_1_w")
    value, gb, gw = loaded(params["b"], params["w"], x)
    want, g = f(params, x)
    assert value == want
    np.testing.assert_array_equal(gb, g["b"])
    np.testing.assert_array_equal(gw, g["w"])


def test_unused_arguments_stay_parameters(tmp_path: Path) -> None:
    f = flowc.function(lambda a, b, c: b + 1)
    got = f(np.ones(3), np.zeros(2), np.ones((4, 4), np.int8))
    assert got.tolist() == [1, 1]
    library, _ = f.lower(X, W, X).compile().export(tmp_path / "unused.so")
    assert flowc.load(library).input_names == ("a", "b", "c")


# ---- The command line.

MODEL = """
import flowc

@flowc.function
def layer(x, w):
    return flowc.tanh(x @ w)

def plain(x):
    return x
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(MODEL)
    return tmp_path


def test_compile_a_function_of_a_file(program: Path) -> None:
    args = ["--input", "x:f32[B,3]", "--input", "w:f32[3,4]"]
    assert main(["compile", "net.py:layer", *args, "-o", "net.so"]) == 0
    loaded = flowc.load(program / "net.so")
    assert loaded.input_names == ("x", "w")
    for n in (1, 5):
        x = np.ones((n, 3), np.float32)
        np.testing.assert_allclose(loaded(x, W), np.tanh(x @ W), rtol=1e-6)


def test_inputs_go_by_their_names(program: Path) -> None:
    args = ["--input", "w:f32[3,4]", "--input", "x:f32[B,3]"]
    assert main(["compile", "net.py:layer", *args, "-o", "net.so"]) == 0
    assert flowc.load(program / "net.so").input_names == ("x", "w")


def test_run_a_function_of_a_file(program: Path, capsys: Out) -> None:
    args = ["--input", "x:f32[B,3]", "--input", "w:f32[3,4]", "--dim", "B=2"]
    assert main(["run", "net.py:layer", *args, "--arg", "x=ones", "--arg", "w=ones"]) == 0
    assert "0.995" in capsys.readouterr().out


def test_what_a_file_does_not_offer(program: Path, capsys: Out) -> None:
    assert main(["compile", "net.py:plain", "-o", "net.so"]) != 0
    assert "function, neither" in capsys.readouterr().err.replace(": neither", ", neither")
    assert main(["compile", "net.py:nothing", "-o", "net.so"]) != 0
    assert "it has layer" in capsys.readouterr().err
    assert main(["compile", "net.py:layer", "-o", "net.so"]) != 0
    assert "--input name:f32[B,784]" in capsys.readouterr().err
