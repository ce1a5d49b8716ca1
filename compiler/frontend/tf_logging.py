"""`tf.logging`: messages to standard error, "INFO:tensorflow:text"."""

from __future__ import annotations

import logging
import sys
from typing import Any

DEBUG, INFO, WARN, ERROR, FATAL = 10, 20, 30, 40, 50
_NAMES = {DEBUG: "DEBUG", INFO: "INFO", WARN: "WARNING", ERROR: "ERROR", FATAL: "FATAL"}


class _Handler(logging.Handler):
    """Writes to what standard error is now."""

    def emit(self, record: logging.LogRecord) -> None:
        level = _NAMES.get(record.levelno, record.levelname)
        sys.stderr.write(f"{level}:{record.name}:{record.getMessage()}\n")


def _make() -> logging.Logger:
    logger = logging.getLogger("tensorflow")
    if not logger.handlers:
        logger.addHandler(_Handler())
        logger.setLevel(WARN)
        logger.propagate = False
    return logger


_logger = _make()
_counts: dict[Any, int] = {}


def set_verbosity(v: Any) -> None:
    """The least level that is written: DEBUG, INFO, WARN, ERROR or FATAL."""
    _logger.setLevel(v)


def get_verbosity() -> int:
    return _logger.getEffectiveLevel()


def log(level: int, msg: Any, *args: Any, **kwargs: Any) -> None:
    _logger.log(level, msg, *args, **kwargs)


def debug(msg: Any, *args: Any, **kwargs: Any) -> None:
    _logger.debug(msg, *args, **kwargs)


def info(msg: Any, *args: Any, **kwargs: Any) -> None:
    _logger.info(msg, *args, **kwargs)


def warning(msg: Any, *args: Any, **kwargs: Any) -> None:
    _logger.warning(msg, *args, **kwargs)


warn = warning


def error(msg: Any, *args: Any, **kwargs: Any) -> None:
    _logger.error(msg, *args, **kwargs)


def fatal(msg: Any, *args: Any, **kwargs: Any) -> None:
    _logger.critical(msg, *args, **kwargs)


def vlog(level: int, msg: Any, *args: Any, **kwargs: Any) -> None:
    _logger.log(level, msg, *args, **kwargs)


def _next(where: Any) -> int:
    _counts[where] = _counts.get(where, -1) + 1
    return _counts[where]


def log_first_n(level: int, msg: Any, n: int, *args: Any) -> None:
    """Write the message the first n times that this is called with it."""
    if _next(("first", level, msg)) < n:
        log(level, msg, *args)


def log_every_n(level: int, msg: Any, n: int, *args: Any) -> None:
    """Write the message the first of each n times that this is called with it."""
    if _next(("every", level, msg)) % n == 0:
        log(level, msg, *args)


def flush() -> None:
    sys.stderr.flush()
