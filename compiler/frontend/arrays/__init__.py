"""Traced arrays and what `flowc.function` makes of them; the array API's functions are in `api`."""
