"""What a caller gives a live index, checked and made plain.

Values become lists of Python's own, which the log can hold and columns take.
"""

from __future__ import annotations

import collections
import datetime
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tfrs_negatives.index.filters.date_seconds import seconds_of

#: How many items a call may change.
MAX_ITEMS = 100_000

# Products of two such vectors are far from what float32 cannot hold.
_MAX_NORM = 1e15
_MAX_INTEGER, _MAX_EXACT = 2**63, 2**53

ID_KINDS = ("integer", "string")
PAYLOAD_KINDS = ("integer", "float", "string")
ATTRIBUTE_KINDS = ("category", "number", "date", "set")


def plain_list(name: str, values: Any) -> list[Any]:
    """A vector of anything as a list of Python's own values.

    Raises:
      ValueError: It is no vector.
    """
    if hasattr(values, "numpy"):  # A tensor.
        values = values.numpy()
    if isinstance(values, np.ndarray) or hasattr(values, "__array__"):
        values = np.asarray(values)
        if values.ndim != 1:
            raise ValueError(
                f"`{name}` must have one value for each item, received shape "
                f"{values.shape}. Pass a vector or a list."
            )
        if values.dtype.kind == "M":
            values = values.astype("datetime64[us]")
        return values.tolist()
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ValueError(
            f"`{name}` must have one value for each item, received "
            f"{type(values).__name__}. Pass a vector or a list."
        )
    return [v.item() if isinstance(v, np.generic) else v for v in values]


def checked_ids(ids: Any, kind: str | None = None) -> list[Any]:
    """Ids as a list of int or str, all of one kind and none twice.

    Args:
      ids: A vector or list.
      kind: "integer" or "string"; None: either.

    Raises:
      ValueError: Another kind, an id twice, or more than a call may change.
    """
    plain = [_text_of(each) for each in plain_list("ids", ids)]
    if len(plain) > MAX_ITEMS and kind is not None:
        raise ValueError(
            f"A call may change at most {MAX_ITEMS:,} items, received {len(plain):,}. "
            "Split it."
        )
    kind = kind or kind_of_ids(plain)
    check = _CHECKS[kind]
    for each in plain:
        if check(each) is None:
            raise ValueError(
                f"`ids` must all be {kind}s like those of the index, received "
                f"{each!r}. Pass ids of the kind it was created with."
            )
    if len(set(plain)) != len(plain):
        counts = collections.Counter(plain)
        twice = next(each for each in plain if counts[each] > 1)
        raise ValueError(
            f"`ids` must differ from each other, received {twice!r} twice. Keep the "
            "last of them."
        )
    return plain


def checked_exclusions(
    exclusions: Any, num_queries: int, kind: str
) -> list[frozenset[Any]]:
    """Ids to leave out, a set for each query.

    Args:
      exclusions: A list of ids for each query, or a matrix.
      num_queries: How many there are.
      kind: Of the ids: "integer" or "string".

    Raises:
      ValueError: Another number of lists, or ids of another kind.
    """
    if isinstance(exclusions, (str, bytes)) or not hasattr(exclusions, "__len__"):
        raise ValueError(
            "`exclusions` must be a list of ids for each query, received "
            f"{type(exclusions).__name__}."
        )
    if len(exclusions) != num_queries:
        raise ValueError(
            f"`exclusions` must have a list of ids for each query ({num_queries}), "
            f"received {len(exclusions)}."
        )
    check, found = _CHECKS[kind], []
    for ids in exclusions:
        plain = [_text_of(each) for each in plain_list("exclusions", ids)]
        for each in plain:
            if check(each) is None:
                raise ValueError(
                    f"`exclusions` must be {kind}s like the ids of the index, received "
                    f"{each!r}."
                )
        found.append(frozenset(plain))
    return found


def kind_of_ids(ids: list[Any]) -> str:
    """ "integer" or "string", by the first one."""
    kind = _plain_kind(ids[0]) if ids else None
    if kind not in ID_KINDS:
        received = "none" if not ids else repr(ids[0])
        raise ValueError(
            f"`ids` must be integers or strings, received {received}. Create the index "
            "with at least one item."
        )
    return str(kind)


def checked_embeddings(embeddings: Any, num_ids: int, width: int | None) -> np.ndarray:
    """Embeddings as a `[N, d]` float32 array of the caller's own or a copy.

    Raises:
      ValueError: Another rank, number of rows, width or dtype; NaN, infinity, or a
        vector that is too long.
    """
    matrix = checked_matrix("embeddings", embeddings, width)
    if len(matrix) != num_ids:
        raise ValueError(
            f"`embeddings` must have one row for each id ({num_ids}), received "
            f"{len(matrix)}."
        )
    return matrix


