"""Turns Arrow columns into checked ones: one set of rules for every source."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
_WHOLE = r"\A(?:0|-?[1-9][0-9]*)\z"


@dataclasses.dataclass(frozen=True)
class EncodedText:
    """Strings that are held once each: memory follows the distinct ones.

    Attributes:
      values: [d] distinct strings, an Arrow array.
      codes: [n] int32, which of them each row has.
    """

    values: pa.Array
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: np.ndarray | slice) -> EncodedText:
        return EncodedText(self.values, self.codes[rows])

    def strings(self) -> np.ndarray:
        """[n] objects of `str`; equal ones are one object."""
        return self.values.to_numpy(zero_copy_only=False)[self.codes]

    def bytes(self) -> np.ndarray:
        """[n] objects of `bytes`, in UTF-8."""
        values = self.values.cast(pa.large_binary())
        return values.to_numpy(zero_copy_only=False)[self.codes]


#: A checked column, of numbers or of text.
Column: TypeAlias = np.ndarray | EncodedText


def plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one Arrow array, with a dictionary only around text without nulls.

    Args:
      column: Arrow array, or chunks of one.

    Returns:
      An Arrow array. Text is `large_string` or `large_binary`.
    """
    if isinstance(column, pa.ChunkedArray):
        if _is_text(column.type):
            column = column.cast(large(column.type))  # Offsets that cannot overflow.
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        values = column.dictionary
        if values.null_count or not _is_text(values.type) or len(values) > len(column):
            column = column.dictionary_decode()
    return column.cast(large(column.type)) if _is_text(column.type) else column


def num_nulls(column: pa.Array) -> int:
    """How many values of a plain column are null or NaN."""
    nulls = column.null_count
    if pa.types.is_floating(column.type):
        nulls += pc.sum(pc.is_nan(column)).as_py() or 0
    return nulls


def id_type(kind: pa.DataType) -> str | None:
    """What ids of an Arrow type become: "integers", "strings", or None."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0):
        return "integers"
    return "strings" if _is_text(kind) else None


def ids(column: pa.Array, name: str, source: str) -> Column:
    """A column of ids.

    Args:
      column: Plain Arrow array without nulls.
      name: The column's name, for messages.
      source: Where it came from, for messages.

    Returns:
      int64 array, or `EncodedText`.

    Raises:
      ValueError: Values that are neither whole numbers nor strings.
    """
    kind = id_type(column.type)
    if kind == "strings":
        return text(column, name, source)
    if kind is None:
        raise ValueError(
            f"Ids in column {name!r} of {source} must be whole numbers or strings, "
            f"received {column.type}. Convert the column, or name another one."
        )
    try:
        return column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"Ids in column {name!r} of {source} must fit into int64, received "
            f"{_largest(column)}. Write them as strings."
        ) from error


def text(column: pa.Array, name: str, source: str) -> EncodedText:
    """A plain column of text as `EncodedText`; nulls are "".

    Raises:
      ValueError: Something else than text, or bytes that are not UTF-8.
    """
    codes = None
    if pa.types.is_dictionary(column.type):
        if column.null_count:
            column = column.dictionary_decode()
        else:
            # Values that no row has must not be looked at.
            used = np.zeros(len(column.dictionary), bool)
            used[column.indices.to_numpy()] = True
            codes = (np.cumsum(used) - 1)[column.indices.to_numpy()]
            column = column.dictionary.filter(pa.array(used))
    if not _is_text(column.type):
        raise ValueError(
            f"Column {name!r} of {source} must hold strings, received {column.type}. "
            "Convert the column, or name another one."
        )
    try:
        column = column.cast(pa.large_string())
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"Column {name!r} of {source} must be UTF-8 text where it is bytes, "
            f"received {_first_undecodable(column)}. Decode the column before, or name "
            "another one."
        ) from error
    encoded = column.fill_null("").dictionary_encode()
    places = encoded.indices.to_numpy()
    if codes is not None:
        places = places[codes]
    return EncodedText(encoded.dictionary, places)


def numbers(
    column: pa.Array, name: str, source: str, expected: str | None = None
) -> np.ndarray:
    """A column of finite numbers, float64; text is parsed, and True is 1.

    Args:
      column: Plain Arrow array without nulls.
      name, source: As in `ids`.
      expected: What the message says was expected; None: numbers.

    Raises:
      ValueError: Values that are not numbers.
    """
    kind = column.type
    if is_text(kind):
        values = parsed(column)
    elif pa.types.is_boolean(kind) or is_number(kind):
        values = column.cast(pa.float64(), safe=False)
    else:
        values = None
    expected = expected or f"Column {name!r} of {source} must hold numbers"
    if values is None:
        received = _first_unparsed(column) if is_text(kind) else kind
        raise ValueError(
            f"{expected}, received {received}. Convert the column, or name another one."
        )
    values = values.to_numpy(zero_copy_only=False)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{expected}, received {values[~np.isfinite(values)][0]}. Fill in finite "
            "ones, or drop those rows."
        )
    return values


def parsed(column: pa.Array) -> pa.Array | None:
    """A column of text as Arrow float64; None where a value is no number."""
    texts = pc.utf8_trim_whitespace(as_text(column))
    try:
        return texts.cast(pa.float64())
    except pa.ArrowInvalid:
        pass
    for words, number in ((_TRUE, "1"), (_FALSE, "0")):
        is_word = pc.is_in(texts, pa.array(words, texts.type))
        texts = pc.if_else(is_word, pa.scalar(number, texts.type), texts)
    try:
        return texts.cast(pa.float64())
    except pa.ArrowInvalid:
        return None


def whole_numbers(values: pa.Array) -> np.ndarray | None:
    """Strings as int64 if each is how a whole number is written, else None."""
    if not pc.all(pc.match_substring_regex(values, _WHOLE)).as_py():
        return None
    try:
        return values.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:  # Beyond int64.
        return None


def joined(parts: Sequence[Any]) -> Any:
    """One column of the checked columns of several parts."""
    if not isinstance(parts[0], EncodedText):
        return np.concatenate(parts)
    every = pa.concat_arrays([part.values for part in parts]).dictionary_encode()
    places, codes, start = every.indices.to_numpy(), [], 0
    for part in parts:
        codes.append(places[start : start + len(part.values)][part.codes])
        start += len(part.values)
    return EncodedText(every.dictionary, np.concatenate(codes))


def is_number(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of numbers."""
    return (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of text, in a dictionary or not."""
    return _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind)


def as_text(column: pa.Array) -> pa.Array:
    """A plain column without its dictionary, as text; other bytes by their numbers."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        return column.cast(pa.large_string())
    except pa.ArrowInvalid:
        texts = [
            v and v.decode("utf-8", "backslashreplace") for v in column.to_pylist()
        ]
        return pa.array(texts, pa.large_string())


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return (
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def large(kind: pa.DataType) -> pa.DataType:
    """The type of text with offsets that cannot overflow."""
    types = pa.types
    is_string = (
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
    )
    return pa.large_string() if is_string else pa.large_binary()


def _largest(column: pa.Array) -> Any:
    return max(column.to_pylist(), key=abs)


def _first_unparsed(column: pa.Array) -> str:
    """The first value of a column of text that is no number."""
    texts = as_text(column)
    for value in texts.to_pylist():
        if parsed(pa.array([value], pa.large_string())) is None:
            return repr(value)
    raise AssertionError("All values are numbers.")


def _first_undecodable(column: pa.Array) -> str:
    for value in column.to_pylist():
        try:
            value.decode("utf-8")
        except UnicodeDecodeError:
            return repr(value[:20])
    raise AssertionError("All values are text.")
