"""Mutants: small faults in passes and code generators, each with the tests that must notice it."""

from __future__ import annotations

from dataclasses import dataclass

SIMPLIFY = ("tests/passes/test_simplify.py",)
FOLDING = ("tests/passes/test_constants_and_dead_code.py",)
STATE = ("tests/passes/test_functionalize.py",)
FOUND = ("tests/fuzz/test_fuzz.py", "-k", "once_failed")
COUNTS = ("tests/passes/test_kernel_counts.py",)
PARTS = ("tests/passes/test_parts.py",)
WINDOWS = ("tests/passes/test_windows.py",)
MOTIFS = ("tests/fuzz/test_motifs.py",)
REDUCTIONS = ("tests/backends/cpu/test_reductions.py",)
STREAMS = ("tests/backends/llvm/test_streams.py",)
CONTRACTS = ("tests/backends/cpu/test_contract.py",)
PANELS = ("tests/backends/cpu/test_panels.py",)
PRODUCTS = ("tests/backends/cpu/test_products.py",)
ATTENTION = ("tests/passes/test_attention.py", "tests/backends/cpu/test_attention.py")


def records(words: str) -> tuple[str, ...]:
    """Native op records by pytest's -k."""
    return ("tests/backends/cpu/test_records.py", "-k", words)


def loops(words: str) -> tuple[str, ...]:
    return ("tests/frontend/test_loops.py", "-k", words)


def motifs(words: str) -> tuple[str, ...]:
    return (*MOTIFS, "-k", words)


def gradients(words: str) -> tuple[str, ...]:
    return ("tests/ir/ops/test_records.py", "-k", f"test_gradients and ({words})")


@dataclass(frozen=True)
class Mutant:
    """Replace `old` by `new` in a file; `why`: what goes wrong; `tests`: pytest's arguments."""

    file: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...]


