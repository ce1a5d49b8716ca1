"""Ctrl-C during a native run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import json, signal, sys, threading, time
import numpy as np
from flowc.runtime import Context, Executable, FastCall, ThreadPool, jit
{setup}
manifest = json.load(open(sys.argv[2]))
run = Executable(manifest, jit.load(open(sys.argv[1], "rb").read()))
v = np.zeros(4, np.float32)
fast = FastCall(run, [v], Context(ThreadPool(2)), release_gil={gil})
{body}
"""

CATCH = """
for _ in range(2):
    print("ready", flush=True)
    try:
        {call}
    except KeyboardInterrupt as error:
        print("interrupted", error, flush=True)
"""


def start(tmp_path: Path, source: tuple[bytes, dict[str, Any]], text: str) -> subprocess.Popen[str]:
    (tmp_path / "f.o").write_bytes(source[0])
    (tmp_path / "f.json").write_text(json.dumps(source[1]))
    command = [sys.executable, "-c", text, str(tmp_path / "f.o"), str(tmp_path / "f.json")]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
    watch = threading.Timer(180, process.kill)  # a loop that cannot be stopped fails, not hangs
    watch.daemon = True
    watch.start()
    return process


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def interrupt(process: subprocess.Popen[str]) -> None:
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)


Program = Callable[[str], tuple[bytes, dict[str, Any]]]


@pytest.mark.parametrize("call", ["run.call([], [v])", "fast()"])
@pytest.mark.parametrize("gil", [True, False])
def test_keyboard_interrupt(tmp_path: Path, program: Program, call: str, gil: bool) -> None:
    text = SCRIPT.format(setup="", gil=gil, body=CATCH.format(call=call))
    with start(tmp_path, program("endless"), text) as process:
        for _ in range(2):
            assert line(process) == "ready"
            interrupt(process)
            assert line(process).startswith("interrupted")
        assert process.wait(10) == 0


@pytest.mark.parametrize("call", ["run.call([], [v])", "fast()"])
def test_the_error_names_the_variables(tmp_path: Path, program: Program, call: str) -> None:
    text = SCRIPT.format(setup="", gil=True, body=CATCH.format(call=call))
    with start(tmp_path, program("endless"), text) as process:
        assert line(process) == "ready"
        interrupt(process)
        assert "partly updated: v" in line(process)
        process.kill()


def test_a_program_that_handles_sigint_itself_is_not_cut_short(
    tmp_path: Path, program: Program
) -> None:
    setup = "signal.signal(signal.SIGINT, lambda *_: print('seen', flush=True))"
    body = """
print("ready", flush=True)
threading.Timer(1.0, fast.ctx.cancel).start()
try:
    run.call([], [v], ctx=fast.ctx)
except Exception as error:
    print(type(error).__name__, flush=True)
"""
    with start(
        tmp_path, program("endless"), SCRIPT.format(setup=setup, gil=True, body=body)
    ) as process:
        assert line(process) == "ready"
        interrupt(process)
        assert {line(process), line(process)} == {"seen", "CancelledError"}
        assert process.wait(10) == 0


def test_runs_of_other_threads_go_on(tmp_path: Path, program: Program) -> None:
    body = """
def work():
    try:
        run.call([], [v], ctx=fast.ctx)
    except Exception as error:
        print(type(error).__name__, flush=True)
thread = threading.Thread(target=work)
thread.start()
try:
    print("ready", flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    print("main", thread.is_alive(), flush=True)
fast.ctx.cancel()
thread.join()
"""
    with start(
        tmp_path, program("endless"), SCRIPT.format(setup="", gil=True, body=body)
    ) as process:
        assert line(process) == "ready"
        interrupt(process)
        assert line(process) == "main True"
        assert line(process) == "CancelledError"
        assert process.wait(10) == 0


def test_an_idle_interrupt_delays_only_one_call(tmp_path: Path, program: Program) -> None:
    body = """
one = np.asarray(1, np.float32)
try:
    print("ready", flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    print(fast.native(one) is None, fast(one), fast.native(one), v[0], flush=True)
"""
    with start(
        tmp_path, program("counter"), SCRIPT.format(setup="", gil=True, body=body)
    ) as process:
        assert line(process) == "ready"
        interrupt(process)
        assert line(process) == "True [] [] 2.0"
        assert process.wait(10) == 0


def test_uncaught(tmp_path: Path, program: Program) -> None:
    body = 'print("ready", flush=True); fast()'
    with start(
        tmp_path, program("endless"), SCRIPT.format(setup="", gil=True, body=body)
    ) as process:
        assert line(process) == "ready"
        interrupt(process)
        assert process.wait(10) == -signal.SIGINT
        assert process.stderr is not None
        assert "KeyboardInterrupt" in process.stderr.read()


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX signals")
