"""Reading ELF files with every offset checked: what artifacts are patched and loaded by."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from flowc.runtime.errors import DataLossError

MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
RELOCATABLE, EXECUTABLE, SHARED = 1, 2, 3
NOBITS = 8


@dataclass(frozen=True)
class Section:
    """A section: its name, where it lies in the file, and its section type."""

    name: str
    kind: int
    offset: int
    size: int


@dataclass(frozen=True)
class Elf:
    """A little-endian ELF file. machine: as in target triples; kind: one of the constants above."""

    machine: str
    kind: int
    bits: int
    sections: tuple[Section, ...]

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return next((s for s in self.sections if s.name == name), None)


def is_elf(image: bytes) -> bool:
    """Whether the file says that it is ELF, little-endian."""
    return image[:4] == b"\x7fELF" and image[5:6] == b"\x01"


def parse(image: bytes) -> Elf:
    """The file's structure. Raises DataLossError where any part of it lies outside of the file."""
    if not is_elf(image) or image[4] not in (1, 2):
        raise DataLossError("not a little-endian ELF file")
    try:
        return _parse(image, image[4] == 2)
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise DataLossError(f"a broken ELF file: {error}") from None


def _parse(image: bytes, wide: bool) -> Elf:
    kind, machine = struct.unpack_from("<HH", image, 16)
    header = struct.unpack_from("<QQQ" if wide else "<III", image, 24)
    counts = struct.unpack_from("<HHHHHH", image, 52 if wide else 40)
    _, p_size, p_count, s_size, s_count, s_names = counts
    if p_count:
        _need(p_size == (56 if wide else 32), "the size of a program header")
    _need(s_size == (64 if wide else 40), "the size of a section header")
    for i in range(p_count):
        _segment(image, header[1] + i * p_size, wide)
    raw = []
    for i in range(s_count):
        fields = struct.unpack_from(
            "<IIQQQQ" if wide else "<IIIIII", image, header[2] + i * s_size
        )
        name, section_type, _, _, offset, size = fields
        _need(section_type == NOBITS or offset + size <= len(image), f"section {i}")
        raw.append((name, section_type, offset, size))
    _need(s_names < len(raw), "the table of section names")
    at, length = raw[s_names][2:]
    names = image[at : at + length]
    sections = []
    for name, section_type, offset, size in raw:
        end = names.index(b"\0", name)
        sections.append(Section(names[name:end].decode(), section_type, offset, size))
    return Elf(MACHINES.get(machine, f"machine {machine}"), kind, 64 if wide else 32,
               tuple(sections))


def _segment(image: bytes, at: int, wide: bool) -> None:
    if wide:
        _, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", image, at)
    else:
        _, offset, _, _, size = struct.unpack_from("<IIIII", image, at)
    _need(offset + size <= len(image), "a segment")


def _need(ok: bool, what: str) -> None:
    if not ok:
        raise ValueError(f"{what} is out of range")
