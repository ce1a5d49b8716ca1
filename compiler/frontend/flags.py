"""`tf.app.flags`: a program's options, read from its command line when one is first looked at."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any


class Error(Exception):
    """A flag that is defined or given wrongly."""


class DuplicateFlagError(Error):
    """Two flags of one name."""


class IllegalFlagValueError(Error):
    """A value that the flag cannot have."""


class UnrecognizedFlagError(Error):
    """A flag that is not defined."""


class UnparsedFlagAccessError(Error):
    """A flag was looked at before the command line was read."""


@dataclass
class Flag:
    """A flag: how its text is read, and its value."""

    name: str
    default: Any
    help: str
    parse: Callable[[str], Any]
    boolean: bool = False
    value: Any = None
    present: bool = False

    def set(self, text: str) -> None:
        """Take a value from the command line. IllegalFlagValueError where it is none."""
        try:
            self.value = self.parse(text)
        except ValueError as e:
            raise IllegalFlagValueError(f"flag --{self.name}={text}: {e}") from None
        self.present = True


class FlagValues:
    """The flags of a program; their values are attributes."""

    def __init__(self) -> None:
        self.__dict__["_flags"] = {}
        self.__dict__["_parsed"] = False

    def __call__(self, argv: Sequence[str], known_only: bool = False) -> list[str]:
        """Read a command line; the arguments that are no flags, after the program's name.

        Raises UnrecognizedFlagError for unknown flags unless known_only, which leaves them.
        """
        self.__dict__["_parsed"] = True
        left, at = [*argv[:1]], 1
        while at < len(argv):
            word, at = argv[at], at + 1
            if word == "--":
                return [*left, *argv[at:]]
            if not word.startswith("-") or word == "-":
                left.append(word)
                continue
            flag, text = self._find(word)
            if flag is None:
                if not known_only:
                    raise UnrecognizedFlagError(f"Unknown command line flag {word.lstrip('-')!r}")
                left.append(word)
                continue
            if text is None and at == len(argv):
                raise Error(f"Missing value for flag --{flag.name}")
            if text is None:
                text, at = argv[at], at + 1
            flag.set(text)
        return left

    def _find(self, word: str) -> tuple[Flag | None, str | None]:
        name, equals, text = word.lstrip("-").partition("=")
        flag: Flag | None = self._flags.get(name)
        if flag is not None:
            return flag, text if equals else "true" if flag.boolean else None
        negated = self._flags.get(name[2:]) if name.startswith("no") else None
        if negated is not None and negated.boolean and not equals:
            return negated, "false"
        return None, None

    def define(self, flag: Flag) -> None:
        """Add a flag. DuplicateFlagError where one of this name differs."""
        old = self._flags.get(flag.name)
        if old is not None and (old.default, old.help) != (flag.default, flag.help):
            raise DuplicateFlagError(f"The flag {flag.name!r} is defined twice.")
        flag.value = flag.default
        self._flags.setdefault(flag.name, flag)

    def _read(self) -> None:
        if not self._parsed:
            self(sys.argv, known_only=True)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self._flags:
            raise AttributeError(name)
        self._read()
        return self._flags[name].value

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._flags:
            raise AttributeError(f"no flag {name!r}")
        self._read()
        self._flags[name].value = value

    def __delattr__(self, name: str) -> None:
        if name not in self._flags:
            raise AttributeError(name)
        del self._flags[name]

    def __getitem__(self, name: str) -> Flag:
        found: Flag = self._flags[name]
        return found

    def __contains__(self, name: str) -> bool:
        return name in self._flags

    def __iter__(self) -> Iterator[str]:
        return iter(self._flags)

    def __len__(self) -> int:
        return len(self._flags)

    def flag_values_dict(self) -> dict[str, Any]:
        """Name → value of all flags."""
        self._read()
        return {name: flag.value for name, flag in self._flags.items()}

    def get_help(self) -> str:
        """What the flags are for."""
        lines = []
        for name, flag in sorted(self._flags.items()):
            lines.append(f"  --{'[no]' if flag.boolean else ''}{name}: {flag.help}")
            lines.append(f"    (default: {flag.default!r})")
        return "\n".join(lines)

    def is_parsed(self) -> bool:
        return bool(self._parsed)

    def mark_as_parsed(self) -> None:
        self.__dict__["_parsed"] = True

    def unparse_flags(self) -> None:
        """Forget what the command line said."""
        self.__dict__["_parsed"] = False
        for flag in self._flags.values():
            flag.value, flag.present = flag.default, False


FLAGS = FlagValues()


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "t", "1", "yes", "y"):
        return True
    if text.lower() in ("false", "f", "0", "no", "n"):
        return False
    raise ValueError("not a boolean")


def _integer(text: str) -> int:
    return int(text, 0) if text.lower().startswith(("0x", "0o", "0b")) else int(text)


def _definer(parse: Callable[[str], Any], kind: str, boolean: bool = False) -> Any:
    def define(
        name: str = "", default: Any = None, help: str = "", flag_values: FlagValues = FLAGS,
        short_name: str | None = None, flag_name: str = "", default_value: Any = None,
        docstring: str = "", **ignored: Any,
    ) -> None:  # fmt: skip
        value = default if default is not None else default_value
        if isinstance(value, str) and parse is not str:
            value = parse(value)
        flag = Flag(name or flag_name, value, help or docstring or "", parse, boolean)
        flag_values.define(flag)
        if short_name:
            flag_values._flags[short_name] = flag_values[flag.name]

    define.__name__ = define.__qualname__ = f"DEFINE_{kind}"
    define.__doc__ = f"A flag of type {kind}: (name, default, help)."
    return define


DEFINE_string = _definer(str, "string")
DEFINE_integer = _definer(_integer, "integer")
DEFINE_float = _definer(float, "float")
DEFINE_boolean = DEFINE_bool = _definer(_boolean, "boolean", True)
DEFINE_list = _definer(lambda text: [part.strip() for part in text.split(",")] if text else [],
                       "list")


def DEFINE_enum(
    name: str, default: Any, enum_values: Sequence[str], help: str,
    flag_values: FlagValues = FLAGS, **ignored: Any,
) -> None:  # fmt: skip
    """A flag that has one of some values."""

    def parse(text: str) -> str:
        if text not in enum_values:
            raise ValueError(f"value should be one of <{'|'.join(enum_values)}>")
        return text

    flag_values.define(Flag(name, default, help, parse))


def mark_flag_as_required(flag_name: str, flag_values: FlagValues = FLAGS) -> None:
    """`tf.app.run` refuses to start without the flag."""
    _required.append((flag_name, flag_values))


_required: list[tuple[str, FlagValues]] = []


def run(main: Callable[[list[str]], Any] | None = None, argv: Sequence[str] | None = None) -> None:
    """Read the flags, call main with the other arguments, and exit with what it returns.

    main: by default the function of that name in the program.
    """
    given = list(sys.argv if argv is None else argv)
    program = sys.modules["__main__"]
    try:
        rest = FLAGS(given, known_only=True)
        missing = [n for n, values in _required if values[n].value is None]
        if missing:
            raise IllegalFlagValueError(f"Flag --{missing[0]} must have a value other than None.")
    except Error as e:
        sys.stderr.write(f"FATAL Flags parsing error: {e}\n")
        sys.exit(1)
    if any(word in ("--help", "-h", "--helpfull", "--helpshort") for word in rest[1:]):
        name = os.path.basename(given[0]) if given else ""
        print(f"{program.__doc__ or ''}\nflags of {name}:\n\n{FLAGS.get_help()}")
        sys.exit(0)
    sys.exit((main or program.main)(rest))