def checked_matrix(name: str, values: Any, width: int | None) -> np.ndarray:
    """A `[N, d]` float32 array of finite numbers.

    Raises:
      ValueError: as `checked_embeddings`.
    """
    try:
        matrix = np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be a matrix, received rows of different lengths. Pass one "
            "embedding a row."
        ) from error
    if matrix.ndim != 2 or not matrix.shape[1]:
        raise ValueError(
            f"`{name}` must have shape [items, width], received {list(matrix.shape)}. "
            "Pass one embedding a row."
        )
    if matrix.dtype.kind not in "fiu":
        # bfloat16 is no kind of NumPy's.
        if matrix.dtype.name != "bfloat16":
            raise ValueError(
                f"`{name}` must be floating-point numbers, received "
                f"{matrix.dtype.name}. Pass what the tower returns."
            )
    if width is not None and matrix.shape[1] != width:
        raise ValueError(
            f"`{name}` must be {width} wide like those of the index, received "
            f"{matrix.shape[1]}. Embed with the tower that the index was made with."
        )
    matrix = np.ascontiguousarray(matrix, np.float32)
    # float64, whose squares of float32 cannot overflow.
    norms = np.einsum("nd,nd->n", matrix, matrix, dtype=np.float64)
    bad = ~(norms <= _MAX_NORM**2)
    if bad.any():
        raise ValueError(
            f"`{name}` must be finite and at most {_MAX_NORM:g} long, received "
            f"{int(bad.sum())} rows that are not, the first in row "
            f"{int(bad.argmax())}. Leave them out, or find out why."
        )
    return matrix


def checked_column(name: str, values: Any, kind: str, num_ids: int) -> list[Any]:
    """The values of a column, made plain.

    Args:
      name: The argument and the column, for messages.
      values: One for each id.
      kind: Of the column: one of `PAYLOAD_KINDS` or `ATTRIBUTE_KINDS`.
      num_ids: How many ids there are.

    Returns:
      A list of str, int or float; None where a category is missing, NaN where a number
      or date is. Of a "set", sorted lists.

    Raises:
      ValueError: Another number of values, or values of another kind.
    """
    plain = plain_list(name, values)
    if len(plain) != num_ids:
        raise ValueError(
            f"`{name}` must have one value for each id ({num_ids}), received "
            f"{len(plain)}."
        )
    check, checked = _CHECKS[kind], []
    for each in plain:
        value = check(_text_of(each))
        if value is None and not (kind == "category" and each is None):
            raise ValueError(
                f"`{name}` is a column of kind {kind!r} and must hold "
                f"{_EXPECTED[kind]}, received {each!r}."
            )
        checked.append(value)
    return checked


def inferred_kind(name: str, values: Any, is_payload: bool) -> str:
    """The kind of a new column, by its first value that is there.

    Raises:
      ValueError: No value tells.
    """
    plain = plain_list(name, values)
    first = next((each for each in plain if each is not None), None)
    kind = _plain_kind(_text_of(first))
    if is_payload and kind in PAYLOAD_KINDS:
        if kind == "integer" and any(isinstance(each, float) for each in plain):
            return "float"
        return str(kind)
    if not is_payload:
        kinds = {"integer": "number", "float": "number", "string": "category"}
        kind = kinds.get(str(kind), kind)
        if kind in ATTRIBUTE_KINDS:
            return str(kind)
    known = PAYLOAD_KINDS if is_payload else ATTRIBUTE_KINDS
    raise ValueError(
        f"`{name}` must be of one of the kinds {', '.join(known)}, received {first!r}. "
        "Convert it, or name the kind in `kinds`."
    )


def _plain_kind(value: Any) -> str | None:
    if isinstance(value, bool):
        return None
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (int, "integer"),
        (float, "float"),
        (str, "string"),
        (datetime.date, "date"),
        ((list, tuple, set, frozenset, np.ndarray), "set"),
    )
    return next((kind for types, kind in kinds if isinstance(value, types)), None)


def _text_of(value: Any) -> Any:
    """Bytes, as tensors of strings hold them, as the text they are."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError(
            f"Texts must be UTF-8, received {value!r}. Decode them as what they are."
        ) from None


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _integer(value: Any) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if -_MAX_INTEGER <= value < _MAX_INTEGER else None


def _float(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _number(value: Any) -> float | None:
    if value is None:
        return math.nan
    if isinstance(value, int) and abs(value) > _MAX_EXACT:
        return None
    number = _float(value)
    return None if number is not None and math.isinf(number) else number


def _date(value: Any) -> float | None:
    if value is None:
        return math.nan
    try:
        return _number(seconds_of(value))
    except (ValueError, OverflowError):
        return None


def _set(value: Any) -> list[str] | None:
    if value is None:
        return []
    if not isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return None
    texts = [_text_of(each) for each in value]
    if not all(isinstance(text, str) for text in texts):
        return None
    return sorted({str(text) for text in texts})


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "integer": _integer,
    "float": _float,
    "string": _string,
    "category": _string,
    "number": _number,
    "date": _date,
    "set": _set,
}
_EXPECTED = {
    "integer": "integers of 64 bits",
    "float": "numbers",
    "string": "strings",
    "category": "strings, or None where it is missing",
    "number": "finite numbers that 64 bits of floating point hold exactly, or None "
    "where it is missing",
    "date": "dates, seconds since 1970 or texts of ISO 8601, or None where it is "
    "missing",
    "set": "lists or sets of strings",
}
