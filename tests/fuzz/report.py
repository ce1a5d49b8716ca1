"""The table of what a campaign covered."""

from __future__ import annotations

from flowc.ir.dtypes import ALL
from fuzz.execute import Coverage
from fuzz.generate import pairs


def table(coverage: Coverage) -> str:
    """Counts of op by element type, then of groups and schedules."""
    kinds = [t.name for t in ALL if any(k == t.name for _, k in pairs())]
    names = sorted({name for name, _ in pairs()})
    known = set(pairs())
    width = max(map(len, names))
    lines = [" " * width + "".join(f"{k[:6]:>7}" for k in kinds)]
    for name in names:
        cells = [str(coverage[f"op {name} {k}"]) if (name, k) in known else "." for k in kinds]
        lines.append(f"{name:{width}}" + "".join(f"{c:>7}" for c in cells))
    rest = {k: n for k, n in coverage.items() if not k.startswith("op ")}
    lines += ["", *(f"{k:40}{n:>7}" for k, n in sorted(rest.items()))]
    return "\n".join(lines)


def missing(coverage: Coverage, least: int) -> list[str]:
    """Pairs of op and type that were compiled fewer than so many times."""
    return [f"{name} {kind}: {coverage[f'op {name} {kind}']}" for name, kind in pairs()
            if coverage[f"op {name} {kind}"] < least]
