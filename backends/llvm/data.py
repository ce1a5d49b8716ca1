"""Large constants as data: their bytes go straight into the object, never through LLVM.

As text they cost 80 ns a byte (136 MB of weights: 11 s instead of 2); so LLVM sees zeros that it
must not look into, and `fill` puts the bytes into the finished ELF object.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator, Mapping

from flowc.runtime.errors import InternalError

LEAST = 4096  # bytes: smaller ones LLVM may merge with others (AArch64), and they are cheap
SHARED = 1 << 20  # bytes: from here on code that runs in this process uses the array itself
Data = Mapping[str, "bytes | memoryview"]


def is_elf(triple: str) -> bool:
    """Whether objects for this target are ELF files."""
    return not re.search(r"apple|macos|darwin|windows|wasm", triple)


def outside(size: int, triple: str) -> bool:
    """Whether a constant of this size is put in by `fill`."""
    return size >= LEAST and is_elf(triple)


def global_text(name: str, data: bytes, triple: str) -> str:
    """A global with these bytes, aligned for vectors; `name` with its sigil.

    The digest keeps modules apart that differ in their data only: the cache compares texts.
    """
    head = f"{name} = internal"
    if outside(len(data), triple):
        digest = hashlib.sha256(data).hexdigest()
        return (f"{head} externally_initialized constant [{len(data)} x i8] zeroinitializer, "
                f"align 64 ; {digest}")
    text = "\\" + data.hex("\\").upper() if data else ""
    return f'{head} constant [{len(data)} x i8] c"{text}", align 64'


_LARGE = re.compile(
    r"^(@.*? = )internal externally_initialized (constant \[(\d+) x i8\]) zeroinitializer,"
    r" align 64",
    re.MULTILINE,
)


def shared(text: str) -> str:
    """The module with its largest constants (`SHARED`) external: the loader says where they are.

    A copy in the object would double their memory, and could lie too far from the code to reach.
    """
    def one(m: re.Match[str]) -> str:
        return f"{m[1]}external {m[2]}, align 1" if int(m[3]) >= SHARED else m[0]
    return _LARGE.sub(one, text)


def fill(image: bytes, data: Data) -> bytes:
    """The ELF object with the bytes of its large constants. A constant that is gone is left out.

    Raises InternalError where a symbol is not as large as its data.
    """
    if not data:
        return image
    out = bytearray(image)
    for name, offset, size in _symbols(image):
        value = data.get(name)
        if value is None:
            continue
        if size != len(value) or offset + size > len(image):
            raise InternalError(f"constant {name!r} has {size} bytes, not {len(value)}")
        out[offset : offset + size] = value
    return bytes(out)


def _symbols(image: bytes) -> Iterator[tuple[str, int, int]]:
    """(name, offset in the file, size) of the symbols that an ELF object defines in sections."""
    wide = image[4] == 2
    (table,) = struct.unpack_from("<Q" if wide else "<I", image, 0x28 if wide else 0x20)
    size, count = struct.unpack_from("<HH", image, 0x3A if wide else 0x2E)
    layout = "<IIQQQQIIQQ" if wide else "<IIIIIIIIII"
    sections = [struct.unpack_from(layout, image, table + i * size) for i in range(count)]
    for section in sections:
        if section[1] != 2:  # SHT_SYMTAB
            continue
        names = sections[section[6]][4]
        for at in range(section[4], section[4] + section[5], 24 if wide else 16):
            if wide:
                name, _, _, index, value, length = struct.unpack_from("<IBBHQQ", image, at)
            else:
                name, value, length, _, _, index = struct.unpack_from("<IIIBBH", image, at)
            if name and 0 < index < count:
                end = image.index(b"\0", names + name)
                yield image[names + name : end].decode(), sections[index][4] + value, length
