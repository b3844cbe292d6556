"""Turns raw columns into checked NumPy arrays."""

import datetime

import numpy as np

# Above it, a number of seconds is past the year 5000: milliseconds, most likely.
LATEST_TIME = 1e11


def ids(values, name, source):
    """A column of ids: int64, or strings.

    Args:
      values: NumPy array or pandas series.
      name: The column's name, for messages.
      source: Where it came from, for messages.

    Returns:
      int64 or "U" array.

    Raises:
      ValueError: Nulls, or values that are neither whole numbers nor strings.
    """
    array = _without_nulls(values, name, source)
    if array.dtype.kind in "iu":
        if array.dtype == np.uint64 and (array > np.iinfo(np.int64).max).any():
            raise ValueError(
                f"Ids in column {name!r} of {source} must fit into int64, received "
                f"{array.max()}. Write them as strings."
            )
        return array.astype(np.int64)
    try:
        strings = _as_strings(array)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Ids in column {name!r} of {source} must be UTF-8 text where they are "
            f"bytes, received {error.object[:20]!r}. Decode the column before, or "
            "name another one."
        ) from error
    if strings is None:
        kinds = [array.dtype.name]
        if array.dtype.kind == "O":
            kinds = sorted({type(value).__name__ for value in array})
        raise ValueError(
            f"Ids in column {name!r} of {source} must be whole numbers or strings, all "
            f"of one kind, received {' and '.join(kinds)}. Convert the column, or name "
            "another one."
        )
    return strings


def numbers(values, name, source):
    """A column of finite numbers, float64.

    Raises:
      ValueError: Nulls, or values that are not numbers.
    """
    array = _without_nulls(values, name, source)
    if array.dtype.kind not in "iufb":
        raise ValueError(
            f"Column {name!r} of {source} must hold numbers, received "
            f"{_example(array, float)}. Convert the column, or name another one."
        )
    return array.astype(np.float64)


def times(values, name, source):
    """A column of times, as seconds since 1970: int64, or float64 with fractions.

    Args:
      values: Numbers of seconds, dates, or strings in ISO form; dates without a time
        zone are UTC.
      name: The column's name, for messages.
      source: Where it came from, for messages.

    Raises:
      ValueError: Nulls; values that are neither; numbers that look like
        milliseconds.
    """
    array = _without_nulls(values, name, source)
    if array.dtype.kind in "iuf":
        latest = np.abs(array).max()
        if latest > LATEST_TIME:
            raise ValueError(
                f"Column {name!r} of {source} must hold seconds since 1970 or dates, "
                f"received {latest:.0f} (milliseconds?). Divide it by 1,000."
            )
        return array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
    try:
        return _seconds(array)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"Column {name!r} of {source} must hold seconds since 1970 or dates, "
            f"received {_example(array, _utc)}. Convert the column, or name another "
            "one."
        ) from error


def titles(values):
    """A column of titles: an array of `str`, "" where one is missing."""
    array = np.asarray(values, dtype=object)
    return np.array(["" if _is_null(t) else _text(t) for t in array], dtype=object)


def is_whole_numbers(strings):
    """Whether every string is how Python writes some int64."""
    try:
        return all(str(np.int64(s)) == s for s in set(strings))
    except (OverflowError, ValueError):
        return False


def _without_nulls(values, name, source):
    array = np.asarray(values)
    if array.dtype.kind == "f":
        nulls = ~np.isfinite(array)
    elif array.dtype.kind in "mM":
        nulls = np.isnat(array)
    elif array.dtype.kind == "O":
        nulls = np.array([_is_null(value) for value in array], dtype=bool)
    else:
        nulls = np.zeros(len(array), dtype=bool)
    if nulls.any():
        raise ValueError(
            f"Column {name!r} of {source} must have a value in every row, received "
            f"{nulls.sum()} nulls in {len(array)} rows. Fill them or drop those rows."
        )
    return array


def _is_null(value):
    if value is None:
        return True
    try:
        # NaN and NaT do not equal themselves; pandas's NA cannot tell.
        return not bool(value == value)
    except TypeError:
        return True


def _text(value):
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _as_strings(array):
    """The array as "U", or None if it holds something else than text."""
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8")
    if array.dtype.kind in "OT" and all(isinstance(v, str | bytes) for v in array):
        return np.array([_text(value) for value in array], dtype=str)
    return None


def _seconds(array):
    if array.dtype.kind == "M":
        moments = array
    else:
        moments = np.array([_utc(value) for value in array], "datetime64[us]")
    microseconds = moments.astype("datetime64[us]").astype(np.int64)
    if (microseconds % 1_000_000 == 0).all():
        return microseconds // 1_000_000
    return microseconds / 1e6


def _utc(value):
    """A date, datetime or ISO string as a naive datetime in UTC."""
    if isinstance(value, bytes | str):
        # Python 3.10 does not know the suffix Z.
        value = datetime.datetime.fromisoformat(_text(value).replace("Z", "+00:00"))
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime.combine(value, datetime.time())
    if value.tzinfo is not None:
        value = value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return value


def _example(array, convert):
    """The first value that cannot be converted, else the first."""
    for value in array:
        try:
            convert(value)
        except (TypeError, ValueError, OverflowError):
            break
    else:
        value = array[0]
    return repr(value.item() if hasattr(value, "item") else value)
