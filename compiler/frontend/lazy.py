"""The compiler's modules, loaded when the first graph is compiled.

A program that builds a graph, prints its help or reads a checkpoint does not wait for code
generators: `import flowc` takes 0.6 of the time it takes with them (benchmarks/import_time.py).
"""

from __future__ import annotations

from flowc.compiler.lazy import LazyModule

__all__ = ["LazyModule", "artifact", "driver", "freezing", "functionalize", "loading"]

artifact = LazyModule("flowc.compiler.artifact")
driver = LazyModule("flowc.compiler.driver")
freezing = LazyModule("flowc.compiler.freezing")
functionalize = LazyModule("flowc.compiler.passes.functionalize")
loading = LazyModule("flowc.compiler.loading")
