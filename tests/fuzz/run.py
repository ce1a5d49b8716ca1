"""Fuzz the compiler: python tests/fuzz/run.py --seeds 1000 [--first 0] [--target cuda-emu]

A failing program is made small and kept under tests/fuzz/failures/; `--file` runs one again.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import numpy as np
from rich.progress import track

sys.path.insert(0, str(Path(__file__).parents[1]))

from flowc.ir import ops
from flowc.ir.parser import parse_function
from fuzz.campaign import Campaign
from fuzz.execute import check, native
from fuzz.report import missing, table

assert ops


def main(argv: list[str] | None = None) -> int:
    """0 where all seeds pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--target", help="a further target: cuda-emu")
    parser.add_argument("--level", type=int, help="a further LLVM optimization level")
    parser.add_argument("--file", type=Path, help="run a kept failure again")
    parser.add_argument("--least", type=int, default=0,
                        help="fail where a pair of op and element type was compiled less often")
    args = parser.parse_args(argv)
    if args.file:
        return again(args.file, args.target)
    extra = {}
    if args.target:
        extra[args.target] = native(args.target)
    if args.level:
        extra[f"level {args.level}"] = native(opt_level=args.level)
    campaign = Campaign(extra)
    seeds = range(args.first, args.first + args.seeds)
    for _ in track(campaign.run(seeds), total=len(seeds), description="seeds"):
        if campaign.failures:
            print(campaign.failures.pop(), flush=True)
            campaign.coverage["failed"] += 1
    print(table(campaign.coverage))
    print(f"{campaign.resized} ran on other sizes, {campaign.skipped} are not defined for them")
    rare = missing(campaign.coverage, args.least)
    print("".join(f"fewer than {args.least}: {pair}\n" for pair in rare), end="")
    return int(campaign.coverage["failed"] > 0 or bool(rare))


def again(path: Path, target: str | None) -> int:
    """Run a kept failure."""
    text = path.read_text(encoding="utf-8")
    f = parse_function(text)
    stored = np.load(path.with_suffix(".npz"))
    sizes = re.search(r"; sizes: (.*)", text)
    env = {k: int(n) for k, n in re.findall(r"'(\w+)': (\d+)", sizes[1] if sizes else "")}
    shapes = [tuple(map(int, p.ty.substitute(dict(env)).shape)) for p in f.params]  # type: ignore[arg-type]
    arrays = [np.frombuffer(stored[k].tobytes(), p.ty.dtype.np).reshape(shape)
              for k, p, shape in zip(stored, f.params, shapes, strict=True)]
    wrong = check(f, arrays, env, native(target or "host"))
    print(wrong or "passes")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
