"""Loading and calling compiled functions: native ABI, threads, memory, cache, checkpoints.

Imports nothing of flowc's other packages.
"""

from . import checkpoint, jit
from .arrays import Recycler, empty
from .cache import Cache, default_directory, open_default
from .callables import Entry
from .context import Context, ThreadPool
from .executable import Executable
from .fastcall import FastCall
from .gate import Gate
from .jit import HostCPU, Library, host_cpu
from .manifest import Manifest

__all__ = [
    "Cache",
    "Context",
    "Entry",
    "Executable",
    "FastCall",
    "Gate",
    "HostCPU",
    "Library",
    "Manifest",
    "Recycler",
    "ThreadPool",
    "checkpoint",
    "default_directory",
    "empty",
    "host_cpu",
    "jit",
    "open_default",
]
