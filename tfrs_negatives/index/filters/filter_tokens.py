"""From the text of a filter to its tokens."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Literal

from tfrs_negatives.index.filters.filter_error import filter_error

#: Words of the language, which are no names of attributes.
KEYWORDS = frozenset({"and", "or", "not", "in", "is", "missing"})

#: The longest filter, in characters. Time to read and compute one grows with it.
MAX_LENGTH = 4_096

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<number>-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
  | (?P<name>[^\W\d]\w*)
  | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
  | (?P<sign>==|!=|<=|>=|[<>()\[\],])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}

Kind = Literal["number", "name", "keyword", "text", "sign", "end"]


@dataclasses.dataclass(frozen=True)
class Token:
    """One token.

    Attributes:
      kind: What it is.
      value: A float of a number, the characters of a text without its quotes, else
        what was written.
      place: Number of its first character.
    """

    kind: Kind
    value: str | float
    place: int


def tokens_of(where: str) -> list[Token]:
    """The tokens of a filter; the last one is of kind "end".

    Raises:
      ValueError: It is no text, too long, or has characters that no token has.
    """
    if not isinstance(where, str):
        raise ValueError(
            "`where` must be a text such as 'price < 50', received "
            f"{type(where).__name__}."
        )
    if len(where) > MAX_LENGTH:
        raise ValueError(
            f"`where` must have at most {MAX_LENGTH:,} characters, received "
            f"{len(where):,}. Ask several times, or keep what it says as an attribute."
        )
    tokens, place = [], 0
    while place < len(where):
        match = _TOKEN.match(where, place)
        if match is None:
            raise filter_error(where, place, _unknown(where[place]))
        if match.lastgroup != "space":
            tokens.append(_token(where, match))
        place = match.end()
    return [*tokens, Token("end", "", len(where))]


def _token(where: str, match: re.Match[str]) -> Token:
    written, place = match.group(), match.start()
    if match.lastgroup == "number":
        value = float(written)
        if not math.isfinite(value):
            raise filter_error(where, place, "expected a number of 64 bits.")
        return Token("number", value, place)
    if match.lastgroup == "text":
        return Token("text", _unescaped(where, written, place), place)
    if match.lastgroup == "name":
        kind: Kind = "keyword" if written in KEYWORDS else "name"
        return Token(kind, written, place)
    return Token("sign", written, place)


def _unescaped(where: str, written: str, place: int) -> str:
    def character(match: re.Match[str]) -> str:
        escape = match.group(1)
        if escape[0] == "u" and len(escape) == 5:
            return chr(int(escape[1:], 16))
        if escape not in _ESCAPED:
            raise filter_error(
                where,
                place + 1 + match.start(),
                'expected an escape such as \\n, \\\\, \\" or \\u00e9. Write \\\\ '
                "for a backslash.",
            )
        return _ESCAPED[escape]

    return _ESCAPE.sub(character, written[1:-1])


def _unknown(character: str) -> str:
    if character in "\"'":
        return f"the text that begins here has no closing {character}."
    if character == "=":
        return "expected ==. Write a == b."
    if character in "&|!":
        return "expected and, or, not. Write them as words."
    return "expected an attribute, a number, a text in quotes, or an operator."
