"""The C header of an artifact."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from flowc.runtime.abi import header_text

C_TYPES = {
    "f32": "float", "f64": "double", "bool": "uint8_t (0 or 1)", "c64": "float[2]",
    "c128": "double[2]", "f16": "uint16_t (the bits of an IEEE half)",
    "bf16": "uint16_t (the upper bits of a float)", "i4": "int8_t (-8..7)",
    "u4": "uint8_t (0..15)", "f8e4m3fn": "uint8_t (bits)", "f8e5m2": "uint8_t (bits)",
}  # fmt: skip
_INTEGER = re.compile(r"([iu])(8|16|32|64)")


def c_type(dtype: str) -> str:
    """The C type of an element."""
    found = _INTEGER.fullmatch(dtype)
    if found:
        return ("u" if found[1] == "u" else "") + f"int{found[2]}_t"
    return C_TYPES[dtype]


def identifier(text: str) -> str:
    """A C identifier like the text."""
    out = re.sub(r"\W", "_", text.removesuffix(":0"), flags=re.ASCII)
    return out if out and not out[0].isdigit() else f"_{out}"


def _comment(text: str) -> str:
    """Text that cannot end the comment that it is put in."""
    return text.replace("*/", "* /").replace("/*", "/ *").replace("\n", " ")


def _numbered(name: str, kind: str, specs: Sequence[Mapping[str, Any]], first: int) -> list[str]:
    """`#define`s of buffer numbers, each with what the buffer holds."""
    out: list[str] = []
    taken: set[str] = set()
    for n, spec in enumerate(specs):
        label = identifier(str(spec["name"]))
        while label in taken:
            label += f"_{n}"
        taken.add(label)
        shape = ", ".join(map(str, spec.get("shape", ())))
        text = f"{c_type(spec['dtype'])} [{shape}]"
        if kind == "STATE":
            text += {"r": ", read", "w": ", written", "rw": ", updated"}[spec.get("mode", "r")]
        text += f": {spec['name']}"
        if spec.get("loc"):
            text += f" ({spec['loc']})"
        out.append(f"#define {name}_{kind}_{label} {first + n}  /* {_comment(text)} */")
    return out


def header(manifest: Mapping[str, Any], pool: bool, init: bool) -> str:
    """The header of one function: buffers, sizes, prototypes, how to call it. C99 and C++.

    manifest: an artifact's. pool: whether the library holds the thread pool. init: whether it holds
    initial values of state.
    """
    name = str(manifest["name"])
    inputs, state, outputs = manifest["inputs"], manifest["state"], manifest["outputs"]
    n_in, n_state, n_out = len(inputs), len(state), len(outputs)
    dims = [f"#define {name}_DIM_{identifier(d)} {n}" for n, d in enumerate(manifest["dims"])]
    order = "/* in the order of their axes; see the buffers above */"
    lines = [
        *_numbered(name, "IN", inputs, 0),
        *_numbered(name, "STATE", state, n_in),
        *_numbered(name, "OUT", outputs, n_in + n_state),
        f"#define {name}_BUFFERS {n_in + n_state + n_out}",
        "",
        "/* Sizes in `dims`. */",
        *dims,
        f"#define {name}_DIMS {len(manifest['dims'])}",
        f"#define {name}_INPUT_RANKS {sum(len(t['shape']) for t in inputs)}  {order}",
        f"#define {name}_OUTPUT_RANKS {sum(t['rank'] for t in outputs)}",
    ]
    text = _PROTOTYPES.replace("NAME", name)
    if init:
        text += _INIT.replace("NAME", name)
    abi = header_text()
    if not pool:
        abi = _without_pool(abi)
    about = (f"{name}: compiled by flowc {manifest.get('flowc', '')} for {manifest['target']}"
             f" ({manifest['cpu'] or 'generic'}). ABI {manifest['abi']}.")
    return "\n".join([
        f"/* {_comment(about)}", *_ABOUT.replace("NAME", name).splitlines(), "*/", "", abi,
        f"#ifndef {name.upper()}_FLOWC_H", f"#define {name.upper()}_FLOWC_H", "",
        "#ifdef __cplusplus", 'extern "C" {', "#endif", "", "/* Buffers. */", *lines, text,
        "#ifdef __cplusplus", "}", "#endif", "", "#endif", "",
    ])


def _without_pool(abi: str) -> str:
    start, end = abi.index("/* A thread pool"), abi.index("#ifdef __cplusplus\n}")
    return abi[:start] + abi[end:]


_ABOUT = """
   int64_t dims[NAME_DIMS + 1];
   int64_t shapes[] = { every size of every input, in order };
   if (NAME_bind(shapes, dims)) ...                  // the inputs do not fit each other
   void *workspace = aligned_alloc(FLOWC_ALIGNMENT, NAME_workspace_size(dims, 1));
   void *buffers[NAME_BUFFERS] = { inputs, state, outputs };
   int32_t error = NAME(NULL, buffers, dims, workspace);

   Buffers are dense and row-major (the last axis is contiguous), aligned to their elements at
   least, to FLOWC_ALIGNMENT at best; outputs overlap nothing, state is updated in place. With a
   context (one for each run at a time) a run can use threads, be cancelled, and tell where it
   failed. The function calls no allocator, keeps no state of its own and starts no thread."""

_PROTOTYPES = """
/* Run once. Returns 0 or FLOWC_E_*; outputs and updated state are undefined after an error.
   ctx may be NULL: one thread, no cancelling, no details of errors. The workspace is aligned to
   FLOWC_ALIGNMENT and holds NAME_workspace_size(dims, workers) bytes, workers as in ctx (or 1). */
int32_t NAME(flowc_context *ctx, void *const *buffers, int64_t *dims, void *workspace);

/* Compute `dims` from the sizes of all inputs. Returns 0, or the number (from 1) of the size that
   contradicts the others or the compiled program. */
int32_t NAME_bind(const int64_t *shapes, int64_t *dims);

/* Bytes of workspace; a multiple of FLOWC_ALIGNMENT. */
int64_t NAME_workspace_size(const int64_t *dims, int32_t workers);

/* The sizes of all outputs, in order. */
void NAME_output_shapes(const int64_t *dims, int64_t *shapes);
"""

_INIT = """
/* Fill the state buffers (only those: state[0] is the first) with their initial values. */
void NAME_init_state(void *const *state);
"""
