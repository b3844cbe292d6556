"""How many fields a protocol buffer has, before it is parsed."""

from __future__ import annotations

# By wire type, how long values are; None: they say it themselves.
_LENGTHS = {0: None, 1: 8, 2: None, 5: 4}


def has_more_fields(message: bytes, most: int) -> bool:
    """Whether there are more than so many fields at the top of a message.

    Looks at no more than that. Parsing makes an object of each, and no other thread
    runs meanwhile. What is no message has no more.

    Source: https://protobuf.dev/programming-guides/encoding/

    Args:
      message: Bytes.
      most: At least 0.
    """
    place = 0
    for _ in range(most):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind not in _LENGTHS:
            return False
        value = _LENGTHS[kind]
        if value is None:
            value, place = _varint(message, place)
        place += value if kind else 0
        if place >= len(message):
            return False
    return place < len(message)


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """The number that begins there, and the place behind it."""
    value = 0
    # The parser refuses longer ones.
    for shift, byte in enumerate(message[place : place + 10]):
        value |= (byte & 0x7F) << 7 * shift
        place += 1
        if byte < 0x80:
            break
    return value, place
