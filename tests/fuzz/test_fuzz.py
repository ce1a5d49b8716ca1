"""Random programs, compiled, against the interpreter; and the programs that once failed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from flowc.ir import ops
from flowc.ir.parser import parse_function
from flowc.ir.printer import print_function
from fuzz.campaign import Campaign
from fuzz.execute import check, native
from fuzz.generate import program
from fuzz.program import numbers
from fuzz.report import missing, table

assert ops
FOUND = {p.stem: p for p in sorted((Path(__file__).parent / "found").glob("*.flow"))}
SEEDS = 240
EMULATED = 12  # seeds for the emulated GPU
LEAST = 6  # of each pair of op and element type
GROUPS = {  # of each kind of group and schedule
    "schedule elementwise": 20, "schedule elementwise across rows": 10, "schedule rows": 20,
    "schedule columns": 20,
    "schedule columns in pieces": 20, "schedule reduction": 20, "schedule reduction in pieces": 20,
    "schedule imperative": 20, "schedule contract": 20, "schedule contract, packed": 20,
    "schedule contract, dot products": 20, "schedule contract, k by": 10,
    "schedule contract, streamed": 1, "schedule contract, swept": 1,
    "schedule attention": 10,
    "group of maps": 20, "epilogue of contract": 20, "epilogue of columns": 20,
    "inlined producer": 20, "view": 20, "state in place": 20, "state copied": 20, "loop": 20,
    "schedule packs ahead of a loop": 10, "row of a stack in place": 10, "carried in place": 10,
    "carried copied": 5,
    "branch": 20, "variants": 20, "schedule side by side": 20,
}

@pytest.mark.parametrize("name", FOUND)
def test_what_once_failed(name: str) -> None:
    text = FOUND[name].read_text(encoding="utf-8")
    f = parse_function(text)
    sizes = re.findall(r"'(\w+)': (\d+)", text.split("; sizes:")[1].splitlines()[0])
    env = {k: int(n) for k, n in sizes}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        shapes = [p.ty.substitute(dict(env)).shape for p in f.params]
        special = "special values" in text
        args = [numbers(p.ty.dtype, special)(rng, tuple(map(int, s)))  # type: ignore[arg-type]
                for p, s in zip(f.params, shapes, strict=True)]
        assert check(f, args, env, native()) == ""
        assert check(f, args, env, native(optimize=False)) == ""


def test_a_seed_always_gives_the_same_program() -> None:
    for seed in (3, 44):
        one, two = program(seed), program(seed)
        assert print_function(one.function) == print_function(two.function)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(one.args, two.args, strict=True))


def test_random_programs(capsys: pytest.CaptureFixture[str]) -> None:
    campaign = Campaign(quick=True)
    for _ in campaign.run(range(SEEDS)):
        pass
    assert not campaign.failures, "\n".join(campaign.failures)
    with capsys.disabled():
        print(f"\n{table(campaign.coverage)}")
    few = {k: campaign.coverage[k] for k, n in GROUPS.items() if campaign.coverage[k] < n}
    assert not few, "too few groups and schedules"
    assert not missing(campaign.coverage, LEAST), "too few of an op and element type"


def test_random_programs_on_the_emulated_gpu() -> None:
    campaign = Campaign({"cuda-emu": native("cuda-emu")}, only_extra=True)
    for _ in campaign.run(range(SEEDS, SEEDS + EMULATED)):
        pass
    assert not campaign.failures, "\n".join(campaign.failures)