P, C, L = "compiler/passes", "backends/cpu", "backends/llvm"
MUTANTS = (
    # ---- simplify, fold, cse, dce, functionalize
    Mutant(f"{P}/patterns/arith.py", "is_zero(v, c, is_float(v))", "is_zero(v, c, False)",
           "x + 0.0 = x loses the sign of −0 + 0", SIMPLIFY),
    Mutant(f"{P}/patterns/arith.py", "inverse = 1.0 / float(c)", "inverse = float(c)",
           "x / 4 becomes x · 4", SIMPLIFY),
    Mutant(f"{P}/patterns/casts.py", 'and (wide.kind == "i" or narrow.kind == "u")', "",
           "i8 → u8 → i32 loses the sign of negative numbers", SIMPLIFY),
    Mutant(f"{P}/patterns/products.py", "if left != sorted(left) or not ordered:",
           "if not ordered:", "a reduction forgets that the axes it keeps were exchanged",
           (*FOUND[:1], "-k", "once_failed and transposed")),
    Mutant(f"{P}/patterns/products.py", "swapped = (*range(n), *range(n + m, n + m + len(fv)), "
           "*range(n, n + m))", "swapped = tuple(range(n + m + len(fv)))",
           "a product's factors change places without a transposition", SIMPLIFY),
    Mutant(f"{P}/fold.py", "or (size > self.limit and size > given)", "or size < self.limit",
           "nothing small is folded", FOLDING),
    Mutant(f"{P}/cse.py", '"add", "mul", "max"', '"add", "sub", "mul", "max"',
           "x − y and y − x are merged", FOLDING),
    Mutant(f"{P}/rewrite.py", "and not has_effects(i.op):", ":",
           "effects are removed as dead", FOLDING),
    Mutant(f"{P}/dce.py", "or info.updated_by >= 0 or gives", "or gives",
           "an updated variable is pruned", ("tests/passes/test_prune.py",)),
    Mutant(f"{P}/functionalize.py", "self.now[op.var] = operands[0]", "pass",
           "reads after a write see the old value", STATE),
    # ---- fusion
    Mutant(f"{P}/fuse/group.py", 'if g.kind in ("contract", "columns"):\n            same = '
           "s.out.shape == g.first.out.shape and all(is_identity(e, s.axes) for e in local)",
           'if g.kind in ("contract", "columns"):\n            same = '
           "s.out.shape == g.first.out.shape", "an epilogue reads what is not computed yet",
           (*FOUND[:1], "-k", "once_failed and row")),
    Mutant(f"{P}/fuse/inline.py",
           "    value = _guard(value, pred)\n", "",
           "an inlined formula reads outside of its buffer",
           (*FOUND[:1], "-k", "once_failed and padded")),
    Mutant(f"{P}/fuse/merge.py",
           "if pred is not None or not all(map(same_index, idx[:rank], s.axes[:rank])):",
           "if pred is not None:", "a stage reads another row than the one that is computed",
           (*FOUND[:1], "-k", "once_failed and row")),
    Mutant(f"{P}/fuse/group.py",
           "or isinstance(s, Proc)  # it writes all of its results, read or not", "",
           "an unread result of a sort has no memory", FOUND),
    Mutant(f"{P}/fuse/kernels.py", "passed | set(kept)", "set(kept)",
           "what a part makes for another is not stored", COUNTS),
    Mutant(f"{P}/order.py", "else old not in part.inputs", "else True",
           "a part overwrites what another one reads", PARTS),
    Mutant(f"{P}/patterns/windows.py", "dims.add(lo, dims.mul(start, -s))", "lo",
           "a convolution that is cut begins where it did", WINDOWS),
    Mutant(f"{P}/patterns/windows.py", "dims.add(a, more), dims.add(z, rest)", "more, rest",
           "a padding takes the place of a convolution's own", WINDOWS),
    Mutant("backends/cpu/schedule/parts.py", "chunk - ex.index(starts[first])", "chunk",
           "the chunks of a part are counted from the first part's", PARTS),
    Mutant("ir/ops/radix.py", "for k in reversed(range(keys)):", "for k in range(keys):",
           "the first key of a sort counts least", records("sort")),
    # ---- the plan
    Mutant(f"{P}/order.py", "or not _here(e, s)):", "):",
           "a variable is overwritten before other elements of it are read", FOUND),
    Mutant(f"{P}/order.py", "        if reached & others:\n            return False\n",
           "        if reached & others:\n            return True\n",
           "a variable is overwritten before others read it", FOUND),
    Mutant(f"{P}/arena.py", "(last[:i] >= first[i])", "(last[:i] > first[i])",
           "a kernel writes over what it reads", FOUND),
    Mutant(f"{P}/arena.py", "if inside[0] != inside[1]:", "if False:",
           "what a loop reads is overwritten in its first round", FOUND),
    Mutant(f"{P}/order.py", "if r != writer and (until", "if r < 0 and (until",
           "a carried value is overwritten before the round has read it", loops("two_values")),
    Mutant(f"{P}/fuse/inline.py", "out in self.copied and self._root(src) in self.changed",
           "False", "carried values that change places become one", loops("two_values")),
    Mutant(f"{P}/carry.py", "and not pointwise(maker.kernel, b, src)", "and False",
           "a kernel writes over other elements of the carried value that it reads",
           loops("read_elsewhere")),
    Mutant(f"{P}/hoist.py", "if self.root(g) not in self.changing}", "if True}",
           "a weight that changes from round to round is packed once", loops("weight_that")),
    Mutant(f"{P}/hoist.py", 'not any(e.op == "check" for e in used) and', "",
           "a loop of no rounds reports an error", loops("check_is_not")),
    Mutant("ir/ops/elements.py", "and _holds(v, i.operands[0]):", ":",
           "a counter that wraps is taken for the row", loops("narrower")),
    Mutant("ir/ops/loop_sums.py", "return b.dot(_merged(b, x), _merged(b, y), contract",
           "return b.dot(_merged(b, y), _merged(b, x), contract",
           "a weight's gradient is transposed", loops("second_derivative")),
    Mutant("ir/ops/elements.py", "or users[p] != [i]:", "or False:",
           "rows that a loop reads back are not there", loops("its_loop_reads")),
    Mutant("ir/ops/counting.py", "return None if op.fed else", "return",
           "a fed number of rounds is taken for what it replaces", loops("fed")),
    Mutant("compiler/passes/patterns/products.py", "part[axis] = free.pop(0)",
           "part[axis] = free.pop()", "the columns of a product are cut as its rows", SIMPLIFY),
    # ---- schedules
    Mutant(f"{C}/schedule/tiles.py", "{e: t[dv, du] for", "{e: t[du, dv] for",
           "a tile is read the other way round", ("tests/backends/test_tiles.py",)),
    Mutant(f"{C}/schedule/accumulate.py", "    if rest != 0:\n        lane = ex.var(\"l\", rest)",
           "    if rest == -1:\n        lane = ex.var(\"l\", rest)",
           "the elements after the last whole vector are not reduced", records("reduce and sum")),
    Mutant(f"{C}/schedule/accumulate.py", 'of.min if op == "max" else of.max',
           'of.max if op == "max" else of.min', "max starts from the greatest value",
           records("reduce and max")),
    Mutant(f"{C}/schedule/accumulate.py", '"prod": 1,', '"prod": 0,', "products start from 0",
           records("reduce and prod")),
    Mutant(f"{C}/schedule/accumulate.py", "dt.is_float and dt.bits < 32:\n        return f32",
           "dt.is_float and dt.bits < 0:\n        return f32",
           "narrow floats are summed in their own type", records("threads")),
    Mutant(f"{C}/schedule/maps.py",
           "left = ex.imin(ex.index(size), ex.index(count) - chunk * size)",
           "left = ex.index(size)", "the last chunk writes past the end", motifs("flat")),
    Mutant(f"{C}/schedule/axes.py", "stmts = tuple(body(chunk * ex.index(per_chunk) + inner))",
           "stmts = tuple(body(chunk + inner))", "chunks overlap", records("threads")),
    Mutant(f"{C}/schedule/columns.py",
           "left = ex.imin(ex.index(rows), ex.index(outer.attr.extent) - piece * rows)",
           "left = ex.index(rows)", "the last piece of a column reads past the end",
           motifs("columns")),
    Mutant(f"{C}/schedule/columns.py", "add([whole * many + rest])", "add([whole + rest])",
           "a sweep's last rows are others", REDUCTIONS),
    Mutant(f"{C}/schedule/accumulate.py", "infinity = (1 << mantissa) - 1", "infinity = 0",
           "a negative NaN loses against every number", REDUCTIONS),
    # ---- attention
    Mutant(f"{P}/fuse/attention.py", "return all(b not in self.outside and self", "return all(self",
           "fetched scores have no memory", ATTENTION[:1]),
    Mutant(f"{C}/attention/match.py", "if pred is not None or c.k != idx[-1:] or any(",
           "if pred is not None or any(", "weights are read in another order than they are made",
           ATTENTION[:1]),
    Mutant(f"{C}/attention/nest.py", "a.scores.value, {a.row: self._row(first, i)}",
           "a.scores.value, {a.row: self._row(ex.index(0), i)}",
           "each block of rows has the mask of the first", ATTENTION[1:]),
    Mutant(f"{C}/schedule/accumulate.py", "0 <= b < int(i32.max)", "0 <= b <= int(i32.max)",
           "a position that is the limit of 32 bits counts as none", REDUCTIONS),
    # ---- contracts
    Mutant(f"{C}/contract/micro.py", "body = fn(ex.imin(row, p.clamp - 1), i)", "body = fn(row, i)",
           "a partial tile reads rows that do not exist", CONTRACTS),
    Mutant(f"{C}/contract/pack.py", "if _partial(extent, nr):", "if False:",
           "packing reads lanes that do not exist", CONTRACTS),
    Mutant(f"{C}/contract/dots.py", "first + j < stop", "first + j <= stop",
           "dot products take one element more", CONTRACTS),
    Mutant(f"{C}/contract/blocked.py",
           "left = ex.imin(K_BLOCK, ex.index(extent) - kb * K_BLOCK)", "left = ex.index(K_BLOCK)",
           "the last block of k runs past the end", CONTRACTS),
    Mutant(f"{C}/contract/blocked.py", "number * v.attr.extent + v,", "number + v,",
           "blocks of two axes of k are counted as if there were one", PANELS),
    Mutant(f"{C}/contract/phases.py", "limit = ex.select(test, c.count(k), ex.index(0))",
           "limit = c.count(k)", "points between strides are summed as if they were read", PANELS),
    Mutant(f"{C}/contract/pack.py", "*k, ex.mod(lane, t.nr))", "*k, ex.mod(lane, t.w))",
           "panels are read by the vector, not by the tile", CONTRACTS),
    Mutant(f"{C}/contract/stream.py", "left = ex.imin(depth, ex.index(extent) - self.kb * depth)",
           "left = ex.index(depth)", "the last streamed block of k runs past the end", PRODUCTS),
    Mutant(f"{C}/contract/sweep.py", "if rest != 0:", "if False:",
           "a sweep leaves out the last steps of k", PRODUCTS),
    Mutant(f"{C}/contract/pairs.py", "half * 2 + n)", "half * 2)",
           "both halves of a pair are the same step", PRODUCTS),
    # ---- LLVM
    Mutant(f"{L}/statements.py", "str(i < rest).lower()", "str(i <= rest).lower()",
           "the mask of a tail has one lane too many", records("neg or exp")),
    Mutant(f"{L}/statements.py", 'f"icmp ult {iota(w, ty=\'i32\')}',
           'f"icmp ule {iota(w, ty=\'i32\')}', "the mask of a symbolic tail has one lane too many",
           records("neg or exp")),
    Mutant(f"{L}/memory.py", "        if p is None:\n            return lanes.mask\n",
           "        if p is None or lanes.mask is not None:\n            return lanes.mask\n",
           "loads in a tail forget their own condition", records("pad")),
    Mutant(f"{L}/statements.py", "left = fn.op(\"i64\", 0, f\"sub {end}, {head.s}\")",
           "left = end", "a streamed result is stored past its end", STREAMS),
    Mutant(f"{L}/lower.py", "if self.memory.streamed:", "if False:",
           "a chunk counts as done before its stores are seen", STREAMS),
    Mutant(f"{L}/memory.py", "return active[0] if len(active) == 1 else None", "return None",
           "LLVM stores too many bytes for one truncated lane", FOUND),
    Mutant(f"{L}/scalar.py", '("s" if is_signed(dt) else "u") + op\n', '"s" + op\n',
           "unsigned numbers are compared as signed", records("compare")),
    Mutant(f"{L}/scalar.py", "inside = self.select(nan, self._literal(x, 0), inside)", "pass",
           "NaN to integer is whatever the processor gives", records("cast")),
    Mutant(f"{L}/scalar.py", "under = self.fn.op(\"i1\", x.n, f\"fcmp olt {inside}, {least.s}\")",
           "under = self.fn.op(\"i1\", x.n, f\"fcmp ogt {inside}, {least.s}\")",
           "float to integer saturates the wrong way", records("cast")),
    Mutant(f"{L}/scalar.py", "fits = self.fn.op(\"i1\", b.n, f\"icmp ult {b}",
           "fits = self.fn.op(\"i1\", b.n, f\"icmp ule {b}", "a shift by the width keeps the value",
           records("shl or shr")),
    Mutant(f"{L}/scalar.py", 'bad = self.inst("or", bad, self.inst("and", low, minus))', "pass",
           "the least integer divided by −1 ends the process", records("div or rem")),
    Mutant(f"{L}/math/exponential.py", "(0.49999994, 0.16666521", "(0.49999994, 0.16656521",
           "exp is off by some ULP", records("exp")),
    Mutant(f"{L}/math/exponential.py", "0.6931471805592082, 7.371002565167799e-13",
           "0.6931471805592082, 7.371002565167799e-12", "exp of f64 loses digits", records("exp")),
    # ---- compile time: what text and cache take for known
    Mutant(f"{L}/cells.py", "held is None or held.version != version or held.lanes != lanes:",
           "held is None or held.lanes != lanes:", "a register's value before a loop or branch"
           " stands for that after it", ("tests/backends/llvm/test_cells.py",)),
    Mutant("compiler/stored.py", '"options": repr(options),', "",
           "code for other options comes from the cache", ("tests/robust/test_stored.py",)),
    # ---- gradients
    Mutant("ir/ops/unary.py", "b.mul(g, b.sub(b.const(1, x), b.mul(y, y)))",
           "b.mul(g, b.add(b.const(1, x), b.mul(y, y)))", "tanh′ is 1 + tanh²", gradients("tanh")),
    Mutant("ir/ops/slicing.py",
           "return (b.pad(g, zero, lo=self.starts, hi=rest, interior=interior),)",
           "return (b.pad(g, zero, lo=rest, hi=self.starts, interior=interior),)",
           "the gradient of a slice lands at the other end", gradients("slice")),
    Mutant("ir/ops/reduce.py", "share = b.div(g, b.reduce(ones, op=\"sum\", axes=self.axes))",
           "share = g", "ties get the gradient of a maximum several times",
           ("tests/ir/ops", "-k", "tie or max")),
    Mutant("ir/ops/loop_grad.py", "reverse=not op.reverse", "reverse=op.reverse",
           "the gradient of a loop runs forward", gradients("scan or while")),
)
