"""Values for a terminal, to which their control characters would be commands."""

from __future__ import annotations

import unicodedata

# Control characters, halves of characters, separators of lines and paragraphs.
_CONTROL = {"Cc", "Cs", "Zl", "Zp"}
# Overrides and isolates of the direction of writing, under which text reads backwards.
_DIRECTIONS = set(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))


def terminal_text(value: object) -> str:
    """A value as text on one line, its control characters as escapes."""
    text = value
    if isinstance(value, bytes):
        text = value.decode("utf-8", "backslashreplace")
    return "".join(
        one.encode("unicode_escape").decode() if _is_control(one) else one
        for one in str(text)
    )


def _is_control(one: str) -> bool:
    """Whether a character moves the cursor, breaks the line or turns its direction."""
    return unicodedata.category(one) in _CONTROL or one in _DIRECTIONS
