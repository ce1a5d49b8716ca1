"""The command line: every command, its options, and help that teaches by examples."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from ..options import Options
from ..version import version
from . import bench, compile_command, doctor, inspect_command, opt, run_command, targets, tf1

Command = Callable[[argparse.Namespace], "int | None"]
_NAMES = {"cpu": "--mcpu", "features": "--mattr"}

_ABOUT = """\
flowc compiles dataflow graphs to native code.

  flowc run model.flow --dim B=8              run a program on random inputs
  flowc tf1 train.py                          run a TensorFlow 1 program, unmodified
  flowc compile model.py:predict -o model.so  a library and a C header
  flowc opt model.flow --print-after=all      every step of the compiler as text
  flowc doctor                                what works on this machine

A program is a .flow file (the compiler's text), or FILE.py:NAME. `flowc COMMAND --help` explains.
"""

_INPUT = """\
programs:
  model.flow          the compiler's own text (see docs/ir.md)
  model.py:predict    a flowc.function; its inputs are given by --input name:f32[B,784]
  train.py:session    a tf.Session (or a tf.Graph) in that file, with --fetch and --feed:
                      the variables' values go into the artifact
"""

_COMPILE = _INPUT + """
examples:
  flowc compile mlp.flow -o mlp.so
  flowc compile train.py:sess --fetch prediction:0 --feed x:0 -o model.so
  flowc compile mlp.flow -o mlp.o --target aarch64-linux-gnu --mcpu cortex-a72
  flowc compile mlp.flow -o mlp.h          only the header

what the file name ends in decides: .so .dylib .dll (linked), .a .o (for your linker), .wasm, .s,
.ll, .h. A library needs a C compiler, or `pip install flowc[link]`, which also links for other
systems. Python loads it by flowc.load("mlp.so"); C includes the header, which explains itself.
"""

_OPT = """\
examples:
  flowc opt m.flow                                    the program after the whole pipeline
  flowc opt m.flow --passes=simplify,cse,dce          after these passes
  flowc opt m.flow --passes='simplify{rounds=1}'      options of a pass in braces
  flowc opt m.flow --print-after=fuse --stop-after=fuse
  flowc opt m.flow --dump-dir=steps                   a file for each step
  flowc opt --start-from=steps/09-schedule.flow --run edit a step's text, go on from there
  flowc opt m.flow --rewrite-limit=41 --run           bisect: which rewrite breaks it
"""


def parser() -> argparse.ArgumentParser:
    """The parser of `flowc`; each command sets `run`."""
    top = argparse.ArgumentParser(
        prog="flowc", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"flowc {version()}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Command, about: str, epilog: str = "") -> Any:
        p = commands.add_parser(
            name, help=about, description=about, epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        p.set_defaults(run=run)
        return p

    p = command("compile", compile_command.run, "write a library, object or header", _COMPILE)
    add_program(p)
    p.add_argument("-o", "--output", required=True, help="file to write; see below")
    p.add_argument("--freeze", action=argparse.BooleanOptionalAction, default=True,
                   help="variables that are only read become constants (default)")
    p.add_argument("--name", help="the C name of the function (default: that of the program)")
    p.add_argument("-v", "--verbose", action="store_true",
                   help="say what compiling took: seconds, those of LLVM, kernels, memory")
    add_options(p)
    p = command("run", run_command.run, "run a program once and print its results", _INPUT)
    add_program(p)
    add_arguments(p)
    p.add_argument("--save", metavar="FILE.npz", help="write the results instead")
    p.add_argument("--interpret", action="store_true", help="by the interpreter: the reference")
    add_options(p)
    p = command("tf1", tf1.run, "run a TensorFlow 1 program: `tensorflow` is flowc in it",
                "example:\n  flowc tf1 train.py --steps 1000\n")
    p.add_argument("script", help="the Python program")
    p.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    p = command("opt", opt.run, "run passes and show what they make of a program", _OPT)
    add_opt(p)
    p = command("inspect", inspect_command.run, "what is in a library, program or checkpoint",
                "example:\n  flowc inspect model.so\n  flowc inspect model.flow --kernels\n")
    p.add_argument("file", help=".so .o .flow, or a checkpoint (.safetensors)")
    p.add_argument("--kernels", action="store_true", help="compile a .flow file, list its kernels")
    p.add_argument("--json", action="store_true", help="the manifest as JSON")
    add_options(p)
    p = command("bench", bench.run, "time a compiled program", _INPUT)
    add_program(p)
    add_arguments(p)
    p.add_argument("--seconds", type=float, default=1.0, help="how long to measure (default 1)")
    add_options(p)
    p = command("targets", targets.run, "the targets, CPUs and features that code can be made for",
                "example:\n  flowc targets\n  flowc targets aarch64\n")
    p.add_argument("arch", nargs="?", default="", help="list its CPUs and features")
    p = command("doctor", doctor.run, "check this installation and machine")
    p.add_argument("--quick", action="store_true", help="skip the self-test")
    return top


def add_program(p: argparse.ArgumentParser) -> None:
    """What to compile."""
    p.add_argument("program", help="FILE.flow, or FILE.py:NAME; for run and bench"
                   " a .so or .o too")
    p.add_argument("--function", metavar="NAME", help="which function of a .flow file")
    p.add_argument("--fetch", action="append", default=[], metavar="TENSOR",
                   help="a result: x:0 or an operation's name; may be given again")
    p.add_argument("--feed", action="append", default=[], metavar="TENSOR",
                   help="an input, x:0 or x:0=f32[B,784]; may be given again")
    p.add_argument("--input", action="append", default=[], metavar="NAME:TYPE",
                   help="an input of a flowc.function, x:f32[B,784]; without names in order")


def add_arguments(p: argparse.ArgumentParser) -> None:
    """Values to run on."""
    p.add_argument("--arg", action="append", default=[], metavar="NAME=VALUE",
                   help="an input: @file.npy, random, ones, zeros, or JSON ([1,2,3])")
    p.add_argument("--dim", action="append", default=[], metavar="B=8",
                   help="a size, where inputs are made up (default 4)")
    p.add_argument("--seed", type=int, default=0, help="of random inputs")


def add_opt(p: argparse.ArgumentParser) -> None:
    """The options of `flowc opt`."""
    p.add_argument("file", nargs="?", help="the program, a .flow file")
    p.add_argument("--function", metavar="NAME", help="which function of the file")
    p.add_argument("--passes", help="a comma-separated list, instead of the pipeline")
    p.add_argument("--stop-after", metavar="NAME", help="end after this pass")
    p.add_argument("--start-from", metavar="FILE", help="go on from the text of a step")
    p.add_argument("--list-passes", action="store_true", help="the passes and their options")
    p.add_argument("--rewrites", action="store_true",
                   help="print which rules were applied how often, and where they are written")
    p.add_argument("--run", dest="execute", action="store_true",
                   help="compile the result and run it")
    p.add_argument("-o", "--output", help="write the last text here instead of printing it")
    add_arguments(p)
    add_options(p)


def add_options(p: argparse.ArgumentParser) -> None:
    """A flag for each of `Options`; what is not given comes from the environment."""
    group = p.add_argument_group("options (also as FLOWC_… in the environment)")
    for f in fields(Options):
        flag = _NAMES.get(f.name, "--" + f.name.replace("_", "-"))
        about = f.metadata.get("help", "")
        if str(f.type) == "bool":
            group.add_argument(flag, dest=f"option_{f.name}", default=None, help=about,
                               action=argparse.BooleanOptionalAction)
        else:
            kind: Any = {"int": int, "float": float}.get(str(f.type), str)
            group.add_argument(flag, dest=f"option_{f.name}", default=None, help=about, type=kind,
                               metavar=f.name.upper())
