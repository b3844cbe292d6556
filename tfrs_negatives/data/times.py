"""Times: what a column's numbers or words stand for, as seconds since 1970."""

from __future__ import annotations

import dataclasses
import datetime

import numpy as np
import pyarrow as pa

from tfrs_negatives.data import arrow_columns

# Above it, a number of seconds is past the year 5000: another unit, most likely.
LATEST_TIME = 1e11
_UNITS = (
    (1e14, "milliseconds", "1,000"),
    (1e17, "microseconds", "1,000,000"),
    (np.inf, "nanoseconds", "1,000,000,000"),
)
# Dates written as one number, and the least and the greatest of each pair of digits.
_FORMS = ("YYYY", "YYYYMM", "YYYYMMDD", "YYYYMMDDHH", "YYYYMMDDHHMM", "YYYYMMDDHHMMSS")
_PAIRS = ((1, 12), (1, 31), (0, 23), (0, 59), (0, 59))
_YEARS = (1900, 2100)
# Of seconds, at most 12 in 100 look like such a date by chance.
_SHARE = 0.9


@dataclasses.dataclass(frozen=True)
class Form:
    """How times are written, as a column's first rows tell.

    Attributes:
      is_number: Whether as numbers; else as dates.
      digits: "YYYYMMDD" or another form of dates that are written as one number; None
        where numbers are seconds.
      example: Such a date.
    """

    is_number: bool
    digits: str | None = None
    example: float = 0


def form(column: pa.Array) -> Form | None:
    """How the times of a column's first rows are written.

    The first value tells numbers from dates; all of them tell seconds from dates that
    are written as one number, such as 20240131.

    Args:
      column: Plain Arrow array, as of `arrow_columns.plain`.

    Returns:
      `Form`, or None for a column of nulls or of a type that holds no times.
    """
    column = column.drop_null()
    kind = column.type
    if not len(column):
        return None
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return Form(False)
    if arrow_columns.is_text(kind):
        if arrow_columns.parsed(column[:1]) is None:
            return Form(False)
        column = arrow_columns.parsed(column)
        if column is None:  # Numbers, and what `seconds` will refuse.
            return Form(True)
    elif not arrow_columns.is_number(kind):
        return None
    values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    values = values[np.isfinite(values) & (values != 0)]  # 0 often stands for none.
    for written in _FORMS:
        matches = _is_written(values, written)
        if len(values) and matches.mean() >= _SHARE:
            return Form(True, written, values[matches][0])
    return Form(True)


def seconds(column: pa.Array, form: Form | None, name: str, source: str) -> np.ndarray:
    """A column of times as seconds since 1970.

    Args:
      column: Plain Arrow array without nulls: numbers of seconds, dates, or strings of
        either, all of one kind; dates without a time zone are UTC.
      form: What `form` says of the table's first rows.
      name: The column's name, for messages.
      source: Where it came from, for messages.

    Returns:
      int64, or float64 where there are fractions.

    Raises:
      ValueError: Values that are neither; numbers in another unit than seconds, or
        dates written as one number.
    """
    expected = f"Column {name!r} of {source} must hold seconds since 1970 or dates"
    if form is None or pa.types.is_boolean(column.type):
        raise ValueError(
            f"{expected}, received {column.type}. Convert the column, or name another "
            "one."
        )
    if form.digits:
        raise ValueError(
            f"{expected}, received {form.example:.0f}, a date written {form.digits}. "
            "Write days with hyphens, as 2024-01-31."
        )
    if form.is_number:
        alike = expected + ", all written alike"
        values = arrow_columns.numbers(column, name, source, alike)
        latest = np.abs(values).max(initial=0)
        if latest > LATEST_TIME:
            unit, factor = next((u, f) for bound, u, f in _UNITS if latest < bound)
            raise ValueError(
                f"{expected}, received {latest:.0f} ({unit}?). Divide it by {factor}."
            )
        whole = values.astype(np.int64)
        return whole if (whole == values).all() else values
    if arrow_columns.is_text(column.type):
        return _of_words(arrow_columns.text(column, name, source), expected)
    return _of_dates(column)


def _is_written(values: np.ndarray, written: str) -> np.ndarray:
    """Which numbers are dates of a form."""
    num_pairs = len(written) // 2 - 2
    matches = (values == np.floor(values)) & (np.abs(values) < 10 ** len(written))
    rest = np.where(matches, values, 0).astype(np.int64)
    for least, greatest in reversed(_PAIRS[:num_pairs]):
        pair, rest = rest % 100, rest // 100
        matches &= (pair >= least) & (pair <= greatest)
    return matches & (rest >= _YEARS[0]) & (rest <= _YEARS[1])


def _of_words(texts: arrow_columns.EncodedText, expected: str) -> np.ndarray:
    """Dates in ISO form; equal ones are read once."""
    moments = []
    for word in texts.values.to_pylist():
        try:
            moments.append(_utc(word))
        except (ValueError, OverflowError) as error:
            raise ValueError(
                f"{expected}, all written alike, received {word!r}. Convert the "
                "column, or name another one."
            ) from error
    microseconds = np.array(moments, "datetime64[us]").astype(np.int64)
    return _of_microseconds(microseconds)[texts.codes]


def _of_dates(column: pa.Array) -> np.ndarray:
    kind = column.type
    if pa.types.is_date32(kind):
        return column.cast(pa.int32()).to_numpy().astype(np.int64) * 86_400
    unit = "ms" if pa.types.is_date64(kind) else kind.unit
    values = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    if unit == "s":
        return values
    if unit == "ns":
        return _of_microseconds(values // 1_000)
    return _of_microseconds(values * (1_000 if unit == "ms" else 1))


def _of_microseconds(values: np.ndarray) -> np.ndarray:
    if (values % 1_000_000 == 0).all():
        return values // 1_000_000
    return values / 1e6


def _utc(word: str) -> datetime.datetime:
    """A string in ISO form as a naive datetime in UTC."""
    # Python 3.10 does not know the suffix Z.
    moment = datetime.datetime.fromisoformat(word.strip().replace("Z", "+00:00"))
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return moment
